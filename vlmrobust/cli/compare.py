"""`vlmrobust compare`: two models or checkpoints on the same samples, and gates for continuous integration.

A gate asks one of two questions. *Is it certainly worse?* `--fail-if-worse` fails when a change for the worse is shown:
the smaller the sample, the less it finds. *Is it certainly not worse?* `--max-drop` fails unless the whole 95 %
interval rules out a drop larger than allowed: the smaller the sample, the less it lets through.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..functional.statistics import holm
from ..report import Report
from ..report.summary import EQUAL_DIFFERENCES
from . import options
from .app import ExitCode, refusals
from .construction import direction_of, is_paired
from .finishing import finish
from .options import listed, pairs
from .output import rows_of, say, show_rows
from .report import ReportPath, one_format

if TYPE_CHECKING:
    import pandas as pd

    from ..report import Report

__all__ = ["LEVEL", "Gate", "Outcome", "compare", "gates_of", "outcomes"]


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
        from .construction import with_metrics
        from .report import samples_for_images

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
    from .judge import JUDGED

    here, there = this.judge, that.judge
    if here != there and any(metric in JUDGED for metric in metrics):
        raise ValueError(
            f"expected thoughts judged by one judge, got {title_of(here)} here and {title_of(there)} in the other; "
            "judge one of them again, or leave consistency out: --metrics accuracy,…"
        )


LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Gate:
    """What is asked of one metric, under every condition.

    Attributes:
        metric: its name.
        max_drop: the largest change for the worse that is allowed, which the interval has to rule out to be larger;
            None = no change for the worse may be shown.
    """

    metric: str
    max_drop: float | None = None

    @classmethod
    def allowing(cls, metric: str, amount: str) -> "Gate":
        """Return a gate that allows a drop, given as text.

        Raises:
            ValueError: the amount is no number of at least 0.
        """
        try:
            max_drop = float(amount)
        except ValueError:
            max_drop = math.nan
        if not 0 <= max_drop < math.inf:
            raise ValueError(f"--max-drop {metric}: expected a number of at least 0, got {amount!r}")
        return cls(metric, max_drop)


def gates_of(fail_if_worse: Sequence[str] | None, max_drop: Sequence[str] | None) -> list[Gate]:
    """Return the gates that the flags of those names ask for.

    Raises:
        ValueError: a drop is not `metric=amount`.
    """
    drops = pairs("--max-drop", "metric=amount", max_drop)
    return [*map(Gate, listed(fail_if_worse)), *(Gate.allowing(*drop) for drop in drops.items())]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one gate came out under one condition.

    Attributes:
        verdict: "passed", "FAILED", or "cannot tell": there are too few samples, or groups of them, for an interval.
        text: what was found.
    """

    verdict: Literal["passed", "FAILED", "cannot tell"]
    text: str


def outcomes(gates: Sequence[Gate], table: "pd.DataFrame", report: Report) -> list[Outcome]:
    """Return how each gate comes out under each condition.

    The p-values of everything that may be shown to be worse are adjusted together (Holm), so that the chance of a false
    alarm is below `LEVEL` however many conditions and metrics there are. What has to be ruled out needs no adjustment:
    all of it has to be.

    Args:
        gates: at least one.
        table: of `Report.compare`.
        report: the report that is judged.

    Raises:
        ValueError: a metric is not in the report, or neither more nor less of it is better.
    """
    asked = [(gate, direction_of(report, gate.metric), row) for gate in gates for row in _rows(gate, table, report)]
    adjusted = holm([row["p"] if gate.max_drop is None else math.nan for gate, _, row in asked])
    return [_outcome(gate, sign, row, float(p)) for (gate, sign, row), p in zip(asked, adjusted, strict=True)]


def _rows(gate: Gate, table: "pd.DataFrame", report: Report) -> Iterator[dict[str, Any]]:
    for row in rows_of(table[table["metric"] == gate.metric]):
        # A comparison with base has no value under base itself.
        if not (row["condition"] == "base" and is_paired(report, gate.metric)):
            yield row


def _outcome(gate: Gate, sign: int, row: dict[str, Any], p: float) -> Outcome:
    where = f"{gate.metric} under {row['condition']}"
    if row["difference"] == 0 and row["note"].endswith(EQUAL_DIFFERENCES):
        return Outcome("passed", f"{where}: the same for every one of {row['n']} samples")
    if math.isnan(row["difference"]) or math.isnan(row["low"]):
        return Outcome("cannot tell", f"{where}: {row['note'] or 'no difference is defined'}")
    found = f"{where}: {row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}], n = {row['n']}"
    if gate.max_drop is None:
        failed = sign * row["difference"] < 0 and p < LEVEL
        said = "worse" if failed else "not shown to be worse"
        return Outcome("FAILED" if failed else "passed", f"{found}, adjusted p = {p:.3g}: {said}")
    worst = row["low"] if sign > 0 else -row["high"]
    failed = worst < -gate.max_drop
    said = "may be" if failed else "is not"
    return Outcome("FAILED" if failed else "passed", f"{found}: {said} worse by more than {gate.max_drop:g}")
