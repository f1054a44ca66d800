"""All metrics: each against a plain loop over single responses, in any split over batches."""

import dataclasses
import inspect
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp, softmax
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import accuracy_score

from vlmrobust import Prompt, Response, Responses, metrics
from vlmrobust.functional import QUADRANTS
from vlmrobust.testing import check_metric
from vlmrobust.text import snake_case

NAN = math.nan


def scored(prompt, response):
    return response.status not in ("error", "not_applicable")


def with_letters(value: Callable):
    def oracle(prompt, response):
        read = response.option_logprobs is not None and response.status in ("answered", "abstained")
        letters = response.option_logprobs
        if not read or (max(letters) == -math.inf and value is not mass):
            return NAN
        return value(prompt, response)

    return oracle


def probabilities(response):
    return softmax([float(torch.tensor(value)) for value in response.option_logprobs])


def shown_probabilities(response):
    return softmax([float(torch.tensor(value)) for value in (*response.option_logprobs, *response.added_logprobs)])


def mass(prompt, response):
    return min(1.0, math.exp(logsumexp([*response.option_logprobs, *response.added_logprobs])))


def status_rate(status):
    return lambda prompt, response: float(response.status == status) if scored(prompt, response) else NAN


def consistent(prompt, response):
    if response.status != "answered" or not response.think.startswith("says ") or response.think == "says -1":
        return NAN
    return float(response.think == f"says {response.answer}")


def quadrant(kind):
    def oracle(prompt, response):
        agrees = consistent(prompt, response)
        if math.isnan(agrees):
            return NAN
        right = response.answer == prompt.sample.answer
        return float(kind == ("consistent_" if agrees else "inconsistent_") + ("correct" if right else "incorrect"))

    return oracle


def chose(option):
    def oracle(prompt, response):
        if not scored(prompt, response) or option(prompt) is None:
            return NAN
        return float(response.answer == option(prompt))

    return oracle


def well_formed(prompt, response):
    if response.status == "truncated":
        return 0.0
    return NAN if response.well_formed is None or not scored(prompt, response) else float(response.well_formed)


def wrote(prompt, response):
    return scored(prompt, response) and (response.own_think != "" or response.well_formed is not None)


# What the thoughts of these tests repeat, by hand: "I see. I see. I see. I see." has 6 trigrams, 2 of them different.
REPEATED = {"": NAN, "Hm.": NAN, "I see. I see. I see. I see.": 4 / 6, "The caption is wrong.": 0.0}
ACKNOWLEDGED = {"": NAN, "Hm.": 0.0, "I see. I see. I see. I see.": 0.0, "The caption is wrong.": 1.0}


def consistent_accuracy(prompt, response):
    if response.status != "answered":
        return 0.0 if scored(prompt, response) else NAN
    agrees = consistent(prompt, response)
    return agrees * (response.answer == prompt.sample.answer)


def likelihood(prompt, response):
    p = probabilities(response)[prompt.sample.answer]
    return NAN if p == 0 else -math.log(p)


def brier(prompt, response):
    return sum((p - (i == prompt.sample.answer)) ** 2 for i, p in enumerate(probabilities(response)))


def confidence(prompt, response):
    return probabilities(response)[response.answer] if response.status == "answered" else NAN


ORACLES = {
    "accuracy": chose(lambda prompt: prompt.sample.answer),
    "follow_rate": chose(lambda prompt: prompt.distractor),
    "unparsed_rate": status_rate("unparsed"),
    "truncated_rate": status_rate("truncated"),
    "abstain_rate": status_rate("abstained"),
    "correct_probability": with_letters(lambda prompt, response: probabilities(response)[prompt.sample.answer]),
    "letter_entropy": with_letters(lambda prompt, response: scipy_entropy(probabilities(response))),
    "correct_probability_with_added": with_letters(
        lambda prompt, response: shown_probabilities(response)[prompt.sample.answer]
    ),
    "letter_entropy_with_added": with_letters(lambda prompt, response: scipy_entropy(shown_probabilities(response))),
    "relative_letter_entropy": with_letters(
        lambda prompt, response: scipy_entropy(probabilities(response)) / math.log(len(prompt.sample.options))
    ),
    "letter_mass": with_letters(mass),
    "token_entropy": lambda prompt, response: NAN if response.token_entropy is None else response.token_entropy,
    "format_rate": well_formed,
    "consistency": consistent,
    "consistency_coverage": lambda prompt, response: (
        float(not math.isnan(consistent(prompt, response))) if response.status == "answered" else NAN
    ),
    "consistency_given_correct": lambda prompt, response: (
        consistent(prompt, response) if response.answer == prompt.sample.answer else NAN
    ),
    "consistent_accuracy": consistent_accuracy,
    "distractor_probability": with_letters(
        lambda prompt, response: NAN if prompt.distractor is None else probabilities(response)[prompt.distractor]
    ),
    "negative_log_likelihood": with_letters(likelihood),
    "brier_score": with_letters(brier),
    "thought_length": lambda prompt, response: (
        float(len(response.own_think.split())) if wrote(prompt, response) else NAN
    ),
    "thought_length_tokens": lambda prompt, response: (
        float(response.n_tokens) if wrote(prompt, response) and response.n_tokens is not None else NAN
    ),
    "repetition": lambda prompt, response: REPEATED[response.own_think],
    "conflict_acknowledgement": lambda prompt, response: ACKNOWLEDGED[response.own_think],
    "expected_calibration_error": with_letters(confidence),
    "expected_calibration_error_equal_mass_4": with_letters(confidence),
    "area_under_risk_coverage": with_letters(confidence),
    "excess_area_under_risk_coverage": with_letters(confidence),
} | {kind: quadrant(kind) for kind in QUADRANTS}

# Beyond the default ones.
OTHERS = (
    metrics.ConsistentAccuracy(),
    metrics.NegativeLogLikelihood(),
    metrics.BrierScore(),
    metrics.ThoughtLength(unit="tokens"),
    metrics.Repetition(),
    metrics.ConflictAcknowledgement(),
    metrics.ExpectedCalibrationError(),
    metrics.ExpectedCalibrationError(equal_mass=True, bins=4),
    metrics.AreaUnderRiskCoverage(),
    metrics.AreaUnderRiskCoverage(excess=True),
)
PLAIN = [metric for metric in (*metrics.default_metrics(), *OTHERS) if isinstance(metric, metrics.Metric)]


def instances(judge):
    """The plain metrics, with the tests' judge where one judges."""
    return [metric.replace(judge=judge) if "judge" in type(metric).model_fields else metric for metric in PLAIN]


COLUMNS = [metric.column for metric in PLAIN]


def test_every_plain_metric_has_its_oracle():
    assert sorted(COLUMNS) == sorted(ORACLES)
    assert len(set(COLUMNS)) == len(COLUMNS)
    exported = {getattr(metrics, name) for name in metrics.__all__ if name[0].isupper()}
    concrete = {kind for kind in exported if not inspect.isabstract(kind) and issubclass(kind, metrics.Metric)}
    assert concrete == {type(metric) for metric in PLAIN}


@given(data=st.data())
@settings(max_examples=150)
def test_values_agree_with_a_plain_loop(data, pairs, arrays_of, stated_judge):
    drawn = data.draw(pairs)
    responses = arrays_of(drawn)
    for metric in instances(stated_judge()):
        values = metric(responses)
        assert values.dtype == torch.float32
        assert values.shape == (len(drawn),)
        expected = [ORACLES[metric.column](prompt, response) for prompt, response in drawn]
        assert values.tolist() == pytest.approx(expected, rel=2e-5, abs=2e-6, nan_ok=True), metric.column
        # Failed calls are never scored.
        for value, (prompt, response) in zip(values.tolist(), drawn, strict=True):
            assert scored(prompt, response) or math.isnan(value)


@given(data=st.data())
@settings(max_examples=40)
def test_values_do_not_depend_on_the_batch(data, pairs, arrays_of, stated_judge):
    drawn = data.draw(pairs)
    order = data.draw(st.permutations(range(len(drawn))))
    cut = data.draw(st.integers(0, len(drawn)))
    responses = arrays_of(drawn)
    for metric in instances(stated_judge()):
        whole = metric(responses)[list(order)]
        parts = [metric(responses.select(part)) for part in (order[:cut], order[cut:])]
        rebuilt = [metric(arrays_of([drawn[i] for i in part])) for part in (order[:cut], order[cut:]) if part]
        torch.testing.assert_close(torch.cat(parts), whole, equal_nan=True)
        torch.testing.assert_close(torch.cat(rebuilt), whole, equal_nan=True)


@given(data=st.data())
@settings(max_examples=40)
def test_shares_have_their_documented_denominators(data, pairs, arrays_of, stated_judge):
    responses = arrays_of(data.draw(pairs))
    values = {metric.column: metric(responses) for metric in instances(stated_judge())}
    quadrants = torch.stack([values[kind] for kind in QUADRANTS])
    judged = ~values["consistency"].isnan()
    assert torch.equal(quadrants.isnan().any(0), ~judged)
    assert (quadrants[:, judged].sum(0) == 1).all()
    torch.testing.assert_close(quadrants[:2].sum(0), values["consistency"], equal_nan=True)
    # P(consistent | correct) = P(consistent ∧ correct) / P(correct), all over judged answers.
    both, alone = quadrants[0, judged].sum(), quadrants[2, judged].sum()
    given_correct = values["consistency_given_correct"].nanmean()
    torch.testing.assert_close(given_correct, both / (both + alone), equal_nan=True)
    # Where something was said, it was an answer, or it is counted beside accuracy.
    answered = (responses.choice >= 0).float()
    shares = values["unparsed_rate"] + values["truncated_rate"] + values["abstain_rate"] + answered
    assert (shares[~shares.isnan()] == 1).all()


def test_accuracy_agrees_with_sklearn(plain_responses):
    answers = [0, 1, 2, 3, 1, 1, 0]
    responses = plain_responses(*({"answer": answer} for answer in answers))
    metric = metrics.Accuracy()
    assert metric.aggregate(metric(responses), responses) == pytest.approx(accuracy_score([1] * 7, answers))


def test_a_dropped_option_does_not_lower_relative_entropy(plain_responses):
    responses = plain_responses({"option_logprobs": (-1.0, -1.0, -math.inf, -math.inf)})
    assert metrics.RelativeLetterEntropy()(responses).tolist() == pytest.approx([0.5])
    shown_two = dataclasses.replace(responses, options=(("a", "b"),), order=((0, 1),))
    assert metrics.RelativeLetterEntropy()(shown_two).tolist() == pytest.approx([1.0])


def test_mass_counts_added_letters_and_probability_does_not(plain_responses):
    letters = {"option_logprobs": (-2.0, -2.0, -2.0, -2.0), "added_logprobs": (-1.0,)}
    responses = plain_responses(letters, letters | {"status": "abstained", "answer": None})
    assert metrics.LetterMass()(responses).tolist() == pytest.approx([4 * math.exp(-2) + math.exp(-1)] * 2)
    assert metrics.CorrectProbability()(responses).tolist() == [0.25, 0.25]
    assert metrics.LetterEntropy()(responses).tolist() == pytest.approx([math.log(4)] * 2)


def test_padding_of_a_batch_does_not_change_values(plain_responses):
    responses = plain_responses({"option_logprobs": None}, {"option_logprobs": None})
    assert metrics.CorrectProbability()(responses).isnan().all()
    assert metrics.LetterEntropy()(responses).isnan().all()


@pytest.mark.parametrize("metric", PLAIN, ids=repr)
def test_metrics_are_values(metric):
    assert pickle.loads(pickle.dumps(metric)) == metric
    assert metric.replace(name="another").column == "another"
    over_a_set = isinstance(metric, metrics.ExpectedCalibrationError | metrics.AreaUnderRiskCoverage)
    assert metric.is_mean == (not over_a_set)
    letters = {
        "correct_probability",
        "correct_probability_with_added",
        "letter_entropy_with_added",
        "distractor_probability",
        "negative_log_likelihood",
        "brier_score",
        "letter_entropy",
        "relative_letter_entropy",
        "letter_mass",
    }
    assert metric.reads_letters == (metric.column in letters or over_a_set)


@pytest.mark.parametrize("metric", OTHERS, ids=repr)
def test_metrics_pass_the_metric_checks(metric):
    check_metric(metric)


def test_columns_are_class_names_in_snake_case():
    for metric in PLAIN:
        named = metric.kind if isinstance(metric, metrics.Quadrant) else snake_case(type(metric).__name__)
        is_default = metric == type(metric)() if not isinstance(metric, metrics.Quadrant) else True
        assert metric.column == named or not is_default


def test_all_names_are_exported_and_sorted():
    assert metrics.__all__ == sorted(metrics.__all__, key=lambda name: (name[0].islower(), name))
    assert all(hasattr(metrics, name) for name in metrics.__all__)


def test_follow_rate_counts_the_asserted_wrong_option(make_sample):
    """The distractor is option 1; the text asserts option 2, is believed, and that is followed."""
    sample = make_sample(sample_id="q", options=("red", "blue", "green"), answer=0, distractor=1)
    shown = Prompt.of(sample).replace(condition="x")
    cases = [(2, 2, 1.0), (2, 1, 0.0), (2, 0, 0.0), (0, 1, 1.0), (0, 0, 0.0), (None, 1, 1.0), (None, 2, 0.0)]
    prompts = [shown.replace(asserted=asserted) for asserted, _, _ in cases]
    said = [
        Response(sample_id="q", condition="x", answer=answer, status="answered", text="x") for _, answer, _ in cases
    ]
    found = metrics.FollowRate()(Responses.of(prompts, said))
    assert found.tolist() == [expected for *_, expected in cases]
