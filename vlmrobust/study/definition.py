"""Validate a study as a whole (`StudyDefinition`), and read it from a TOML file; its parts are in `entries`.

A file must not have unknown keys; relative paths in it start at the file.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from ..metrics.catalogue import metrics_named
from ..naming import did_you_mean
from ..perturbations import paper_conditions
from ..perturbations.catalogue import parts_of
from ..perturbations.wordings import Distractor
from ..types import Style
from ..types.frozen import Frozen
from .entries import BenchmarkEntry, JudgeEntry, ModelEntry, Size, Stage

__all__ = ["StudyDefinition", "read_study"]

_PAPER_CONDITIONS = tuple(condition.condition for condition in paper_conditions())


class StudyDefinition(Frozen):
    """The fields of a `Study`, which documents them.

    Raises:
        pydantic.ValidationError: an entry is invalid; the message names it and the field.
    """

    models: Annotated[tuple[ModelEntry, ...], Field(min_length=1)]
    benchmarks: Annotated[tuple[BenchmarkEntry, ...], Field(min_length=1)]
    conditions: tuple[str, ...] = _PAPER_CONDITIONS
    judges: tuple[JudgeEntry, ...] = (JudgeEntry(name="rules"),)
    metrics: tuple[str, ...] = ()
    draws: Annotated[int, Field(ge=1)] = 1
    seed: int = 0
    distractor: Distractor = "random"
    batch_size: Annotated[int, Field(ge=1)] = 8
    strict: bool = False
    sizes: Mapping[str, Size] = Field(default_factory=dict)
    out: Path | None = None

    @field_validator("judges", mode="before")
    @classmethod
    def _judges_by_name(cls, judges: Any) -> Any:
        return [{"name": judge} if isinstance(judge, str) else judge for judge in judges]

    @field_validator("conditions")
    @classmethod
    def _conditions_are_known(cls, conditions: tuple[str, ...]) -> tuple[str, ...]:
        parts_of(conditions)
        return conditions if "base" in conditions else ("base", *conditions)

    @field_validator("metrics")
    @classmethod
    def _metrics_are_known(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        metrics_named(metrics)
        return metrics

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        for field in ("models", "benchmarks", "judges"):
            names = [entry.name for entry in getattr(self, field)]
            if len({name.lower() for name in names}) < len(names):
                raise ValueError(f"field {field!r}: expected distinct names, got {names}")
        sizes = {entry.name: entry.size for entry in self.models} | {entry.name: entry.size for entry in self.judges}
        for name, size in sizes.items():
            if size is not None and size not in self.sizes:
                known = ", ".join(self.sizes) or "none"
                raise ValueError(f"{name!r}, field 'size': expected one of 'sizes' ({known}), got {size!r}")
        greedy = [model.name for model in self.models if not (model.factory or _samples(model))]
        if self.draws > 1 and greedy:
            raise ValueError(
                f"field 'draws': expected models that sample, got {', '.join(greedy)} with greedy decoding, where all "
                "draws are the same (set do_sample = true in generation, or a server's temperature)"
            )
        return self


def _samples(model: ModelEntry) -> bool:
    if model.is_served:
        return model.generation.get("temperature", 0) not in (0, 0.0)
    return bool(model.generation.get("do_sample"))


_PARTS: dict[str, type[BaseModel]] = {"models": ModelEntry, "benchmarks": BenchmarkEntry, "judges": JudgeEntry}


def read_study(path: Path, study: type[BaseModel]) -> dict[str, Any]:
    """Read the fields of a study from a TOML file.

    Raises:
        ValueError: the file is not TOML, or a key is unknown; the message suggests the nearest.
        OSError: it cannot be read.
    """
    if path.is_dir() or not path.exists():
        files = [file.name for file in path.parent.glob("*.toml")]
        found = "a folder" if path.is_dir() else "nothing"
        hint = did_you_mean(path.name, files) or "give the path of its TOML file"
        raise FileNotFoundError(f"expected a study at {path}, found {found}; {hint}")
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
                _resolve_paths(entry, folder)
    for name, size in values.get("sizes", {}).items():
        _check_keys(size, Size, f"{path}, sizes {name}")
    for field in ("metrics", "conditions"):
        if isinstance(values.get(field), list):
            names = values[field]
            values[field] = [_resolved_parts(name, folder) if isinstance(name, str) else name for name in names]
    if "out" in values:
        values["out"] = str(folder / str(values["out"]))
    return values


def _resolved_parts(name: str, folder: Path) -> str:
    return "+".join(_resolved(part.strip(), folder) for part in name.split("+"))


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
        raise ValueError(f"{where}: {key!r} is not a key here; {hint}")


def _resolve_paths(entry: dict[str, Any], folder: Path) -> None:
    """Resolve the relative paths of an entry against the file's folder; hub names stay."""
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
        entry["factory"] = _resolved(str(entry["factory"]), folder)


def _resolved(name: str, folder: Path) -> str:
    """Resolve the path in `file.py:name` against a folder; module names stay."""
    module, colon, wanted = name.rpartition(":")
    return f"{folder / module}:{wanted}" if colon and module.endswith(".py") else name
