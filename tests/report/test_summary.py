import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from vlmrobust import Metric, PairedMetric, Prompt, Report, Response
from vlmrobust.functional import wilson_interval
from vlmrobust.functional.intervals import mean_interval, paired_interval
from vlmrobust.metrics import Accuracy, Consistency, CorrectProbability, LetterEntropy, Quadrant
from vlmrobust.seeding import generator

LETTERS = {"option_logprobs": (-2.0, -0.5, -3.0), "readout": "own_thought"}


class Length(Metric):
    """Number of characters."""

    def per_sample(self, responses):
        return torch.tensor([float(len(text)) if text else math.nan for text in responses.text])


class Longest(Metric):
    """An aggregate that is no mean: the largest length drawn."""

    def per_sample(self, responses):
        return Length().per_sample(responses)

    def aggregate(self, values, responses, weights=None):
        assert len(values) == len(responses)
        return float(values.max()) if weights is None else float(values[weights > 0].max())


class MeanByHand(Metric):
    """An aggregate that is a mean after all, so that the bootstrap can be compared."""

    def per_sample(self, responses):
        return Length().per_sample(responses)

    def aggregate(self, values, responses, weights=None):
        weights = torch.ones_like(values) if weights is None else weights
        return float((values * weights).sum() / weights.sum())


class AnswerFlip(PairedMetric):
    """Share of answers that differ from the one under base."""

    def per_pair(self, base, responses):
        return base.choice != responses.choice


def report(pairs, metrics, **settings):
    prompts, responses = zip(*pairs, strict=True)
    return Report.from_responses(prompts, responses, metrics, **settings)


def row(report, condition, metric):
    [found] = report.summary.query("condition == @condition and metric == @metric").to_dict("records")
    return found


def test_difference_is_over_the_samples_defined_on_both_sides(answer):
    pairs = [
        answer("a"), answer("b"), answer("c", choice=0), answer("d"), answer("only base", choice=0), answer("e"),
        answer("f"), answer("a", "x", 0), answer("b", "x"), answer("c", "x", 0), answer("e", "x"), answer("f", "x", 0),
        answer("d", "x", status="error", answer=None, error="boom"), answer("only x", "x"),
    ]  # fmt: skip
    found = row(report(pairs, [Accuracy()]), "x", "accuracy")
    assert (found["base_value"], found["paired_value"], found["n"], found["errors"]) == (4 / 5, 2 / 5, 5, 1)
    assert found["difference"] == found["paired_value"] - found["base_value"]
    assert (found["value"], found["n_value"]) == (3 / 6, 6)  # with the sample that base was not asked
    assert (found["value_low"], found["value_high"]) == pytest.approx(wilson_interval(3, 6))
    expected = paired_interval([1, 1, 0, 1, 1], [0, 1, 0, 1, 0], outcome="rate", rng=np.random.default_rng(0))
    assert (found["low"], found["high"], found["p"]) == (expected.low, expected.high, expected.p)
    assert (found["coverage"], found["base_coverage"], found["note"]) == (1.0, 1.0, "")


def test_a_judge_that_covers_half_has_its_own_denominator_under_each_condition(make_sample):
    """Base thoughts judged on 30 of 100, all consistent; under x all judged, 30 of them consistent."""
    prompts = [
        Prompt.of(make_sample(sample_id=f"q{number}")).replace(condition=condition)
        for condition in ("base", "x")
        for number in range(100)
    ]
    said = [
        Response.parse(
            prompt,
            f"<think>{'So it is red.' if first else 'Hm.' if prompt.condition == 'base' else 'So it is blue.'}</think>"
            "<answer>A</answer>",
        )
        for prompt in prompts
        for first in [int(prompt.sample.id[1:]) < 30]
    ]
    made = Report.from_responses(prompts, said, [Accuracy(), Consistency(), Quadrant(kind="inconsistent_incorrect")])
    found = row(made, "x", "consistency")
    assert (found["value"], found["n_value"], found["coverage"]) == (0.3, 100, 1.0)
    assert (found["paired_value"], found["base_value"], found["n"]) == (1.0, 1.0, 30)
    assert (found["difference"], found["base_coverage"]) == (0.0, 0.3)
    assert "0.30 (100%)" in str(made)
    said_so = [finding.text for finding in made.findings() if finding.kind == "coverage"]
    assert said_so[0].startswith("base, x: the judge has a verdict on 0.30 to 1.00 of the responses (base: 0.30): ")


def test_of_few_samples_and_of_constants_there_is_no_interval_and_the_reason(answer):
    few = [answer(f"s{number}", condition) for number in range(4) for condition in ("base", "x")]
    found = row(report(few, [Accuracy(), Length()]), "x", "accuracy")
    assert all(math.isnan(found[name]) for name in ("low", "high", "p", "value_low"))
    assert found["note"] == "too few for an interval: 4 samples"
    many = [answer(f"s{n}", condition, text="abc", group=f"g{n % 5}") for n in range(40) for condition in ("base", "x")]
    assert row(report(many, [Accuracy()]), "x", "accuracy")["note"] == "too few for an interval: 5 groups"
    many = [answer(f"s{number}", condition, text="abc") for number in range(40) for condition in ("base", "x")]
    made = report(many, [Accuracy(), Length()])
    found = row(made, "x", "length")
    assert (found["value"], found["difference"]) == (3.0, 0.0)
    assert all(math.isnan(found[name]) for name in ("low", "high", "p", "value_low"))
    assert found["note"] == "no interval: all samples differ by the same"
    assert row(made, "base", "length")["note"] == "no interval of the value: it is the same in every resample"
    rate = row(made, "x", "accuracy")
    assert rate["low"] < 0 < rate["high"]
    assert rate["note"] == row(made, "base", "accuracy")["note"] == ""
    assert "[no interval]" not in str(made)
    assert "[no interval]" in str(report(few, [Accuracy()]))


def test_a_constant_beside_what_varies_has_a_reason_for_its_own_interval_alone(answer):
    texts = [
        (n, condition, "abc" * (1 + n % 3 * (condition == "base"))) for n in range(40) for condition in ("base", "x")
    ]
    made = report([answer(f"s{n}", condition, text=text) for n, condition, text in texts], [Length(), Longest()])
    found = row(made, "x", "length")
    assert (found["value"], found["low"] < 0 < found["value"]) == (3.0, True)
    assert math.isnan(found["value_low"])
    assert found["note"] == "no interval of the value: it is the same in every resample"
    # An aggregate of one's own likewise, with or without base beside it.
    assert row(made, "base", "longest")["note"] == "no interval of the value: it is the same in every resample"
    few = report([answer(f"s{n}", text="abc") for n in range(4)], [Longest()])
    assert row(few, "base", "longest")["note"] == "too few for an interval: 4 samples"
    assert math.isnan(row(few, "base", "longest")["value_low"])


def test_base_has_its_value_on_all_that_are_defined_and_no_difference(answer):
    asked = [answer("a"), answer("b", choice=2), answer("c"), answer("d"), answer("e"), answer("a", "x")]
    found = row(report(asked, [Accuracy()]), "base", "accuracy")
    assert (found["value"], found["n"], found["n_value"]) == (4 / 5, 5, 5)
    assert all(math.isnan(found[name]) for name in ("base_value", "difference", "low", "high", "p", "p_adjusted"))
    expected = mean_interval([1, 0, 1, 1, 1], outcome="rate", rng=np.random.default_rng(0))
    assert (found["value_low"], found["value_high"]) == (expected.low, expected.high)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["base", "x", "y"]), st.integers(0, 2), st.text("ab", max_size=6)),
        min_size=1,
        max_size=40,
        unique_by=lambda cell: cell[:3],
    )
)
def test_values_equal_a_pandas_oracle(answer, cells):
    pairs = [answer(f"s{sample}", condition, draw=draw, text=text) for sample, condition, draw, text in cells]
    found = report(pairs, [Length()]).summary
    table = pd.DataFrame(cells, columns=["sample", "condition", "draw", "text"])
    table["length"] = table["text"].str.len().replace(0, np.nan).astype(float)
    means = table.groupby(["sample", "condition"])["length"].mean().unstack("condition")  # noqa: PD010 - pivot_table drops what is NaN throughout
    for record in found.to_dict("records"):
        own = means[record["condition"]]
        if record["condition"] == "base" or "base" not in means or not (own.notna() & means["base"].notna()).any():
            assert record["value"] == pytest.approx(own.mean(), nan_ok=True)
            assert math.isnan(record["difference"])
            continue
        both = means[["base", record["condition"]]].dropna()
        assert record["n"] == len(both)
        assert (record["value"], record["n_value"]) == (pytest.approx(own.mean()), own.count())
        assert record["paired_value"] == pytest.approx(both[record["condition"]].mean())
        assert record["base_value"] == pytest.approx(both["base"].mean())


def test_draws_are_averaged_within_a_sample_before_pairing(answer):
    pairs = [answer("a", draw=draw, choice=choice) for draw, choice in enumerate([1, 1, 0, 0])]
    pairs += [answer("b", draw=0, choice=1)]
    pairs += [answer("a", "x", 1), answer("b", "x", 1)]
    found = row(report(pairs, [Accuracy()]), "x", "accuracy")
    assert (found["base_value"], found["value"], found["n"]) == (0.75, 1.0, 2)


def test_groups_are_resampled_together(answer):
    chance = np.random.default_rng(1)
    pairs, lengths = [], {"base": [], "x": []}
    for group in range(12):
        for member in range(4):
            for condition in ("base", "x"):
                size = int(chance.integers(1, 9)) + 10 * (condition == "x") * (group % 2)
                lengths[condition].append(size)
                pairs.append(answer(f"{group}-{member}", condition, text="t" * size, group=f"g{group}"))
    groups = [f"g{group}" for group in range(12) for _ in range(4)]
    found = row(report(pairs, [Length()], seed=7), "x", "length")
    rng = generator(7, "bootstrap")
    expected = paired_interval(lengths["base"], lengths["x"], groups, rng=rng)
    assert (found["low"], found["high"]) == (expected.low, expected.high)
    alone = paired_interval(lengths["base"], lengths["x"], rng=np.random.default_rng(0))
    assert found["high"] - found["low"] > 1.5 * (alone.high - alone.low)


def test_the_seed_decides_the_bootstrap_and_other_conditions_do_not(answer):
    pairs = [
        answer(f"{i}", condition, text="t" * (i * i + j))
        for i in range(1, 40)
        for j, condition in enumerate(["base", "x"])
    ]
    more = pairs + [answer(f"{i}", "y", text="t") for i in range(1, 40)]
    lows = [
        row(report(chosen, [Length()], seed=seed), "x", "length")["value_low"]
        for chosen, seed in ((pairs, 0), (more, 0), (pairs, 1))
    ]
    assert lows[0] == lows[1] != lows[2]


def test_holm_is_over_the_conditions_of_one_metric(answer):
    pairs = [answer(f"s{index}") for index in range(12)]
    for condition, wrong in (("x", 12), ("y", 7), ("z", 5)):
        pairs += [answer(f"s{index}", condition, 0 if index < wrong else 1) for index in range(12)]
    table = report(pairs, [Accuracy()]).summary.query("condition != 'base'")
    expected = multipletests(table["p"], method="holm")[1]
    assert table["p_adjusted"].tolist() == pytest.approx(expected.tolist())


def test_letters_of_different_readouts_are_not_subtracted(answer):
    pairs = [answer(f"s{index}", **LETTERS) for index in range(3)]
    pairs += [answer(f"s{index}", "stop", **(LETTERS | {"readout": "fixed_prefix"})) for index in range(3)]
    table = report(pairs, [Accuracy(), CorrectProbability(), LetterEntropy()])
    assert row(table, "stop", "accuracy")["difference"] == 0.0
    for metric in ("correct_probability", "letter_entropy"):
        found = row(table, "stop", metric)
        assert found["n"] == 3
        assert found["value"] == pytest.approx(row(table, "base", metric)["value"])
        assert all(math.isnan(found[name]) for name in ("base_value", "difference", "low", "high", "p"))
        assert found["note"] == "read-outs differ (own_thought under base, fixed_prefix here)"


def test_pairs_of_different_readouts_are_left_out_and_counted(answer):
    forced = LETTERS | {"readout": "fixed_prefix"}
    pairs = [answer("a", **LETTERS), answer("b", **LETTERS), answer("c", **forced)]
    pairs += [answer("a", "x", **LETTERS), answer("b", "x", **forced), answer("c", "x", **forced)]
    found = row(report(pairs, [CorrectProbability()]), "x", "correct_probability")
    assert (found["n"], found["difference"]) == (2, 0.0)
    assert found["note"].startswith("1 pairs left out: read-outs differ (own_thought under base, fixed_prefix here); ")
    assert row(report(pairs, [CorrectProbability()]), "base", "correct_probability")["note"] == (
        "read-outs mixed (fixed_prefix or own_thought)"
    )


def test_carriers_are_never_pooled(answer):
    pairs = [answer(name) for name in "abc"]
    pairs += [answer("a", "x", 0, carrier="user_text"), answer("b", "x", 1)]
    pairs += [answer("c", "x", None, status="error", error="boom")]
    table = report(pairs, [Accuracy()]).summary.query("condition == 'x'")
    assert table["carrier"].tolist() == ["user_text", "assistant_prefill"]
    assert table["difference"].tolist() == [-1.0, 0.0]
    assert table["n"].tolist() == [1, 1]
    assert table["errors"].tolist() == [1, 0]


def test_coverage_stands_beside_what_is_undefined_for_some(answer):
    pairs = [answer("a", text="aa"), answer("b", text="aaa"), answer("c", text=""), answer("a", "x", text="aaaa")]
    pairs += [answer("b", "x", text=""), answer("c", "x", None, status="error", error="boom")]
    found = row(report(pairs, [Length()]), "x", "length")
    assert (found["base_coverage"], found["coverage"], found["n"]) == (2 / 3, 1 / 2, 1)


def test_an_aggregate_is_taken_over_the_same_samples_on_both_sides(answer):
    pairs = [answer("a", text="aa"), answer("b", text="aaa"), answer("only base", text="a" * 50)]
    pairs += [answer("a", "x", text="a" * 7), answer("b", "x", text="a"), answer("a", draw=1, text="a")]
    found = row(report(pairs, [Longest()]), "x", "longest")
    assert (found["value"], found["base_value"], found["difference"], found["n"]) == (7.0, 3.0, 4.0, 2)
    assert math.isnan(found["low"])
    assert found["note"] == "too few for an interval: 2 samples"
    assert row(report(pairs, [Longest()]), "base", "longest")["value"] == 50.0


def test_the_bootstrap_of_an_aggregate_agrees_with_that_of_a_mean(answer):
    chance = np.random.default_rng(3)
    pairs = [
        answer(f"{i}", condition, text="t" * int(chance.integers(1, 40)), group=f"g{i // 2}")
        for i in range(80)
        for condition in ("base", "x")
    ]
    table = report(pairs, [Length(), MeanByHand()])
    mean, by_hand = row(table, "x", "length"), row(table, "x", "mean_by_hand")
    width = mean["high"] - mean["low"]
    assert by_hand["difference"] == pytest.approx(mean["difference"])
    for bound in ("low", "high", "value_low", "value_high"):
        assert by_hand[bound] == pytest.approx(mean[bound], abs=0.15 * width)
    assert by_hand["p"] == pytest.approx(mean["p"], abs=0.1)


@pytest.mark.parametrize("seed", [*range(10), 14, 42, 78, 102])  # at the last four the plain p-value is above 0.05
def test_interval_and_p_of_an_aggregate_agree_where_it_is_close(answer, seed):
    chance = np.random.default_rng(seed)
    longer = chance.choice([0, 1, 2], 12, p=[0.1, 0.5, 0.4])
    pairs = [
        answer(f"{i}", condition, text="t" * length)
        for i in range(12)
        for condition, length in (("base", 2), ("x", 1 + longer[i]))
    ]
    found = row(report(pairs, [MeanByHand()], seed=seed), "x", "mean_by_hand")
    assert (found["p"] < 0.05) == (not found["low"] <= 0 <= found["high"])


def test_an_aggregate_of_one_group_has_no_interval(answer):
    pairs = [answer(name, condition, text=text, group="g") for name, condition, text in
             [("a", "base", "t"), ("b", "base", "tt"), ("a", "x", "ttt"), ("b", "x", "tttt")]]  # fmt: skip
    table = report(pairs, [Length(), Longest()])
    for metric in ("length", "longest"):
        found = row(table, "x", metric)
        assert found["difference"] == 2.0
        assert all(math.isnan(found[name]) for name in ("low", "high", "value_low", "value_high", "p"))


def test_paired_metrics_have_a_value_and_no_difference(answer):
    pairs = [answer("a"), answer("b"), answer("a", "x", 0), answer("b", "x"), answer("new", "x")]
    table = report(pairs, [AnswerFlip()])
    found = row(table, "x", "answer_flip")
    assert (found["value"], found["n"]) == (0.5, 2)
    assert math.isnan(found["difference"])
    assert math.isnan(row(table, "base", "answer_flip")["value"])
    assert table.frame["answer_flip"].tolist() == pytest.approx([math.nan, math.nan, 1, 0, math.nan], nan_ok=True)


def test_without_base_there_are_values_and_a_note(answer):
    found = row(report([answer("a", "x"), answer("b", "x", 0)], [Accuracy()]), "x", "accuracy")
    assert (found["value"], found["note"]) == (0.5, "no responses under base")
    assert math.isnan(found["difference"])


def test_a_condition_that_failed_throughout_has_a_row(answer):
    pairs = [answer("a"), answer("a", "x", None, status="error", error="boom")]
    found = row(report(pairs, [Accuracy()]), "x", "accuracy")
    assert (found["n"], found["errors"]) == (0, 1)
    assert pd.isna(found["carrier"])
    assert math.isnan(found["value"])
