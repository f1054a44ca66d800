"""The options of a command as a TOML file: read before its flags, and written beside a run.

A key is a flag's name: `max-new-tokens` or `max_new_tokens`. Values take the same way as those of flags, so that a file
and a command line are checked alike.
"""

import tomllib
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from .. import __version__
from ..naming import did_you_mean
from ..secrecy import may_hold_a_secret, without_secrets

__all__ = ["options_of", "read_configuration", "write_configuration"]

_NOT_IN_A_FILE = ("config", "help")
_OF_ONE_CALL = ("config", "dry_run", "preview", "rate", "progress_every", "json", "html")


def read_configuration(context: typer.Context, path: Path | None) -> Path | None:
    """Let the options that no flag gives be those of a file.

    Raises:
        typer.BadParameter: there is no such file, it is no TOML, a key is no option, or a value is of another kind.
    """
    if path is None or context.resilient_parsing:  # completing a line
        return path
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"expected a TOML file at {path}: {error}") from error
    options = {_key(param): param for param in context.command.params if _key(param) not in _NOT_IN_A_FILE}
    given = {}
    for name, value in values.items():
        key = name.replace("-", "_")
        if key not in options:
            hint = did_you_mean(key, options) or f"known are {', '.join(sorted(options))}"
            raise typer.BadParameter(f"{path}: {name!r} is no option of {context.command.name}; {hint}")
        words = _words(value, many=bool(getattr(options[key], "multiple", False)))
        if words is None:
            is_quiet = may_hold_a_secret(name)
            got = f"{type(value).__name__}, which may hold a key" if is_quiet else repr(without_secrets(value))
            raise typer.BadParameter(f"{path}, {name!r}: expected a value as its flag takes it, got {got}")
        given[options[key].name] = words
    context.default_map = given
    return path


def _key(param: Any) -> str:
    """Return what an option is called in a file: its flag, or for a pair of flags the one that says yes."""
    return str(max(param.opts, key=len)).removeprefix("--").replace("-", "_")


def _words(value: Any, *, many: bool) -> Any:
    """Return a value as words of a command line, None if it has no such form: so `4.5` is no whole number there."""
    if many:
        words = [_words(part, many=False) for part in (value if isinstance(value, list) else [value])]
        return None if None in words else words
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else None


def options_of(context: typer.Context) -> dict[str, Any]:
    """Return what a call was made with, as TOML values, defaults included; what is of this call alone is left out."""
    values = {_key(param): context.params.get(param.name or "") for param in context.command.params}
    return {
        key: _toml(value)
        for key, value in values.items()
        if key not in (*_OF_ONE_CALL, *_NOT_IN_A_FILE) and value is not None and value != ()
    }


def _toml(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_toml(part) for part in value]
    if isinstance(value, Enum):
        return value.value
    return value if isinstance(value, bool | int | float) else str(value)


def write_configuration(path: Path, command: str, options: Mapping[str, Any]) -> None:
    """Write options as a file that `--config` reads, without what is secret in them.

    Args:
        path: the file.
        command: what they are options of.
        options: their values.
    """
    import tomli_w

    from ..jsonl import write_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"# vlmrobust {__version__}: vlmrobust {command} --config {path}\n"
    told = without_secrets(options)
    if told.get("base_url") != options.get("base_url"):
        head += "# The key in the server's address is not written: give --base-url beside this file.\n"
    write_atomically(path, head + tomli_w.dumps(told))
