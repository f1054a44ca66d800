"""Aggregates other than means, weighted by resampling counts."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from vlmrobust import Prompt, Report, Response, Sample
from vlmrobust.metrics import AreaUnderRiskCoverage, ExpectedCalibrationError

METRICS = [
    ExpectedCalibrationError(bins=5),
    ExpectedCalibrationError(bins=3, equal_mass=True),
    AreaUnderRiskCoverage(),
    AreaUnderRiskCoverage(excess=True),
]


def expected_value(metric, rows):
    """Of rows (log-odds, confidence, right), which do not tie here."""
    ranked = sorted(rows)
    if isinstance(metric, ExpectedCalibrationError):
        gaps = [0.0] * metric.bins
        for position, (_, sure, right) in enumerate(ranked):
            width_bin = max(math.ceil(sure * metric.bins) - 1, 0)
            gaps[(position * metric.bins) // len(rows) if metric.equal_mass else width_bin] += right - sure
        return sum(map(abs, gaps)) / len(rows)

    def area(answers):
        return sum(answers[:count].count(0) / count for count in range(1, len(answers) + 1)) / len(answers)

    answers = [right for _, _, right in reversed(ranked)]
    return area(answers) - (area(sorted(answers, reverse=True)) if metric.excess else 0)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.column)
@given(data=st.data())
@settings(max_examples=40)
def test_aggregates_agree_with_a_plain_loop(metric, data, pairs, arrays_of):
    drawn = data.draw(pairs)
    responses = arrays_of(drawn)
    rows = []
    for prompt, response in drawn:
        if response.status == "answered" and response.option_logprobs and max(response.option_logprobs) > -math.inf:
            letters = list(response.option_logprobs)
            others = softmax(letters)
            sure = float(others[response.answer])
            rest = 1 - sure
            odds = math.log(sure / rest) if 0 < sure < 1 and rest > 0 else math.inf if sure else -math.inf
            rows.append((odds, sure, int(response.answer == prompt.sample.answer)))
    if len({sure for _, sure, _ in rows}) < len(rows) or (
        isinstance(metric, ExpectedCalibrationError) and len(rows) % metric.bins and metric.equal_mass
    ):
        return  # ties, and bins that a row lies across, are for the functional tests
    found = metric.aggregate(metric(responses), responses)
    assert found == pytest.approx(expected_value(metric, rows) if rows else math.nan, abs=1e-5, nan_ok=True)


def test_answers_rank_by_log_odds_where_float32_probabilities_tie(plain_responses):
    rows = [((0.0, -20.0, -99.0, -99.0), 0), ((-30.0, 0.0, -99.0, -99.0), 1), ((-40.0, 0.0, -99.0, -99.0), 1)]
    responses = plain_responses(*({"option_logprobs": letters, "answer": answer} for letters, answer in rows))
    metric = AreaUnderRiskCoverage()
    assert metric(responses).tolist() == [1.0, 1.0, 1.0]
    assert metric.aggregate(metric(responses), responses) == pytest.approx((0 + 0 + 1 / 3) / 3)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.column)
def test_weights_repeat_rows_and_nan_excludes_them(metric, plain_responses):
    letters = [(-0.1, -3.0, -4.0, -5.0), (-2.0, -0.3, -4.0, -5.0), (-2.0, -0.6, -1.0, -5.0)]
    responses = plain_responses(
        *({"option_logprobs": row, "answer": answer} for row, answer in zip(letters, [0, 1, 2], strict=True))
    )
    values = metric(responses)
    weights = torch.tensor([2.0, 0.0, 3.0])
    repeated = [0, 0, 2, 2, 2]
    assert metric.aggregate(values, responses, weights) == pytest.approx(
        metric.aggregate(values[repeated], responses.select(repeated))
    )
    without = torch.tensor([values[0], math.nan, values[2]])
    assert metric.aggregate(without, responses) == pytest.approx(
        metric.aggregate(values[[0, 2]], responses.select([0, 2]))
    )
    assert math.isnan(metric.aggregate(values * math.nan, responses))


def test_report_aggregates_pairs_defined_on_both_sides():
    prompts, responses = [], []
    rng = np.random.default_rng(0)
    for condition in ("base", "changed"):
        for index in range(40):
            sample = Sample(
                id=f"q{index}", images=["x.png"], question="Which?", options=["a", "b", "c"], answer=index % 3
            )
            letters = tuple(np.log(rng.dirichlet([1, 1, 1])).tolist())
            read = {"option_logprobs": letters, "readout": "own_thought"} if condition == "base" or index % 4 else {}
            prompts.append(Prompt.of(sample).replace(condition=condition))
            answer = int(np.argmax(letters))
            responses.append(
                Response(sample_id=sample.id, condition=condition, status="answered", answer=answer, **read)
            )
    metrics = [ExpectedCalibrationError(bins=5), AreaUnderRiskCoverage()]
    report = Report.from_responses(prompts, responses, metrics)
    summary = report.summary.query("condition == 'changed'").set_index("metric")
    both = [index for index in range(40) if index % 4]
    for metric in metrics:
        row = summary.loc[metric.column]
        sides = [report.responses.select([start + index for index in both]) for start in (0, 40)]
        before, after = (metric.aggregate(metric(side), side) for side in sides)
        assert (row["base_value"], row["value"], row["n"]) == pytest.approx((before, after, 30))
        assert row["difference"] == pytest.approx(after - before)
        assert row["low"] < row["difference"] < row["high"]
