"""A TOML file → the fields of a study: unknown keys are refused, paths start at the file."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ..naming import did_you_mean
from ..types import Style
from .entries import BenchmarkEntry, JudgeEntry, ModelEntry, Size, Stage

__all__ = ["read_study"]

_PARTS: dict[str, type[BaseModel]] = {"models": ModelEntry, "benchmarks": BenchmarkEntry, "judges": JudgeEntry}


def read_study(path: Path, study: type[BaseModel]) -> dict[str, Any]:
    """Return the fields of a study.

    Raises:
        ValueError: the file is no TOML, or a key is not known; the message has the nearest.
        OSError: it cannot be read.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: expected TOML: {error}") from error
    _check_keys(values, study, str(path))
    folder = path.absolute().parent
    for field, kind in _PARTS.items():
        entries = values.get(field, [])
        if not isinstance(entries, list):
            raise ValueError(f"{path}: expected {field!r} to be a list, such as [[{field}]], got {entries!r:.80}")
        for number, entry in enumerate(entries, start=1):
            if isinstance(entry, dict):
                where = f"{path}, {field} {entry.get('name') or number}"
                _check_keys(entry, kind, where)
                _check_parts(entry, where)
                _place(entry, folder)
    for name, size in values.get("sizes", {}).items():
        _check_keys(size, Size, f"{path}, sizes {name}")
    if isinstance(values.get("metrics"), list):
        values["metrics"] = [_placed(name, folder) if isinstance(name, str) else name for name in values["metrics"]]
    if "out" in values:
        values["out"] = str(folder / str(values["out"]))
    return values


def _check_parts(entry: Mapping[str, Any], where: str) -> None:
    for stage in entry.get("checkpoints", []):
        _check_keys(stage, Stage, f"{where}, checkpoints")
    if isinstance(entry.get("style"), dict):
        _check_keys(entry["style"], Style, f"{where}, style")


def _check_keys(values: Any, kind: type[BaseModel], where: str) -> None:
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected a table, got {values!r:.80}")
    known = kind.model_fields
    for key in [key for key in values if key not in known]:
        hint = did_you_mean(key, known) or f"known are {', '.join(known)}"
        raise ValueError(f"{where}: {key!r} is no key here; {hint}")


def _place(entry: dict[str, Any], folder: Path) -> None:
    """Make the relative paths of an entry start at the file; a name on the hub is no path."""
    for holder in (entry, *entry.get("checkpoints", [])):
        name = holder.get("checkpoint")
        if isinstance(name, str) and (name.startswith(".") or (folder / name).is_dir()):
            holder["checkpoint"] = str(folder / name)
    for field in ("source", "root"):
        if isinstance(entry.get(field), str):
            entry[field] = str(folder / entry[field])
    data = entry.get("data")
    if isinstance(data, str) and (data.startswith(".") or Path(data).suffix or (folder / data).exists()):
        entry["data"] = str(folder / data)
    if "factory" in entry:
        entry["factory"] = _placed(str(entry["factory"]), folder)


def _placed(name: str, folder: Path) -> str:
    """Make the path in `file.py:name` start at a folder; a module's name is no path."""
    module, colon, wanted = name.rpartition(":")
    return f"{folder / module}:{wanted}" if colon and module.endswith(".py") else name
