"""Define what all commands share: the application, exit codes, error messages, options in TOML files, last lines.

The keys of a TOML file are the names of flags: `max-new-tokens` or `max_new_tokens`. Values pass the same checks as
those on the command line.
"""

import logging
import os
import tomllib
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum, IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from .. import __version__
from ..locking import DirectoryInUseError
from ..naming import did_you_mean
from ..secrecy import Secrets, error_message, error_text, may_hold_a_secret, variable_shown, without_secrets
from ..text import printable, wrapped
from .output import is_first_process, say

if TYPE_CHECKING:
    from ..report import Report

__all__ = ["ExitCode", "app", "finish", "main", "options_of", "read_configuration", "refusals", "write_configuration"]


class ExitCode(IntEnum):
    """Exit codes of the commands.

    Attributes:
        FINISHED: success.
        ERROR_ROWS: finished, but some rows are errors (a bad image, a failed call); the report lists them.
        REFUSED: wrong usage, invalid input, or a failure; there is an error message and no report.
        GATE_FAILED: `compare` finished and a gate failed; `check-server` finished and the server changes the
            experiment.
        CANNOT_TELL: `compare` finished, but a gate cannot be decided: too few samples or groups, or nothing to compare.
        INTERRUPTED: stopped by Ctrl-C; the responses so far are saved.

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


class _Commands(TyperGroup):
    """The group of all commands: accepts `--debug` after the command too, and words refused values like the library."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move `--debug` to the front; after `--` it is an ordinary argument."""
        end = args.index("--") if "--" in args else len(args)
        others = [word for place, word in enumerate(args) if word != "--debug" or place > end]
        return super().parse_args(ctx, ["--debug", *others] if len(others) < len(args) else args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = _refused_value(error) or error.message
            raise


def _refused_value(error: typer.BadParameter) -> str | None:
    """Return what was expected and what came instead, if pydantic rejected the value of an option."""
    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return None
    [problem, *_] = cause.errors()
    context = problem.get("ctx", {})
    expected = {
        "greater_than_equal": f"a number of at least {context.get('ge')}",
        "int_parsing": "a whole number",
        "float_parsing": "a number",
    }.get(problem["type"])
    if problem["type"] == "value_error":
        return str(problem["msg"]).removeprefix("Value error, ")
    return f"expected {expected}, got {problem['input']!r}" if expected else None


app = typer.Typer(
    name="vlmrobust",
    cls=_Commands,
    help="Does a vision-language model still look at the image, and does its answer follow from its chain of thought?",
    epilog=(
        "Exit codes: 0 finished; 1 finished, but some rows are errors; 2 wrong usage or invalid input; 3 a gate of "
        "compare failed, or a server changes the experiment; 4 a gate cannot be decided; 130 interrupted."
    ),
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line."""
    app()


def _show_version(is_given: bool) -> None:
    if is_given:
        typer.echo(f"vlmrobust {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    context.obj = debug


@contextmanager
def refusals(context: typer.Context) -> Iterator[None]:
    """Print invalid input, failures and Ctrl-C as a message instead of a traceback, and exit with their code."""
    secrets = _secrets_of(context.params)
    try:
        with secrets.held(), _warnings_printed():
            yield
    except KeyboardInterrupt as stop:
        say(" ".join(("Interrupted.", *map(str, stop.args))))
        raise typer.Exit(ExitCode.INTERRUPTED) from stop
    except BrokenPipeError:  # the reader of the output has closed it
        raise
    except Exception as error:
        text = "".join(traceback.format_exception(error)) if context.obj else f"Error: {_message(error)}"
        text = printable(secrets.hidden(text))
        typer.echo(text if context.obj else wrapped(text), err=True)
        raise typer.Exit(ExitCode.REFUSED) from error


class _LogPrinter(logging.Handler):
    """Print log records of every process, wrapped to the width of the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(wrapped(printable(f"{record.levelname.capitalize()}: {self.format(record)}")), err=True)


@contextmanager
def _warnings_printed() -> Iterator[None]:
    """Print logged warnings unless the application has handlers of its own."""
    root = logging.getLogger()
    if root.handlers:
        yield
        return
    printer = _LogPrinter(logging.WARNING)
    root.addHandler(printer)
    try:
        yield
    finally:
        root.removeHandler(printer)


def _message(error: Exception) -> str:
    if not isinstance(error, ValueError | LookupError | OSError | ImportError | DirectoryInUseError):
        from ..models.base import RefusedError  # imports torch

        if not isinstance(error, RefusedError):
            return f"{error_text(error)} (vlmrobust --debug … shows the traceback)"
    return error_message(error)


def _secrets_of(options: Mapping[str, Any]) -> Secrets:
    """Return the secrets in a command's options: the server's key and any in its address."""
    variable = options.get("api_key_env") or "OPENAI_API_KEY"
    mistaken = None if variable in os.environ or variable_shown(variable) == repr(variable) else variable
    return Secrets.of(os.environ.get(variable), mistaken, settings=[options.get("base_url")])


def finish(*reports: "Report", responses: Path | None = None, page: Path | None = None, problems: int = 0) -> None:
    """Print where the files are and how many rows are errors.

    Args:
        *reports: the reports that the command has shown.
        responses: the run directory.
        page: the HTML page of the report.
        problems: number of problems in the data.

    Raises:
        typer.Exit: some rows are errors.
    """
    if not is_first_process():
        return
    if responses is not None:
        from ..report.files import last_report_file, report_file

        kept = last_report_file(responses)
        say(
            f"Responses and report are in {responses}"
            if kept == report_file(responses)
            else f"Responses are in {responses}, and the report of this call is {kept}"
        )
    if page is not None:
        say(f"The page is {page}")
    errors = sum(int(report.responses.has_status("error").sum()) for report in reports)
    if errors or problems:
        say(f"Error rows: {errors}; problems in the data: {problems}. The numbers above leave them out.")
        raise typer.Exit(ExitCode.ERROR_ROWS)


_NOT_IN_A_FILE = ("config", "help")
_NOT_RECORDED = ("config", "dry_run", "preview", "rate", "progress_every", "json", "html")


def read_configuration(context: typer.Context, path: Path | None) -> Path | None:
    """Take options without a flag on the command line from a TOML file.

    Raises:
        typer.BadParameter: there is no such file, it is not TOML, a key is not an option, or a value has the wrong
            type.
    """
    if path is None or context.resilient_parsing:  # during completion
        return path
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"expected a TOML file at {path}: {error}") from error
    options = {_key(param): param for param in context.command.params if _key(param) not in _NOT_IN_A_FILE}
    defaults = {}
    for name, value in values.items():
        key = name.replace("-", "_")
        if key not in options:
            hint = did_you_mean(key, options) or f"known are {', '.join(sorted(options))}"
            raise typer.BadParameter(f"{path}: {name!r} is not an option of {context.command.name}; {hint}")
        words = _words(value, many=bool(getattr(options[key], "multiple", False)))
        if words is None:
            is_hidden = may_hold_a_secret(name)
            got = f"{type(value).__name__}, which may hold a key" if is_hidden else repr(without_secrets(value))
            raise typer.BadParameter(f"{path}, {name!r}: expected a value that its flag accepts, got {got}")
        defaults[options[key].name] = words
    context.default_map = defaults
    return path


def _key(param: Any) -> str:
    """Return an option's key in a file: its flag, for a pair of flags the affirmative one."""
    return str(max(param.opts, key=len)).removeprefix("--").replace("-", "_")


def _words(value: Any, *, many: bool) -> Any:
    """Return a value as strings to be parsed like a flag's (`4.5` is not a whole number); None = not possible."""
    if many:
        words = [_words(part, many=False) for part in (value if isinstance(value, list) else [value])]
        return None if None in words else words
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else None


def options_of(context: typer.Context) -> dict[str, Any]:
    """Return the options of a call as TOML values, defaults included, without those that only concern its output."""
    values = {_key(param): context.params.get(param.name or "") for param in context.command.params}
    return {
        key: _toml(value)
        for key, value in values.items()
        if key not in (*_NOT_RECORDED, *_NOT_IN_A_FILE) and value is not None and value != ()
    }


def _toml(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_toml(part) for part in value]
    if isinstance(value, Enum):
        return value.value
    return value if isinstance(value, bool | int | float) else str(value)


def write_configuration(path: Path, command: str, options: Mapping[str, Any]) -> None:
    """Write options to a file that `--config` reads, without secrets.

    Args:
        path: the file.
        command: the command.
        options: the values of its options.
    """
    import tomli_w

    from ..jsonl import write_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"# vlmrobust {__version__}: vlmrobust {command} --config {path}\n"
    written = without_secrets(options)
    if written.get("base_url") != options.get("base_url"):
        head += "# The key in the server's address is not written: give --base-url as well as this file.\n"
    write_atomically(path, head + tomli_w.dumps(written))
