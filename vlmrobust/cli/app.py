"""What all commands share: the application, its exit codes, and how an error is shown."""

import logging
import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__
from ..locking import DirectoryInUseError
from ..models.base import RefusedError
from ..secrecy import Secrets, error_message, error_text, variable_shown
from ..text import printable, wrapped
from .output import say

__all__ = ["ExitCode", "app", "main", "refusals"]


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
