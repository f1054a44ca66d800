"""Gates for continuous integration: which differences between two reports are not to be accepted.

A gate asks one of two questions. *Is it worse for sure?* `--fail-if-worse` fails when a change for the worse is shown:
the smaller the sample, the less it finds. *Is it sure that it is not worse?* `--max-drop` fails unless a larger drop
than allowed is ruled out, by the whole 95 % interval: the smaller the sample, the less it lets through.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..functional.statistics import holm
from ..report import Report
from ..report.summary import SAME
from .measuring import direction_of, is_paired
from .options import listed, pairs
from .output import rows_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LEVEL", "Gate", "Outcome", "gates_of", "outcomes"]

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
    if row["difference"] == 0 and row["note"].endswith(SAME):
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
