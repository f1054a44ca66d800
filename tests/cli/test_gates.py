"""Test which gates fail, with given intervals and p-values."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from vlmrobust import Report, Response, Sample, expand
from vlmrobust.cli.compare import LEVEL, Gate, outcomes
from vlmrobust.metrics import Accuracy, FollowRate
from vlmrobust.perturbations import WrongCaption
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


def test_the_whole_interval_has_to_exclude_the_drop(report: Report) -> None:
    rows = table(("base", 0.0, -0.019, 0.03), ("a", 0.0, -0.021, 0.1), ("b", -0.5, -0.6, -0.4), ("c", 0.5, 0.4, 0.6))
    assert failed(Gate("accuracy", 0.02), rows, report) == [False, True, True, False]


def test_where_lower_is_better_a_rise_is_the_drop(report: Report) -> None:
    rows = table(("base", 0.0, -0.1, 0.019), ("a", 0.0, -0.1, 0.021), ("b", 0.5, 0.4, 0.6), metric="follow_rate")
    assert failed(Gate("follow_rate", 0.02), rows, report) == [False, True, True]
    worse = table(("a", 0.5, 0.4, 0.6), ("b", -0.5, -0.6, -0.4), metric="follow_rate", p=1e-6)
    assert failed(Gate("follow_rate"), worse, report) == [True, False]


def test_p_values_of_all_gates_are_adjusted_together(report: Report) -> None:
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


def builds(groups: int, seed: int, worse: float = 0.0) -> tuple[Report, Report]:
    """Two runs of one model on samples in groups, each group harder or easier anew: none is worse than the other."""
    generator = np.random.default_rng(seed)
    samples = [
        Sample(id=f"q{i:03d}", images=[b"x"], question="Which?", options=("a", "b"), answer=0, group=f"g{i // 4}")
        for i in range(4 * groups)
    ]
    prompts = list(expand(samples, [WrongCaption()]))
    reports = []
    for fall in (worse, 0.0):
        chance = {
            (group, condition): generator.beta(4, 1.5)
            for group in dict.fromkeys(sample.group for sample in samples)
            for condition in ("base", "wrong_caption")
        }
        said = [
            Response(
                sample_id=prompt.sample.id,
                condition=prompt.condition,
                text="x",
                answer=int(generator.random() > chance[prompt.sample.group, prompt.condition] * (1 - fall)),
                status="answered",
            )
            for prompt in prompts
        ]
        reports.append(Report.from_responses(prompts, said, [Accuracy()]))
    return reports[0], reports[1]


@pytest.mark.parametrize("groups", [6, 10, 30])
def test_of_builds_in_which_nothing_is_worse_one_in_twenty_fails_or_fewer(groups: int) -> None:
    count, fallen = 120, 0
    for seed in range(count):
        this, that = builds(groups, seed)
        found = outcomes([Gate("accuracy")], this.compare(that), this)
        assert {outcome.verdict for outcome in found} <= {"passed", "FAILED"}
        fallen += any(outcome.verdict == "FAILED" for outcome in found)
    assert fallen <= count * (0.05 + 3 * math.sqrt(0.05 * 0.95 / count))
    if groups == 30:
        this, that = builds(groups, 0, worse=0.6)
        assert any(one.verdict == "FAILED" for one in outcomes([Gate("accuracy")], this.compare(that), this))


def test_of_few_groups_a_gate_cannot_tell() -> None:
    this, that = builds(5, 0)
    for gate in (Gate("accuracy"), Gate("accuracy", 0.5)):
        assert {one.verdict for one in outcomes([gate], this.compare(that), this)} == {"cannot tell"}


@pytest.mark.parametrize("per_group", [1, 4])
def test_a_model_that_fails_more_never_passes_what_a_better_one_fails(per_group: int) -> None:
    """0, 1, 2, … of 240 answers are lost: once a drop of 0.05 cannot be ruled out, it never can again."""
    samples = [
        Sample(
            id=f"q{i:03d}", images=[b"x"], question="Which?", options=("a", "b"), answer=0, group=f"g{i // per_group}"
        )
        for i in range(240)
    ]
    prompts = list(expand(samples, []))

    def run(lost: int) -> Report:
        said = [
            Response(
                sample_id=p.sample.id, condition="base", text="x", answer=int(i * 7 % 240 < lost), status="answered"
            )
            for i, p in enumerate(prompts)
        ]
        return Report.from_responses(prompts, said, [Accuracy()])

    before = run(0)
    verdicts = [outcomes([Gate("accuracy", 0.05)], run(n).compare(before), before)[0].verdict for n in range(0, 14)]
    assert verdicts == sorted(verdicts, key=["passed", "FAILED"].index)
    assert verdicts[0] == "passed"
    assert verdicts[-1] == "FAILED"
