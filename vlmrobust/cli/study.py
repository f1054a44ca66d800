"""Implement `vlmrobust study`: run the models × benchmarks × conditions × judges of a TOML file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .app import ExitCode, refusals
from .output import as_json, say, show, show_data

if TYPE_CHECKING:
    from ..study.counting import Rates

__all__ = ["study"]

_PLAN = "With --dry-run"


def study(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="STUDY.TOML", help="Definition of the study.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for runs, tables and pages; default: the file's. Repeat the call to resume."),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(help="Only these models, separated by commas; several machines may share a folder."),
    ] = None,
    benchmarks: Annotated[list[str] | None, typer.Option(help="Only these benchmarks, separated by commas.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Count prompts, tokens, operations and bytes without loading a checkpoint's weights."
        ),
    ] = False,
    at_most: Annotated[
        int,
        typer.Option(
            min=1, help="Maximum number of samples counted per benchmark, evenly spread.", rich_help_panel=_PLAN
        ),
    ] = 100,
    throughput: Annotated[
        float | None,
        typer.Option(metavar="TFLOP/S", help="Speed of your machine, to estimate the duration.", rich_help_panel=_PLAN),
    ] = None,
    bandwidth: Annotated[
        float | None,
        typer.Option(metavar="GB/S", help="Memory bandwidth; required with --throughput.", rich_help_panel=_PLAN),
    ] = None,
    json: options.Json = False,
) -> None:
    """Run a study: every model on every benchmark, judged, with tables and one page. Repeat the call to resume.

    A model, benchmark or judge that fails becomes a row with its error; the others finish, and the exit code is 1.
    The study runs the code that its file names as `factory`.
    """
    with refusals(context):
        from ..study import Study
        from ..study.outputs import kept_page

        part = Study.from_toml(path).only(options.listed(models), options.listed(benchmarks))
        if dry_run:
            plan = part.plan(_rates(throughput, bandwidth), at_most=at_most)
            show_data(as_json(plan.table)) if json else show(plan)
            return
        result = part.run(out, tell=say)
        show_data(as_json(result.runs)) if json else show(result)
    say(f"Tables and runs are in {result.out}")
    say(f"The page is {kept_page(result.out)}")
    if result.failed:
        say("Some runs or judges failed, or rows are errors; the page lists them, and the same call retries them.")
        raise typer.Exit(ExitCode.ERROR_ROWS)


def _rates(throughput: float | None, bandwidth: float | None) -> "Rates | None":
    from ..study.counting import Rates

    if throughput is None and bandwidth is None:
        return None
    if throughput is None or bandwidth is None:
        raise ValueError("expected --throughput and --bandwidth together, got one: the duration depends on both")
    return Rates(operations=throughput * 1e12, bytes=bandwidth * 1e9)
