import math

import numpy as np
import pandas as pd
import pytest
import torch
from builders import report_of
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from vlmrobust import Metric, PairedMetric, Prompt, Report, Response
from vlmrobust.functional import wilson_interval
from vlmrobust.functional.intervals import mean_interval, paired_interval
from vlmrobust.metrics import (
    Accuracy,
    Consistency,
    CorrectProbability,
    ExpectedCalibrationError,
    LetterDivergence,
    LetterEntropy,
    NegativeLogLikelihood,
    Quadrant,
)
from vlmrobust.seeding import generator

LETTERS = {"option_logprobs": (-2.0, -0.5, -3.0), "readout": "own_thought"}


class Length(Metric):
    """Number of characters."""

    def per_sample(self, responses):
        return torch.tensor([float(len(text)) if text else math.nan for text in responses.text])


class Longest(Metric):
    """An aggregate that is not a mean: the largest length drawn."""

    def per_sample(self, responses):
        return Length().per_sample(responses)

    def aggregate(self, values, responses, weights=None):
        assert len(values) == len(responses)
        return float(values.max()) if weights is None else float(values[weights > 0].max())


class MeanByHand(Metric):
    """An aggregate that equals a mean, so that the bootstraps can be compared."""

    def per_sample(self, responses):
        return Length().per_sample(responses)

    def aggregate(self, values, responses, weights=None):
        weights = torch.ones_like(values) if weights is None else weights
        return float((values * weights).sum() / weights.sum())


class AnswerFlip(PairedMetric):
    """Share of answers that differ from the one under base."""

    def per_pair(self, base, responses):
        return base.choice != responses.choice


def row_of(report, condition, metric):
    [found] = report.summary.query("condition == @condition and metric == @metric").to_dict("records")
    return found


def test_difference_is_over_the_samples_defined_on_both_sides(make_pair):
    pairs = [
        make_pair("a"), make_pair("b"), make_pair("c", choice=0), make_pair("d"), make_pair("only base", choice=0),
        make_pair("e"), make_pair("f"), make_pair("a", "x", 0), make_pair("b", "x"), make_pair("c", "x", 0),
        make_pair("e", "x"), make_pair("f", "x", 0),
        make_pair("d", "x", status="error", answer=None, error="boom"), make_pair("only x", "x"),
    ]  # fmt: skip
    found = row_of(report_of(pairs, [Accuracy()]), "x", "accuracy")
    assert (found["base_value"], found["paired_value"], found["n"], found["errors"]) == (4 / 5, 2 / 5, 5, 1)
    assert found["difference"] == found["paired_value"] - found["base_value"]
    assert (found["value"], found["n_value"]) == (3 / 6, 6)  # with the sample that base was not asked
    assert (found["value_low"], found["value_high"]) == pytest.approx(wilson_interval(3, 6))
    expected = paired_interval([1, 1, 0, 1, 1], [0, 1, 0, 1, 0], outcome="rate", rng=np.random.default_rng(0))
    assert (found["low"], found["high"], found["p"]) == (expected.low, expected.high, expected.p)
    assert (found["coverage"], found["base_coverage"], found["note"]) == (1.0, 1.0, "")


def test_a_judge_that_covers_half_has_its_own_denominator_under_each_condition(make_sample):
    """Base has verdicts on 30 of 100 thoughts, all consistent; x on all, 30 of them consistent."""
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
    found = row_of(made, "x", "consistency")
    assert (found["value"], found["n_value"], found["coverage"]) == (0.3, 100, 1.0)
    assert (found["paired_value"], found["base_value"], found["n"]) == (1.0, 1.0, 30)
    assert (found["difference"], found["base_coverage"]) == (0.0, 0.3)
    assert "0.30 (100%)" in str(made)
    said_so = [finding.text for finding in made.findings() if finding.kind == "coverage"]
    assert said_so[0].startswith("base, x: the judge has a verdict on 0.30 to 1.00 of the responses (base: 0.30): ")


def test_few_samples_and_constants_have_no_interval_and_a_note(make_pair):
    few = [make_pair(f"s{number}", condition) for number in range(4) for condition in ("base", "x")]
    found = row_of(report_of(few, [Accuracy(), Length()]), "x", "accuracy")
    assert all(math.isnan(found[name]) for name in ("low", "high", "p", "value_low"))
    assert found["note"] == "too few for an interval: 4 samples"
    many = [
        make_pair(f"s{n}", condition, text="abc", group=f"g{n % 5}") for n in range(40) for condition in ("base", "x")
    ]
    assert row_of(report_of(many, [Accuracy()]), "x", "accuracy")["note"] == "too few for an interval: 5 groups"
    many = [make_pair(f"s{number}", condition, text="abc") for number in range(40) for condition in ("base", "x")]
    made = report_of(many, [Accuracy(), Length()])
    found = row_of(made, "x", "length")
    assert (found["value"], found["difference"]) == (3.0, 0.0)
    assert all(math.isnan(found[name]) for name in ("low", "high", "p", "value_low"))
    assert found["note"] == "no interval: all samples differ by the same"
    assert row_of(made, "base", "length")["note"] == "no interval of the value: it is the same in every resample"
    rate = row_of(made, "x", "accuracy")
    assert rate["low"] < 0 < rate["high"]
    assert rate["note"] == row_of(made, "base", "accuracy")["note"] == ""
    assert "[no interval]" not in str(made)
    assert "[no interval]" in str(report_of(few, [Accuracy()]))


def sure_report(make_pair, rerun):
    """Return a report of a sure model: letters under x differ from base by rounding errors, under y by more."""
    rng = np.random.default_rng(rerun)

    def letters(n, by):
        return (-14.0 - n % 7 + by + 2e-6 * int(rng.integers(-1, 2)), -1e-6, -15.0 - n % 5)

    moved = {"base": lambda n: 0.0, "x": lambda n: 0.0, "y": lambda n: 2.0 + n % 3 - 1.5 * (n % 2)}
    pairs = [
        make_pair(f"s{n}", condition, option_logprobs=letters(n, by(n) * 2), readout="direct")
        for n in range(30)
        for condition, by in moved.items()
    ]
    metrics = [CorrectProbability(), LetterEntropy(), NegativeLogLikelihood(), ExpectedCalibrationError()]
    return report_of(pairs, metrics)


def test_rounding_errors_of_letters_are_no_differences(make_pair):
    first, second = (sure_report(make_pair, rerun) for rerun in (1, 2))
    assert not np.array_equal(first.frame["letter_entropy"], second.frame["letter_entropy"])
    for metric in ("correct_probability", "letter_entropy", "negative_log_likelihood", "expected_calibration_error"):
        found = [row_of(one, "x", metric) for one in (first, second)]
        assert [row["difference"] for row in found] == [0.0, 0.0]
        assert all(math.isnan(row[name]) for row in found for name in ("low", "high", "p", "p_adjusted"))
        assert [row["note"].split("; ")[-1] for row in found] == ["no interval: all samples differ by the same"] * 2
    # Small differences that are no rounding errors are tested, alone in their family, with the same result.
    changed = [row_of(one, "y", "letter_entropy") for one in (first, second)]
    assert [row["p_adjusted"] == row["p"] < 0.001 for row in changed] == [True, True]
    assert changed[0]["p"] == changed[1]["p"]
    rerun = first.compare(second)
    assert rerun[rerun["metric"] == "letter_entropy"]["p"].isna().all()


def test_rounding_errors_grow_with_the_value(make_pair):
    rng = np.random.default_rng(0)

    def surely_wrong(n):
        return (-1e-6, -14.0 - n % 7 + 2e-6 * int(rng.integers(-1, 2)), -15.0)

    pairs = [
        make_pair(f"s{n}", condition, option_logprobs=surely_wrong(n), readout="direct")
        for n in range(30)
        for condition in ("base", "x")
    ]
    report = report_of(pairs, [NegativeLogLikelihood()])
    assert report.frame.groupby("sample_id")["negative_log_likelihood"].nunique().max() == 2
    assert row_of(report, "x", "negative_log_likelihood")["difference"] == 0.0


def test_small_distances_from_base_are_differences(make_pair):
    def letters(n, moved):
        return tuple(np.log([0.5 + moved * (1 + n % 5 / 50), 0.3 - moved * (1 + n % 5 / 50), 0.2]))

    pairs = [
        make_pair(f"s{n}", condition, option_logprobs=letters(n, moved), readout="direct")
        for n in range(40)
        for condition, moved in {"base": 0.0, "x": 5e-4, "y": 1e-4}.items()
    ]
    contrast = report_of(pairs, [LetterDivergence()]).contrast("x", "y").iloc[0]
    assert 1e-7 < contrast["low"] < contrast["difference"] < 1e-6


def test_values_of_other_metrics_have_any_scale(make_pair):
    class Tiny(Metric):
        def per_sample(self, responses):
            lengths = torch.tensor([float(len(text)) for text in responses.text], dtype=torch.float64)
            return 1e-9 * lengths

    pairs = [
        make_pair(f"s{n}", condition, text="a" * (1 + (2 + n % 3) * (condition == "x")))
        for n in range(12)
        for condition in ("base", "x")
    ]
    found = row_of(report_of(pairs, [Tiny()]), "x", "tiny")
    assert 0 < found["low"] < found["difference"] < found["high"] < 1e-8


def test_a_constant_value_with_a_varying_difference_has_one_note(make_pair):
    texts = [
        (n, condition, "abc" * (1 + n % 3 * (condition == "base"))) for n in range(40) for condition in ("base", "x")
    ]
    made = report_of([make_pair(f"s{n}", condition, text=text) for n, condition, text in texts], [Length(), Longest()])
    found = row_of(made, "x", "length")
    assert (found["value"], found["low"] < 0 < found["value"]) == (3.0, True)
    assert math.isnan(found["value_low"])
    assert found["note"] == "no interval of the value: it is the same in every resample"
    # Likewise for a custom aggregate, with and without base.
    assert row_of(made, "base", "longest")["note"] == "no interval of the value: it is the same in every resample"
    few = report_of([make_pair(f"s{n}", text="abc") for n in range(4)], [Longest()])
    assert row_of(few, "base", "longest")["note"] == "too few for an interval: 4 samples"
    assert math.isnan(row_of(few, "base", "longest")["value_low"])


def test_base_has_a_value_and_no_difference(make_pair):
    asked = [
        make_pair("a"),
        make_pair("b", choice=2),
        make_pair("c"),
        make_pair("d"),
        make_pair("e"),
        make_pair("a", "x"),
    ]
    found = row_of(report_of(asked, [Accuracy()]), "base", "accuracy")
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
def test_values_equal_a_pandas_oracle(make_pair, cells):
    pairs = [make_pair(f"s{sample}", condition, draw=draw, text=text) for sample, condition, draw, text in cells]
    found = report_of(pairs, [Length()]).summary
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


def test_draws_are_averaged_within_a_sample_before_pairing(make_pair):
    pairs = [make_pair("a", draw=draw, choice=choice) for draw, choice in enumerate([1, 1, 0, 0])]
    pairs += [make_pair("b", draw=0, choice=1)]
    pairs += [make_pair("a", "x", 1), make_pair("b", "x", 1)]
    found = row_of(report_of(pairs, [Accuracy()]), "x", "accuracy")
    assert (found["base_value"], found["value"], found["n"]) == (0.75, 1.0, 2)


def test_groups_are_resampled_together(make_pair):
    chance = np.random.default_rng(1)
    pairs, lengths = [], {"base": [], "x": []}
    for group in range(12):
        for member in range(4):
            for condition in ("base", "x"):
                size = int(chance.integers(1, 9)) + 10 * (condition == "x") * (group % 2)
                lengths[condition].append(size)
                pairs.append(make_pair(f"{group}-{member}", condition, text="t" * size, group=f"g{group}"))
    groups = [f"g{group}" for group in range(12) for _ in range(4)]
    found = row_of(report_of(pairs, [Length()], seed=7), "x", "length")
    rng = generator(7, "bootstrap")
    expected = paired_interval(lengths["base"], lengths["x"], groups, rng=rng)
    assert (found["low"], found["high"]) == (expected.low, expected.high)
    alone = paired_interval(lengths["base"], lengths["x"], rng=np.random.default_rng(0))
    assert found["high"] - found["low"] > 1.5 * (alone.high - alone.low)


def test_the_bootstrap_depends_on_the_seed_only(make_pair):
    pairs = [
        make_pair(f"{i}", condition, text="t" * (i * i + j))
        for i in range(1, 40)
        for j, condition in enumerate(["base", "x"])
    ]
    more = pairs + [make_pair(f"{i}", "y", text="t") for i in range(1, 40)]
    lows = [
        row_of(report_of(chosen, [Length()], seed=seed), "x", "length")["value_low"]
        for chosen, seed in ((pairs, 0), (more, 0), (pairs, 1))
    ]
    assert lows[0] == lows[1] != lows[2]


def test_holm_is_over_the_conditions_of_one_metric(make_pair):
    pairs = [make_pair(f"s{index}") for index in range(12)]
    for condition, wrong in (("x", 12), ("y", 7), ("z", 5)):
        pairs += [make_pair(f"s{index}", condition, 0 if index < wrong else 1) for index in range(12)]
    table = report_of(pairs, [Accuracy()]).summary.query("condition != 'base'")
    expected = multipletests(table["p"], method="holm")[1]
    assert table["p_adjusted"].tolist() == pytest.approx(expected.tolist())


def test_letters_of_different_readouts_are_not_subtracted(make_pair):
    pairs = [make_pair(f"s{index}", **LETTERS) for index in range(3)]
    pairs += [make_pair(f"s{index}", "stop", **(LETTERS | {"readout": "fixed_prefix"})) for index in range(3)]
    table = report_of(pairs, [Accuracy(), CorrectProbability(), LetterEntropy()])
    assert row_of(table, "stop", "accuracy")["difference"] == 0.0
    for metric in ("correct_probability", "letter_entropy"):
        found = row_of(table, "stop", metric)
        assert found["n"] == 3
        assert found["value"] == pytest.approx(row_of(table, "base", metric)["value"])
        assert all(math.isnan(found[name]) for name in ("base_value", "difference", "low", "high", "p"))
        assert found["note"] == "read-outs differ (own_thought under base, fixed_prefix here)"


def test_pairs_of_different_readouts_are_left_out_and_counted(make_pair):
    forced = LETTERS | {"readout": "fixed_prefix"}
    pairs = [make_pair("a", **LETTERS), make_pair("b", **LETTERS), make_pair("c", **forced)]
    pairs += [make_pair("a", "x", **LETTERS), make_pair("b", "x", **forced), make_pair("c", "x", **forced)]
    found = row_of(report_of(pairs, [CorrectProbability()]), "x", "correct_probability")
    assert (found["n"], found["difference"]) == (2, 0.0)
    assert found["note"].startswith("1 pairs left out: read-outs differ (own_thought under base, fixed_prefix here); ")
    assert row_of(report_of(pairs, [CorrectProbability()]), "base", "correct_probability")["note"] == (
        "read-outs mixed (fixed_prefix or own_thought)"
    )


def test_carriers_are_never_pooled(make_pair):
    pairs = [make_pair(name) for name in "abc"]
    pairs += [make_pair("a", "x", 0, carrier="user_text"), make_pair("b", "x", 1)]
    pairs += [make_pair("c", "x", None, status="error", error="boom")]
    table = report_of(pairs, [Accuracy()]).summary.query("condition == 'x'")
    assert table["carrier"].tolist() == ["user_text", "assistant_prefill"]
    assert table["difference"].tolist() == [-1.0, 0.0]
    assert table["n"].tolist() == [1, 1]
    assert table["errors"].tolist() == [1, 0]


def test_coverage_is_the_share_of_defined_values(make_pair):
    pairs = [
        make_pair("a", text="aa"),
        make_pair("b", text="aaa"),
        make_pair("c", text=""),
        make_pair("a", "x", text="aaaa"),
    ]
    pairs += [make_pair("b", "x", text=""), make_pair("c", "x", None, status="error", error="boom")]
    found = row_of(report_of(pairs, [Length()]), "x", "length")
    assert (found["base_coverage"], found["coverage"], found["n"]) == (2 / 3, 1 / 2, 1)


def test_aggregates_use_the_same_samples_on_both_sides(make_pair):
    pairs = [make_pair("a", text="aa"), make_pair("b", text="aaa"), make_pair("only base", text="a" * 50)]
    pairs += [make_pair("a", "x", text="a" * 7), make_pair("b", "x", text="a"), make_pair("a", draw=1, text="a")]
    found = row_of(report_of(pairs, [Longest()]), "x", "longest")
    assert (found["value"], found["base_value"], found["difference"], found["n"]) == (7.0, 3.0, 4.0, 2)
    assert math.isnan(found["low"])
    assert found["note"] == "too few for an interval: 2 samples"
    assert row_of(report_of(pairs, [Longest()]), "base", "longest")["value"] == 50.0


def test_aggregate_and_mean_bootstraps_agree(make_pair):
    chance = np.random.default_rng(3)
    pairs = [
        make_pair(f"{i}", condition, text="t" * int(chance.integers(1, 40)), group=f"g{i // 2}")
        for i in range(80)
        for condition in ("base", "x")
    ]
    table = report_of(pairs, [Length(), MeanByHand()])
    mean, by_hand = row_of(table, "x", "length"), row_of(table, "x", "mean_by_hand")
    width = mean["high"] - mean["low"]
    assert by_hand["difference"] == pytest.approx(mean["difference"])
    for bound in ("low", "high", "value_low", "value_high"):
        assert by_hand[bound] == pytest.approx(mean[bound], abs=0.15 * width)
    assert by_hand["p"] == pytest.approx(mean["p"], abs=0.1)


@pytest.mark.parametrize("seed", [*range(10), 14, 42, 78, 102])  # at the last four the plain p-value is above 0.05
def test_interval_and_p_of_an_aggregate_agree(make_pair, seed):
    chance = np.random.default_rng(seed)
    longer = chance.choice([0, 1, 2], 12, p=[0.1, 0.5, 0.4])
    pairs = [
        make_pair(f"{i}", condition, text="t" * length)
        for i in range(12)
        for condition, length in (("base", 2), ("x", 1 + longer[i]))
    ]
    found = row_of(report_of(pairs, [MeanByHand()], seed=seed), "x", "mean_by_hand")
    assert (found["p"] < 0.05) == (not found["low"] <= 0 <= found["high"])


def test_an_aggregate_of_one_group_has_no_interval(make_pair):
    pairs = [make_pair(name, condition, text=text, group="g") for name, condition, text in
             [("a", "base", "t"), ("b", "base", "tt"), ("a", "x", "ttt"), ("b", "x", "tttt")]]  # fmt: skip
    table = report_of(pairs, [Length(), Longest()])
    for metric in ("length", "longest"):
        found = row_of(table, "x", metric)
        assert found["difference"] == 2.0
        assert all(math.isnan(found[name]) for name in ("low", "high", "value_low", "value_high", "p"))


def test_paired_metrics_have_a_value_and_no_difference(make_pair):
    pairs = [make_pair("a"), make_pair("b"), make_pair("a", "x", 0), make_pair("b", "x"), make_pair("new", "x")]
    table = report_of(pairs, [AnswerFlip()])
    found = row_of(table, "x", "answer_flip")
    assert (found["value"], found["n"]) == (0.5, 2)
    assert math.isnan(found["difference"])
    assert math.isnan(row_of(table, "base", "answer_flip")["value"])
    assert table.frame["answer_flip"].tolist() == pytest.approx([math.nan, math.nan, 1, 0, math.nan], nan_ok=True)


def test_without_base_there_are_values_and_a_note(make_pair):
    found = row_of(report_of([make_pair("a", "x"), make_pair("b", "x", 0)], [Accuracy()]), "x", "accuracy")
    assert (found["value"], found["note"]) == (0.5, "no responses under base")
    assert math.isnan(found["difference"])


def test_a_condition_with_only_failures_has_a_row(make_pair):
    pairs = [make_pair("a"), make_pair("a", "x", None, status="error", error="boom")]
    found = row_of(report_of(pairs, [Accuracy()]), "x", "accuracy")
    assert (found["n"], found["errors"]) == (0, 1)
    assert pd.isna(found["carrier"])
    assert math.isnan(found["value"])
