"""Share between commands the application, its exit codes, how errors are shown and how TOML files are read.

A key of a TOML file is a flag's name: `max-new-tokens` or `max_new_tokens`. Its value goes through the same checks as a
flag's.
"""

import logging
import os
import tomllib
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__
from ..locking import DirectoryInUseError
from ..models.base import RefusedError
from ..naming import did_you_mean
from ..secrecy import Secrets, error_message, error_text, may_hold_a_secret, variable_shown, without_secrets
from ..text import printable, wrapped
from .output import say

__all__ = ["ExitCode", "app", "main", "options_of", "read_configuration", "refusals", "write_configuration"]


class ExitCode(IntEnum):
    """What a script can tell from a command's exit code.

    Attributes:
        FINISHED: all is well.
        ERROR_ROWS: it finished, but some rows are errors (a bad image, a failed call); the report lists them.
        REFUSED: wrong usage, refused input, or a failure; there is a message, and no report.
        GATE_FAILED: `compare` finished, and a difference is not what was asked for; `check-server` finished, and
            something of the server changes the experiment.
        CANNOT_TELL: `compare` finished, and for a gate there are too few samples, or groups of them, to tell.
        INTERRUPTED: by Ctrl-C; what was answered is kept.

    Example:
        >>> int(ExitCode.GATE_FAILED)
        3
    """

    FINISHED = 0
    ERROR_ROWS = 1
    REFUSED = 2
    GATE_FAILED = 3
    CANNOT_TELL = 4
    INTERRUPTED = 130


_EXPECTED = (ValueError, LookupError, OSError, ImportError, RefusedError, DirectoryInUseError)


class _DebugAnywhere(TyperGroup):
    """Takes `--debug` behind a command as well, where one adds it to a line that has failed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Bring the flag to the front; what stands behind `--` is no flag."""
        end = args.index("--") if "--" in args else len(args)
        others = [word for place, word in enumerate(args) if word != "--debug" or place > end]
        return super().parse_args(ctx, ["--debug", *others] if len(others) < len(args) else args)


app = typer.Typer(
    name="vlmrobust",
    cls=_DebugAnywhere,
    help="Does a vision-language model still look at the image, and does its answer follow from its chain of thought?",
    epilog=(
        "Exit codes: 0 finished; 1 finished, but some rows are errors; 2 wrong usage, or input that was refused; "
        "3 a gate of compare failed, or a server changes the experiment; 4 a gate cannot tell; 130 interrupted."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line."""
    app()


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"vlmrobust {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    context.obj = debug


@contextmanager
def refusals(context: typer.Context) -> Iterator[None]:
    """Show refused input, failures and Ctrl-C as a message instead of a traceback, and exit with their code."""
    secrets = _secrets_of(context.params)
    try:
        with secrets.held(), _warnings_told():
            yield
    except KeyboardInterrupt as stop:
        say(" ".join(("Interrupted.", *map(str, stop.args))))
        raise typer.Exit(ExitCode.INTERRUPTED) from stop
    except BrokenPipeError:  # what reads the output has seen enough
        raise
    except Exception as error:
        told = "".join(traceback.format_exception(error)) if context.obj else f"Error: {_message(error)}"
        told = printable(secrets.hidden(told))
        typer.echo(told if context.obj else wrapped(told), err=True)
        raise typer.Exit(ExitCode.REFUSED) from error


class _Told(logging.Handler):
    """Prints what is logged, by every process, in lines that fit."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(wrapped(printable(f"{record.levelname.capitalize()}: {self.format(record)}")), err=True)


@contextmanager
def _warnings_told() -> Iterator[None]:
    """Print warnings of the log where nobody else handles them."""
    root = logging.getLogger()
    if root.handlers:
        yield
        return
    told = _Told(logging.WARNING)
    root.addHandler(told)
    try:
        yield
    finally:
        root.removeHandler(told)


def _message(error: Exception) -> str:
    if not isinstance(error, _EXPECTED):
        return f"{error_text(error)} (vlmrobust --debug … shows where it comes from)"
    return error_message(error)


def _secrets_of(given: Mapping[str, Any]) -> Secrets:
    """Return what is secret of a call: its server's key, and what stands in the address."""
    variable = given.get("api_key_env") or "OPENAI_API_KEY"
    mistaken = None if variable in os.environ or variable_shown(variable) == repr(variable) else variable
    return Secrets.of(os.environ.get(variable), mistaken, settings=[given.get("base_url")])


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
