"""Implement `vlmrobust compare`: compare two runs on the same samples, with gates for continuous integration.

A gate asks one of two questions. *Is it certainly worse?* `--fail-if-worse` fails on a significant change for the
worse: with fewer samples it detects less. *Is it certainly not worse?* `--max-drop` fails unless the 95 % interval
excludes a drop larger than allowed: with fewer samples it passes less.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..naming import unknown_name
from . import options
from .app import ExitCode, finish, refusals
from .difference_table import show_rows
from .options import listed, pairs
from .output import rows_of, say
from .report import ReportPath

if TYPE_CHECKING:
    import pandas as pd

    from ..report import Report

__all__ = ["LEVEL", "Gate", "GateOutcome", "compare", "gates_of", "outcomes"]


_GATES = "Gates: exit code 3 if one fails, 4 if one cannot tell"


def compare(
    context: typer.Context,
    path: ReportPath,
    other: Annotated[
        Path, typer.Argument(help="Run or report to compare it with, such as an earlier one.", show_default=False)
    ],
    conditions: Annotated[
        list[str] | None,
        typer.Option(help="Only these conditions, separated by commas.", autocompletion=options.complete_conditions),
    ] = None,
    metrics: options.Metrics = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page of all answers that only one of them has right."),
    ] = None,
    data: options.ImagesFrom = None,
    csv: options.Csv = False,
    json: options.Json = False,
    fail_if_worse: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC",
            help="Fail on a significant change for the worse under any condition (adjusted for their number).",
            autocompletion=options.complete_metrics,
            rich_help_panel=_GATES,
        ),
    ] = None,
    max_drop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=AMOUNT",
            help="Fail unless the interval excludes a larger change for the worse under every condition.",
            rich_help_panel=_GATES,
        ),
    ] = None,
) -> None:
    """Compare two runs on the samples that both have: differences are the first minus the other, paired by sample."""
    with refusals(context):
        from .construction import with_metrics
        from .report import check_conditions, check_formats, load_report, samples_for_images

        check_formats(csv=csv, json=json)
        if data is not None and html is None:
            raise ValueError("--data: expected --html with it, whose page shows the images")
        gates = gates_of(fail_if_worse, max_drop)
        wanted = [*(named := options.listed(metrics)), *(gate.metric for gate in gates)]
        this, needed = with_metrics(load_report(path), wanted)
        that, _ = with_metrics(load_report(other), wanted)
        names = needed[: len(named)]
        columns = zip(gates, needed[len(named) :], strict=True)
        gates = list(dict.fromkeys(replace(gate, metric=column) for gate, column in columns))
        table = this.compare(that)
        _check_judges(this, that, needed if names else this.metrics)
        if chosen := options.listed(conditions):
            check_conditions("--conditions", chosen, this)
            table = table[table["condition"].isin(chosen)]
        results = outcomes(gates, table, this) if gates else []
        show_rows(table, names, csv=csv, json=json, judge=this.judge, reference="other")
        if html is not None:
            titles = (path.stem, other.stem) if path.stem != other.stem else (str(path), str(other))
            this.side_by_side(that, html, names=titles, samples=samples_for_images(path, data))
            say(f"The page is {html}")
    for outcome in results:
        say(f"{outcome.verdict}  {outcome.text}")
    verdicts = {outcome.verdict for outcome in results}
    if "FAILED" in verdicts:
        raise typer.Exit(ExitCode.GATE_FAILED)
    if "cannot tell" in verdicts:
        raise typer.Exit(ExitCode.CANNOT_TELL)
    finish(this, that)


def _check_judges(this: "Report", that: "Report", metrics: Collection[str]) -> None:
    """Refuse to compare the verdicts of different judges."""
    from ..catalogue import JUDGED_METRICS
    from ..judges.base import title_of

    here, there = this.judge, that.judge
    if here != there and any(metric in JUDGED_METRICS for metric in metrics):
        raise ValueError(
            f"expected reports by the same judge, got {title_of(here)} and {title_of(there)}; judge one of them again, "
            "or leave consistency out: --metrics accuracy,…"
        )


LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Gate:
    """A requirement on one metric under every condition.

    Attributes:
        metric: its name.
        max_drop: the largest allowed change for the worse: the interval must exclude a larger one; None = there must
            be no significant change for the worse.
    """

    metric: str
    max_drop: float | None = None

    @classmethod
    def allowing(cls, metric: str, amount: str) -> "Gate":
        """Parse the allowed drop of a gate.

        Raises:
            ValueError: the amount is not a number of at least 0.
        """
        try:
            max_drop = float(amount)
        except ValueError:
            max_drop = math.nan
        if not 0 <= max_drop < math.inf:
            raise ValueError(f"--max-drop {metric}: expected a number of at least 0, got {amount!r}")
        return cls(metric, max_drop)


def gates_of(fail_if_worse: Sequence[str] | None, max_drop: Sequence[str] | None) -> list[Gate]:
    """Return the gates of the flags `--fail-if-worse` and `--max-drop`.

    Raises:
        ValueError: a drop is not `metric=amount`.
    """
    drops = pairs("--max-drop", "metric=amount", max_drop)
    return [*map(Gate, listed(fail_if_worse)), *(Gate.allowing(*drop) for drop in drops.items())]


@dataclass(frozen=True, slots=True)
class GateOutcome:
    """The outcome of one gate under one condition.

    Attributes:
        verdict: "passed", "FAILED", or "cannot tell": there are too few samples, or groups of samples, for an interval.
        text: the numbers behind it.
    """

    verdict: Literal["passed", "FAILED", "cannot tell"]
    text: str


def outcomes(gates: Sequence[Gate], table: "pd.DataFrame", report: "Report") -> list[GateOutcome]:
    """Return the outcome of each gate under each condition.

    The p-values of all gates without `max_drop` are adjusted together (Holm), so that the probability of a false alarm
    is below `LEVEL` for any number of conditions and metrics. Gates with `max_drop` need no adjustment, since all of
    them have to pass.

    Args:
        gates: at least one.
        table: the table of `Report.compare`.
        report: the report under test.

    Raises:
        ValueError: a metric is not in the report, or neither higher nor lower values of it are better.
    """
    from ..functional.closed_form import holm

    cases = [(gate, _direction_of(report, gate.metric), row) for gate in gates for row in _rows(gate, table, report)]
    adjusted = holm([row["p"] if gate.max_drop is None else math.nan for gate, _, row in cases])
    return [_outcome(gate, sign, row, float(p)) for (gate, sign, row), p in zip(cases, adjusted, strict=True)]


def _rows(gate: Gate, table: "pd.DataFrame", report: "Report") -> Iterator[dict[str, Any]]:
    is_paired = any(column.name == gate.metric and column.is_paired for column in report._columns)
    for row in rows_of(table[table["metric"] == gate.metric]):
        if not (row["condition"] == "base" and is_paired):  # a paired metric is undefined under base itself
            yield row


def _direction_of(report: "Report", metric: str) -> int:
    """Return 1 for a metric where higher is better, -1 for one where lower is; refuse others."""
    directions = {column.name: column.higher_is_better for column in report._columns}
    if metric not in directions:
        raise ValueError(f"expected a metric of the report, {unknown_name(metric, directions)}")
    higher_is_better = directions[metric]
    if higher_is_better is None:
        raise ValueError(f"metric {metric!r}: expected one where higher or lower is better, got one with no direction")
    return 1 if higher_is_better else -1


def _outcome(gate: Gate, sign: int, row: dict[str, Any], p: float) -> GateOutcome:
    from ..report.summary import EQUAL_DIFFERENCES

    where = f"{gate.metric} under {row['condition']}"
    if row["difference"] == 0 and row["note"].endswith(EQUAL_DIFFERENCES):
        return GateOutcome("passed", f"{where}: the same for every one of {row['n']} samples")
    if math.isnan(row["difference"]) or math.isnan(row["low"]):
        return GateOutcome("cannot tell", f"{where}: {row['note'] or 'no difference is defined'}")
    numbers = f"{where}: {row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}], n = {row['n']}"
    if gate.max_drop is None:
        failed = sign * row["difference"] < 0 and p < LEVEL
        conclusion = "worse" if failed else "not shown to be worse"
        return GateOutcome("FAILED" if failed else "passed", f"{numbers}, adjusted p = {p:.3g}: {conclusion}")
    worst = row["low"] if sign > 0 else -row["high"]
    failed = worst < -gate.max_drop
    verb = "may be" if failed else "is not"
    return GateOutcome("FAILED" if failed else "passed", f"{numbers}: {verb} worse by more than {gate.max_drop:g}")
