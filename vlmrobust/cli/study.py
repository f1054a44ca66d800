"""`vlmrobust study`: models × benchmarks × conditions × judges, as a file says it."""

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
    path: Annotated[Path, typer.Argument(metavar="STUDY.TOML", help="What is asked.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="Folder of runs, tables and pages; default: the file's. The same call resumes.")
    ] = None,
    models: Annotated[
        list[str] | None, typer.Option(help="Only these, separated by commas: several machines may share a folder.")
    ] = None,
    benchmarks: Annotated[list[str] | None, typer.Option(help="Only these, separated by commas.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Count prompts, tokens, operations and bytes, and load no checkpoint's weights."
        ),
    ] = False,
    at_most: Annotated[
        int,
        typer.Option(min=1, help="Samples of a benchmark that are counted, evenly spread.", rich_help_panel=_PLAN),
    ] = 100,
    throughput: Annotated[
        float | None,
        typer.Option(
            metavar="TFLOP/S", help="What your machine does, for the time that it takes.", rich_help_panel=_PLAN
        ),
    ] = None,
    bandwidth: Annotated[
        float | None,
        typer.Option(metavar="GB/S", help="How fast it reads weights; needed with it.", rich_help_panel=_PLAN),
    ] = None,
    json: options.Json = False,
) -> None:
    """Run a whole study, resumably: every model on every benchmark, judged, with tables and one page of all of it.

    A model, benchmark or judge that fails is a row with its error; the others finish, and the exit code is 1. What
    stands in the file as `factory` is code that is run.
    """
    with refusals(context):
        from ..study import Study
        from ..study.outputs import kept_page

        asked = Study.from_toml(path).only(options.listed(models), options.listed(benchmarks))
        if dry_run:
            plan = asked.plan(_rates(throughput, bandwidth), at_most=at_most)
            show_data(as_json(plan.table)) if json else show(plan)
            return
        result = asked.run(out, tell=say)
        show_data(as_json(result.runs)) if json else show(result)
    say(f"Tables and runs are in {result.out}")
    say(f"The page is {kept_page(result.out)}")
    if result.failed:
        say("Some of it failed, or rows are errors; the page lists them, and the same call tries them again.")
        raise typer.Exit(ExitCode.ERROR_ROWS)


def _rates(throughput: float | None, bandwidth: float | None) -> "Rates | None":
    from ..study.counting import Rates

    if throughput is None and bandwidth is None:
        return None
    if throughput is None or bandwidth is None:
        raise ValueError("expected --throughput and --bandwidth together, got one: decoding is bound by the other")
    return Rates(operations=throughput * 1e12, bytes=bandwidth * 1e9)
