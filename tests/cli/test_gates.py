"""Gates: what fails, against intervals and p-values made by hand."""

import math
from typing import Any

import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from vlmrobust import Report, expand
from vlmrobust.cli.gates import LEVEL, Gate, outcomes
from vlmrobust.metrics import Accuracy, FollowRate
from vlmrobust.testing import FakeModel


@pytest.fixture(scope="module")
def report() -> Report:
    from vlmrobust import demo

    prompts = list(expand(demo.samples(2), []))
    return Report.from_responses(prompts, FakeModel().respond(prompts), [Accuracy(), FollowRate()])


def table(*rows: tuple[str, float, float, float], metric: str = "accuracy", **fields: Any) -> pd.DataFrame:
    """Return rows of (condition, difference, low, high), as `Report.compare` gives them."""
    return pd.DataFrame(
        [
            {"condition": condition, "metric": metric, "difference": difference, "low": low, "high": high}
            | {"p": 0.5, "n": 100, "note": ""}
            | fields
            for condition, difference, low, high in rows
        ]
    )


def failed(gate: Gate, rows: pd.DataFrame, report: Report) -> list[bool]:
    return [outcome.verdict == "FAILED" for outcome in outcomes([gate], rows, report)]


def test_a_drop_has_to_be_ruled_out_by_the_whole_interval(report: Report) -> None:
    rows = table(("base", 0.0, -0.019, 0.03), ("a", 0.0, -0.021, 0.1), ("b", -0.5, -0.6, -0.4), ("c", 0.5, 0.4, 0.6))
    assert failed(Gate("accuracy", 0.02), rows, report) == [False, True, True, False]


def test_where_less_is_better_a_rise_is_the_drop(report: Report) -> None:
    rows = table(("base", 0.0, -0.1, 0.019), ("a", 0.0, -0.1, 0.021), ("b", 0.5, 0.4, 0.6), metric="follow_rate")
    assert failed(Gate("follow_rate", 0.02), rows, report) == [False, True, True]
    worse = table(("a", 0.5, 0.4, 0.6), ("b", -0.5, -0.6, -0.4), metric="follow_rate", p=1e-6)
    assert failed(Gate("follow_rate"), worse, report) == [True, False]


def test_p_values_of_all_that_may_be_worse_are_adjusted_together(report: Report) -> None:
    p = [0.001, 0.02, 0.03, 0.004, 0.2]
    rows = table(*((f"c{index}", -0.1, -0.2, -0.01) for index in range(5)))
    rows["p"] = p
    expected = multipletests(p, alpha=LEVEL, method="holm")[0].tolist()
    assert failed(Gate("accuracy"), rows, report) == expected == [True, False, False, True, False]
    # Those of a gate of the other kind are not among them.
    both = outcomes([Gate("accuracy"), Gate("accuracy", 0.5)], rows, report)
    assert [outcome.verdict == "FAILED" for outcome in both] == [*expected, *[False] * 5]


def test_of_what_is_undefined_a_gate_cannot_tell(report: Report) -> None:
    rows = table(("a", math.nan, math.nan, math.nan), note="no responses in this report")
    few = table(("a", -0.5, math.nan, math.nan), note="too few for an interval: 4 groups of samples", p=math.nan)
    for gate in (Gate("accuracy"), Gate("accuracy", 0.1)):
        for undefined in (rows, few):
            [outcome] = outcomes([gate], undefined, report)
            assert outcome.verdict == "cannot tell"
            assert outcome.text == f"accuracy under a: {undefined['note'][0]}"
