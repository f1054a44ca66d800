"""Models with planted behaviour under the paper's conditions: every metric has the value that theory says."""

import inspect
import math
from collections.abc import Sequence

import numpy as np
import pytest
from builders import make_samples
from scipy.stats import binom

from vlmrobust import Evaluator, Prompt, Report, Response, Sample, metrics, paper_conditions
from vlmrobust.testing import FakeModel

NAN = math.nan
CONDITIONS = [condition.condition for condition in paper_conditions()]
CAPTIONS = ("wrong_caption", "wrong_caption_disclaimer")
THOUGHTS = ("wrong_think", "wrong_think_but")
CONTROLS = ("correct_caption", "correct_think")
METRICS = [
    *metrics.default_metrics(),
    metrics.ConsistentAccuracy(),
    metrics.NegativeLogLikelihood(),
    metrics.BrierScore(),
    metrics.Repetition(),
    metrics.ConflictAcknowledgement(),
    metrics.LetterDivergence(),
    metrics.ExpectedCalibrationError(),
    metrics.AreaUnderRiskCoverage(),
    metrics.AreaUnderRiskCoverage(excess=True),
]
OPTIONS = ("red", "blue", "green", "white")


def samples(count: int) -> list[Sample]:
    return make_samples(count, question="Which colour is the cube?", options=OPTIONS)


def make_report(model, count=40, **options) -> Report:
    return Evaluator(model, paper_conditions(), METRICS, batch_size=count, **options).run(samples(count))


def values(report: Report) -> dict[str, dict[str, float]]:
    """Each condition's value of each metric, from the responses: a summary would bootstrap what is no mean."""
    found: dict[str, dict[str, float]] = {}
    for condition in CONDITIONS:
        rows = [row for row, name in enumerate(report.responses.condition) if name == condition]
        responses = report.responses.select(rows)
        base = report.responses.select([row for row, name in enumerate(report.responses.condition) if name == "base"])
        found[condition] = {}
        for metric in METRICS:
            if isinstance(metric, metrics.PairedMetric):
                column = metric(base, responses) if condition != "base" else metrics.Accuracy()(base) * NAN
            else:
                column = metric(responses)
            found[condition][metric.column] = metric.aggregate(column, responses)
    return found


class Within:
    """Equals any number in a closed range."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and self.low <= other <= self.high

    def __hash__(self) -> int:
        return hash((self.low, self.high))

    def __repr__(self) -> str:
        return f"Within({self.low}, {self.high})"


# The answered letter gets 0.5 to 0.95 of 0.98, the others share the rest.
LEAST, MOST = 0.5 / 0.98 - 1e-6, 0.95 / 0.98 + 1e-6


def theory(condition: str, chosen: str, concluded: bool | None, base: str = "right") -> dict[str, object]:
    """What each metric is where every sample's answer is alike.

    Args:
        condition: its name.
        chosen: what is answered: "right", "distractor".
        concluded: whether the thought ends with the answer; None = there is no thought to judge.
        base: what is answered under base.
    """
    right, followed, written = chosen == "right", chosen == "distractor", condition != "stop_think"
    judged = concluded is not None
    flag = float(bool(concluded)) if judged else NAN
    paired = condition != "base"
    chosen_probability, other_probability = Within(LEAST, MOST), Within(0, 1 - LEAST)
    return {
        "accuracy": float(right),
        "unparsed_rate": 0.0,
        "truncated_rate": 0.0,
        "abstain_rate": 0.0,
        "follow_rate": float(followed),
        "flip_rate": float(base != chosen) if paired else NAN,
        "harmed": float(base == "right" and not right) if paired else NAN,
        "helped": float(base != "right" and right) if paired else NAN,
        "robust_accuracy": float(base == "right" and right) if paired else NAN,
        "correct_probability": chosen_probability if right else other_probability,
        "correct_probability_with_added": chosen_probability if right else other_probability,
        "distractor_probability": chosen_probability if followed else other_probability,
        "letter_entropy": Within(1e-3, math.log(4)),
        "letter_entropy_with_added": Within(1e-3, math.log(4)),
        "relative_letter_entropy": Within(1e-3, 1.0),
        "letter_mass": pytest.approx(0.98, abs=1e-6),
        "token_entropy": Within(0.0, 1.0) if written else NAN,
        "format_rate": 1.0 if written else NAN,
        "thought_length": 12.0 if written else NAN,
        "consistency": flag,
        "consistency_coverage": float(judged),
        "consistency_given_correct": flag if right else NAN,
        "consistent_correct": flag * right,
        "consistent_incorrect": flag * (not right),
        "inconsistent_correct": (1 - flag) * right,
        "inconsistent_incorrect": (1 - flag) * (not right),
        "consistent_accuracy": flag * right,
        "negative_log_likelihood": Within(-math.log(MOST), -math.log(LEAST)) if right else Within(math.log(2), 99.0),
        # Right: (1 − p)² and at most as much again from the others; wrong: p² of the answer and (1 − p)² of the target.
        "brier_score": Within(0, 2 * (1 - LEAST) ** 2) if right else Within(2 * LEAST**2, 2.0),
        "repetition": 0.0 if written else NAN,
        "conflict_acknowledgement": 0.0 if written else NAN,
        "letter_divergence": Within(0.0, math.log(2)) if paired and written else NAN,
        # All right or all wrong: the gap is that of the mean confidence.
        "expected_calibration_error": Within(1 - MOST, 1 - LEAST) if right else Within(LEAST, MOST),
        "area_under_risk_coverage": float(not right),
        "excess_area_under_risk_coverage": 0.0,
    }


def check(report: Report, expected: dict[str, dict[str, object]]) -> None:
    found = values(report)
    for condition in CONDITIONS:
        assert found[condition].keys() == expected[condition].keys()
        for name, value in expected[condition].items():
            value = pytest.approx(value, abs=1e-9, nan_ok=True) if isinstance(value, float) else value
            assert found[condition][name] == value, (condition, name, found[condition][name])


def test_every_metric_has_its_theory():
    exported = {getattr(metrics, name) for name in metrics.__all__ if name[0].isupper()}
    concrete = {kind for kind in exported - {metrics.BaseMetric} if not inspect.isabstract(kind)}
    assert {type(metric) for metric in METRICS} == concrete
    assert {metric.column for metric in METRICS} == theory("base", "right", True).keys()


def test_a_model_that_is_always_right_is_stubborn_whatever_is_said():
    report = make_report(FakeModel(accuracy=1, follow_caption=0, follow_think=0, opens_images=False))
    check(report, {name: theory(name, "right", None if name == "stop_think" else True) for name in CONDITIONS})
    assert report.robust_accuracy().iloc[0]["value"] == 1
    assert set(report.hedge_recovery().query("metric == 'accuracy'")["note"]) == {
        "no drop under wrong_think",
        "no drop under wrong_caption",
    }


def test_a_model_that_follows_the_caption_falls_under_wrong_captions_alone_and_is_consistent():
    report = make_report(FakeModel(accuracy=1, follow_caption=1, follow_think=0, opens_images=False))
    check(
        report,
        {
            name: theory(name, "distractor" if name in CAPTIONS else "right", None if name == "stop_think" else True)
            for name in CONDITIONS
        },
    )
    assert report.robust_accuracy().iloc[0]["value"] == 0
    assert report.robust_accuracy([*THOUGHTS, *CONTROLS]).iloc[0]["value"] == 1


def test_a_model_that_follows_the_thought_falls_under_wrong_thoughts_alone_and_is_consistent():
    report = make_report(FakeModel(accuracy=1, follow_caption=0, follow_think=1, opens_images=False))
    check(
        report,
        {
            name: theory(name, "distractor" if name in THOUGHTS else "right", None if name == "stop_think" else True)
            for name in CONDITIONS
        },
    )
    [think] = report.hedge_recovery().query("metric == 'accuracy' and reference == 'wrong_think'").to_dict("records")
    # The hedge brings nothing back, of a drop of everything.
    assert (think["drop"], think["recovered"], think["share"]) == (1, 0, 0)


def test_a_model_that_contradicts_its_thought_is_right_and_inconsistent():
    report = make_report(FakeModel(accuracy=1, follow_caption=0, follow_think=0, contradict=1, opens_images=False))
    check(report, {name: theory(name, "right", None if name == "stop_think" else False) for name in CONDITIONS})


def binomial(n: int, rate: float) -> Within:
    """The range that a binomial share leaves once in 10,000 times; the seeds are fixed, so it holds or does not."""
    return Within(binom.ppf(5e-5, n, rate) / n, binom.isf(5e-5, n, rate) / n)


def test_a_model_that_ignores_the_image_guesses_and_takes_every_text_for_true():
    n, chance = 200, 1 / len(OPTIONS)
    # Right in a quarter of samples and evenly wrong in the others: the image says nothing, the texts decide.
    report = make_report(FakeModel(accuracy=chance, opens_images=False), n)
    found = values(report)
    base = found["base"]
    assert base["accuracy"] == binomial(n, chance)
    assert base["follow_rate"] == binomial(n, chance)
    assert found["stop_think"]["flip_rate"] == 0
    for name in (*CAPTIONS, *THOUGHTS):
        assert found[name] == found[name] | {"accuracy": 0.0, "follow_rate": 1.0, "helped": 0.0, "robust_accuracy": 0.0}
        assert found[name]["harmed"] == pytest.approx(base["accuracy"])
        assert found[name]["flip_rate"] == pytest.approx(1 - base["follow_rate"])
        assert found[name]["consistent_incorrect"] == 1
    for name in CONTROLS:
        assert found[name] == found[name] | {"accuracy": 1.0, "follow_rate": 0.0, "harmed": 0.0}
        assert found[name]["helped"] == pytest.approx(1 - base["accuracy"])
        assert found[name]["robust_accuracy"] == pytest.approx(base["accuracy"])
    # What the text adds to the base rate of its option is the difference of the follow rate.
    summary = report.score([metrics.FollowRate()]).summary.set_index("condition")
    for name in (*CAPTIONS, *THOUGHTS):
        assert summary.loc[name, "difference"] == pytest.approx(1 - base["follow_rate"])
        assert summary.loc[name, "base_value"] == pytest.approx(base["follow_rate"])


class Random:
    """Throws its dice anew for each condition."""

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        return [self._model(prompt.condition).respond([prompt])[0] for prompt in prompts]

    def identity(self) -> dict[str, str]:
        return {"class": "Random"}

    def _model(self, condition: str) -> FakeModel:
        chance = 1 / len(OPTIONS)
        seed = CONDITIONS.index(condition)
        return FakeModel(accuracy=chance, follow_caption=0, follow_think=0, seed=seed, opens_images=False)


def test_a_model_that_answers_at_random_is_at_chance_in_every_metric():
    n, chance = 200, 1 / len(OPTIONS)
    report = make_report(Random(), n)
    found = values(report)
    for name in CONDITIONS:
        row = found[name]
        assert row["accuracy"] == binomial(n, chance)
        assert row["follow_rate"] == binomial(n, chance)
        # Neither what is sure nor what is short tells right from wrong: no order is better than the error rate.
        assert row["area_under_risk_coverage"] == Within(1 - row["accuracy"] - 0.15, 1 - row["accuracy"] + 0.15)
        frame = report.frame.query(f"condition == {name!r}")
        gap = frame["expected_calibration_error"].mean() - row["accuracy"]
        assert row["expected_calibration_error"] == Within(gap - 1e-9, gap + 0.1)
        if name != "stop_think":
            assert (row["consistency"], row["thought_length"], row["format_rate"]) == (1, 12, 1)
            assert row["consistent_accuracy"] == pytest.approx(row["accuracy"])
        if name == "base":
            continue
        assert row["flip_rate"] == binomial(n, 1 - chance)
        assert row["robust_accuracy"] == binomial(n, chance**2)
        assert row["harmed"] == binomial(n, chance * (1 - chance))
        assert row["helped"] == binomial(n, chance * (1 - chance))
        assert row["helped"] - row["harmed"] == pytest.approx(row["accuracy"] - found["base"]["accuracy"])
    assert report.robust_accuracy().iloc[0]["value"] == binomial(n, chance ** len(CONDITIONS))
    survival = report.survival().query("population == 'all' and predictor != 'thought_length'")
    assert len(survival) == 2 * (len(CONDITIONS) - 1)
    # 95 % intervals: of 14, more than 4 miss one half less than once in 1,000 times.
    assert np.count_nonzero((survival["low"] > 0.5) | (survival["high"] < 0.5)) <= 4


def test_draws_that_are_guesses_flip_by_themselves_and_the_floor_says_so():
    n, chance = 100, 1 / len(OPTIONS)
    report = make_report(FakeModel(guess=1, opens_images=False), n, draws=2).score(
        [metrics.FlipRate(), metrics.Harmed()]
    )
    summary = report.summary.set_index(["metric", "condition"])
    assert summary.loc[("flip_rate", "base"), "value"] == binomial(n, 1 - chance)
    assert summary.loc[("harmed", "base"), "value"] == binomial(n, chance * (1 - chance))
    assert summary.loc[("flip_rate", "base"), "n"] == n
    # Draw by draw nothing differs: what seems to flip flips by chance alone.
    assert set(summary.loc["flip_rate"].drop("base")["value"]) == {0}


def test_all_thoughts_are_of_one_length_and_rank_nothing():
    survival = make_report(Random(), 40).survival().query("predictor == 'thought_length' and population == 'all'")
    assert set(survival["auroc"]) == {0.5}
    assert (survival["high"] - survival["low"] > 0.2).all()
