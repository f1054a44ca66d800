"""`vlmrobust compare`: two models or checkpoints on the same samples, and gates for continuous integration."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .app import ExitCode, refusals
from .finishing import finish
from .output import say, show_rows
from .report import ReportPath, one_format

if TYPE_CHECKING:
    from ..report import Report

__all__ = ["compare"]

_GATES = "Gates: exit code 3 if one fails, 4 if one cannot tell"


def compare(
    context: typer.Context,
    path: ReportPath,
    other: Annotated[
        Path, typer.Argument(help="What it is compared with, such as the checkpoint before.", show_default=False)
    ],
    conditions: Annotated[
        list[str] | None,
        typer.Option(help="Only these, separated by commas.", autocompletion=options.complete_conditions),
    ] = None,
    metrics: options.Metrics = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page of all answers that one has right and the other wrong."),
    ] = None,
    data: options.ImagesFrom = None,
    csv: options.Csv = False,
    json: options.Json = False,
    fail_if_worse: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC",
            help="Fail if a change for the worse is shown under any condition (adjusted for their number).",
            autocompletion=options.complete_metrics,
            rich_help_panel=_GATES,
        ),
    ] = None,
    max_drop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=AMOUNT",
            help="Fail unless a change for the worse by more than this is ruled out under every condition.",
            rich_help_panel=_GATES,
        ),
    ] = None,
) -> None:
    """Compare two runs on the samples that both have: differences are the first minus the other, paired by sample."""
    with refusals(context):
        from ..report import Report
        from .gates import gates_of, outcomes
        from .images import samples_for_images
        from .measuring import with_metrics

        one_format(csv=csv, json=json)
        if data is not None and html is None:
            raise ValueError("--data: expected --html beside it, whose page shows the images")
        gates = gates_of(fail_if_worse, max_drop)
        wanted = [*(named := options.listed(metrics)), *(gate.metric for gate in gates)]
        this, needed = with_metrics(Report.load(path), wanted)
        that, _ = with_metrics(Report.load(other), wanted)
        names = needed[: len(named)]
        gates = [replace(gate, metric=column) for gate, column in zip(gates, needed[len(named) :], strict=True)]
        table = this.compare(that)
        _check_judges(this, that, needed if names else this.metrics)
        if chosen := options.listed(conditions):
            _check_conditions(chosen, this)
            table = table[table["condition"].isin(chosen)]
        found = outcomes(gates, table, this) if gates else []
        show_rows(table, names, csv=csv, json=json, judge=this.judge, reference="other")
        if html is not None:
            calls = (path.stem, other.stem) if path.stem != other.stem else (str(path), str(other))
            this.side_by_side(that, html, names=calls, samples=samples_for_images(path, data))
            say(f"The page is {html}")
    for outcome in found:
        say(f"{outcome.verdict}  {outcome.text}")
    verdicts = {outcome.verdict for outcome in found}
    if "FAILED" in verdicts:
        raise typer.Exit(ExitCode.GATE_FAILED)
    if "cannot tell" in verdicts:
        raise typer.Exit(ExitCode.CANNOT_TELL)
    finish(this, that)


def _check_conditions(names: Collection[str], report: "Report") -> None:
    for name in names:
        if name not in report.conditions:
            raise ValueError(f"expected one of the conditions {', '.join(report.conditions)}; got {name!r}")


def _check_judges(this: "Report", that: "Report", metrics: Collection[str]) -> None:
    """Refuse to compare what different judges have said; files of a run name a judge if it is not the default one."""
    from ..judges.measured import title_of
    from .judging import JUDGED

    here, there = this.judge, that.judge
    if here != there and any(metric in JUDGED for metric in metrics):
        raise ValueError(
            f"expected thoughts judged by one judge, got {title_of(here)} here and {title_of(there)} in the other; "
            "judge one of them again, or leave consistency out: --metrics accuracy,…"
        )
