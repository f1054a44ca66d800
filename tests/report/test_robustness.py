"""Test the worst case over conditions and hedge recovery against tables of responses."""

import math

import numpy as np
import pytest

from vlmrobust import Report
from vlmrobust.functional import tango_interval, wilson_interval
from vlmrobust.metrics import Accuracy


def report_of(*answers, seed=0):
    prompts, responses = zip(*answers, strict=True)
    return Report.from_responses(prompts, responses, [Accuracy()], seed=seed)


def pairs_by_condition(make_pair, **choices):
    """Return responses to samples s0, s1, … by condition; 1 is right, None unparsed."""
    return [
        make_pair(f"s{index}", condition, choice)
        for condition, row in choices.items()
        for index, choice in enumerate(row)
        if choice != "missing"
    ]


def test_an_answer_must_be_right_under_base_and_all_conditions(make_pair):
    rows = {"base": [1, 1, 1, 0] * 2, "x": [1, 0, 1, 1] * 2, "y": [1, 1, None, 1] * 2}
    report = report_of(*pairs_by_condition(make_pair, **rows))
    row = report.robust_accuracy(greedy=True).iloc[0]
    assert (row["condition"], row["metric"], row["n"]) == ("x & y", "accuracy", 8)
    assert (row["value"], row["base_value"], row["difference"]) == (0.25, 0.75, -0.5)
    assert (row["value_low"], row["value_high"]) == pytest.approx(wilson_interval(2, 8))
    assert (row["low"], row["high"]) == pytest.approx(tango_interval(4, 0, 8))
    assert row["note"] == ""
    assert report.robust_accuracy(["x"]).iloc[0]["value"] == 0.5
    assert report.robust_accuracy(["base", "y"]).iloc[0]["value"] == 0.5


def test_samples_without_one_of_the_conditions_are_left_out(make_pair):
    answers = pairs_by_condition(make_pair, base=[1, 1, 1, 1], x=[1, "missing", 1, 1], y=[1, 1, 1, 0])
    answers += [make_pair("s4"), make_pair("s4", "x"), make_pair("s4", "y", None, status="error", error="lost")]
    answers += [make_pair("s0", "nowhere", None, status="not_applicable", error="does not fit")]
    row = report_of(*answers).robust_accuracy(greedy=True).iloc[0]
    assert (row["condition"], row["n"], row["value"]) == ("x & y", 3, pytest.approx(2 / 3))
    assert row["note"] == (
        "2 samples left out: a condition was not asked, failed or does not fit; too few for an interval: 3 samples"
    )


def test_draws_are_paired_and_base_is_repeated_as_often(make_pair):
    """Three of four draws are right: two of them, drawn without replacement, are both right in 3 of 6 pairs."""
    answers = [make_pair("a", draw=draw, choice=choice) for draw, choice in enumerate([1, 1, 0, 1])]
    answers += [make_pair("a", "x", draw=draw, choice=choice) for draw, choice in enumerate([1, 0, 1, 1])]
    row = report_of(*answers).robust_accuracy().iloc[0]
    assert (row["value"], row["base_value"], row["n"]) == (0.5, pytest.approx(0.5), 1)


def sampled_pairs(make_pair, rates, draws, conditions, seed):
    generator = np.random.default_rng(seed)
    return [
        make_pair(f"s{index}", condition, int(generator.random() < rate), draw=draw)
        for condition in ("base", *conditions)
        for index, rate in enumerate(rates)
        for draw in range(draws)
    ]


def test_an_unaffected_sampler_shows_no_drop(make_pair):
    """With r = 0.8, five answers are all right with probability 0.8 ** 5, under conditions and base alike."""
    rows = [
        report_of(*sampled_pairs(make_pair, [0.8] * 40, 5, "wxyz", seed)).robust_accuracy().iloc[0]
        for seed in range(20)
    ]
    assert np.mean([row["value"] for row in rows]) == pytest.approx(0.8**5, abs=0.03)
    assert np.mean([row["base_value"] for row in rows]) == pytest.approx(0.8**5, abs=0.03)
    assert sum(not row["low"] <= 0 <= row["high"] for row in rows) <= 3
    assert all(math.isnan(row["noise_floor"]) for row in rows)  # from twice as many draws on


def test_the_floor_is_the_mean_absolute_difference_of_two_runs(make_pair):
    """With six draws each, three answers are right with probability q = 0.8 ** 3."""
    q, rows = (
        0.8**3,
        [
            report_of(*sampled_pairs(make_pair, [0.8] * 60, 6, "wx", seed)).robust_accuracy().iloc[0]
            for seed in range(10)
        ],
    )
    expected = math.sqrt(2 / math.pi * 2 * q * (1 - q) / 6 / 60)
    assert np.mean([row["noise_floor"] for row in rows]) == pytest.approx(expected, rel=0.1)


def test_equal_draws_are_not_taken_for_greedy_ones(make_pair):
    # With 8 conditions and 98 % right answers, all are right for 85 of 100 samples, but two equal base draws for 100.
    alike = [pair for pair in sampled_pairs(make_pair, [0.98] * 40, 2, "abcdefg", 3) if pair[1].condition != "base"]
    alike += sampled_pairs(make_pair, [1.0] * 40, 2, "", 0)
    row = report_of(*alike).robust_accuracy().iloc[0]
    assert row["value"] < 1.0
    assert math.isnan(row["base_value"])
    assert math.isnan(row["p"])
    assert row["note"].startswith(
        "40 samples without 8 draws under base, which the comparison needs unless greedy=True"
    )


@pytest.mark.parametrize(
    ("generation", "is_greedy"),
    [
        ({"do_sample": False, "max_new_tokens": 8}, True),
        ({"do_sample": True}, False),
        ({"max_tokens": 8, "temperature": 0, "seed": 0}, True),
        ({"max_tokens": 8, "temperature": 0.7, "seed": 0}, False),
        ({"max_tokens": 8, "temperature": None}, False),
        (None, False),
    ],
)
def test_greedy_decoding_is_read_from_the_manifest(make_pair, generation, is_greedy):
    manifest = {"model": {"class": "x"} | ({} if generation is None else {"generation": generation})}
    report = report_of(*pairs_by_condition(make_pair, base=[1, 1, 0] * 3, x=[1, 0, 0] * 3))
    known = Report(report.responses, report._columns, manifest=manifest)
    assert math.isnan(known.robust_accuracy().iloc[0]["base_value"]) is not is_greedy
    assert known.robust_accuracy(greedy=True).iloc[0]["base_value"] == pytest.approx(2 / 3)
    assert math.isnan(known.robust_accuracy(greedy=False).iloc[0]["base_value"])


def test_too_few_draws_are_noted_unless_greedy(make_pair):
    row = report_of(*sampled_pairs(make_pair, [0.5] * 30, 4, "wxyz", 0)).robust_accuracy().iloc[0]
    assert not math.isnan(row["value"])
    assert all(math.isnan(row[name]) for name in ("base_value", "difference", "low", "p", "noise_floor"))
    assert row["note"].startswith(
        "30 samples without 5 draws under base, which the comparison needs unless greedy=True"
    )
    greedy = (
        report_of(*sampled_pairs(make_pair, [1.0] * 10 + [0.0] * 5, 2, "wxyz", 0)).robust_accuracy(greedy=True).iloc[0]
    )
    assert (greedy["value"], greedy["base_value"]) == pytest.approx((2 / 3, 2 / 3))
    assert (greedy["noise_floor"], greedy["note"]) == (0.0, "")


def test_robust_accuracy_refuses_missing_conditions(make_pair):
    report = report_of(make_pair("a"), make_pair("a", "x"))
    with pytest.raises(KeyError, match="expected one of the conditions base, x; got 'y'"):
        report.robust_accuracy(["y"])
    with pytest.raises(ValueError, match="expected conditions other than 'base', got none"):
        report_of(make_pair("a")).robust_accuracy()
    with pytest.raises(KeyError, match="expected one of the conditions x; got 'base'"):
        report_of(make_pair("a", "x")).robust_accuracy()


def test_a_condition_with_two_carriers_is_noted(make_pair):
    answers = [
        *pairs_by_condition(make_pair, base=[1, 1]),
        make_pair("s0", "x"),
        make_pair("s1", "x", carrier="user_text"),
    ]
    assert report_of(*answers).robust_accuracy().iloc[0]["note"].startswith("x was carried in several ways; ")


def test_recovery_is_the_share_of_the_drop_with_a_bootstrap_interval(make_pair):
    rng = np.random.default_rng(0)
    base = (rng.random(200) < 0.9).astype(int).tolist()
    plain = [right * int(rng.random() < 0.4) for right in base]
    hedged = [max(right, int(before and rng.random() < 0.5)) for right, before in zip(plain, base, strict=True)]
    report = report_of(*pairs_by_condition(make_pair, base=base, wrong_think=plain, wrong_think_but=hedged))
    [row] = report.hedge_recovery().to_dict("records")
    assert (row["condition"], row["reference"], row["metric"]) == ("wrong_think_but", "wrong_think", "accuracy")
    before, without, with_hedge = (np.mean(side) for side in (base, plain, hedged))
    assert (row["base_value"], row["reference_value"], row["value"]) == pytest.approx((before, without, with_hedge))
    assert row["drop"] == pytest.approx(before - without)
    assert row["share"] == pytest.approx((with_hedge - without) / (before - without))
    gain, drop = np.subtract(hedged, plain), np.subtract(base, plain)
    drawn = np.random.default_rng(1).integers(200, size=(4000, 200))
    expected = np.quantile(gain[drawn].sum(1) / drop[drawn].sum(1), [0.025, 0.975])
    assert (row["low"], row["high"]) == pytest.approx(expected, abs=0.015)
    assert row["n"] == 200


def test_no_drop_has_no_share(make_pair):
    same = {"base": [1, 0, 1], "wrong_caption": [1, 1, 1], "wrong_caption_disclaimer": [1, 1, 1]}
    [row] = report_of(*pairs_by_condition(make_pair, **same)).hedge_recovery().to_dict("records")
    assert all(math.isnan(row[name]) for name in ("share", "low", "high"))
    assert row["note"] == "no drop under wrong_caption"
    assert row["drop"] == pytest.approx(-1 / 3)


def test_a_drop_indistinguishable_from_zero_has_no_interval(make_pair):
    small = {"base": [1] * 8, "wrong_think": [0, *[1] * 7], "wrong_think_but": [1] * 8}
    [row] = report_of(*pairs_by_condition(make_pair, **small)).hedge_recovery().to_dict("records")
    assert row["share"] == 1
    assert math.isnan(row["low"])
    assert row["note"] == "the drop under wrong_think is not set apart from 0"


def test_full_recovery_keeps_an_interval(make_pair):
    full = {"base": [1] * 10, "wrong_think": [0] * 6 + [1] * 4, "wrong_think_but": [1] * 10}
    [row] = report_of(*pairs_by_condition(make_pair, **full)).hedge_recovery().to_dict("records")
    assert (row["share"], row["low"], row["high"]) == pytest.approx((1, *wilson_interval(6, 6)))
    none = full | {"wrong_think_but": full["wrong_think"]}
    [row] = report_of(*pairs_by_condition(make_pair, **none)).hedge_recovery().to_dict("records")
    assert (row["share"], row["low"], row["high"]) == pytest.approx((0, *wilson_interval(0, 6)))


def test_truncated_answers_do_not_count_as_recoverable(make_pair):
    """Only the unhedged condition is truncated: these answers count in `unanswered` alone."""
    rows = [make_pair(f"s{index}", condition, 1) for index in range(20) for condition in ("base", "wrong_think_but")]
    rows += [
        make_pair(
            f"s{index}", "wrong_think", None if index < 8 else 1, **({"status": "truncated"} if index < 8 else {})
        )
        for index in range(20)
    ]
    [row] = report_of(*rows).hedge_recovery().to_dict("records")
    assert (row["drop"], row["recovered"], row["unanswered"], row["n"]) == pytest.approx((0.0, 0.0, 0.4, 12))
    assert math.isnan(row["share"])
    assert row["note"] == "no drop under wrong_think"


def test_composed_conditions_are_hedged_too_and_carriers_are_not_mixed(make_pair):
    choices = {"base": [1, 1, 1], "wrong_think+abstain_option": [0, 0, 0], "wrong_think_but+abstain_option": [1, 0, 0]}
    [row] = report_of(*pairs_by_condition(make_pair, **choices)).hedge_recovery().to_dict("records")
    assert (row["reference"], row["share"]) == ("wrong_think+abstain_option", pytest.approx(1 / 3))
    plain = pairs_by_condition(make_pair, base=[1, 1], wrong_think=[0, 0])
    other = [make_pair(f"s{index}", "wrong_think_but", 1, carrier="user_text") for index in range(2)]
    assert report_of(*plain, *other).hedge_recovery().empty


def test_an_empty_table_has_its_columns(make_pair):
    report = report_of(make_pair("a"))
    assert list(report.hedge_recovery().columns)[:3] == ["condition", "reference", "metric"]
    assert report.hedge_recovery()["n"].dtype == "int64"


def grouped_pairs(make_pair, groups, size, hedged):
    """The thought makes all base answers wrong; the hedge recovers those for which `hedged(group, place)` is true."""
    return [
        make_pair(f"s{group}-{place}", condition, choice, group=f"g{group:02}")
        for group in range(groups)
        for place in range(size)
        for condition, choice in (("base", 1), ("wrong_think", 0), ("wrong_think_but", int(hedged(group, place))))
    ]


@pytest.mark.parametrize(("groups", "size", "unit"), [(3, 10, "groups"), (2, 23, "groups"), (5, 1, "samples")])
@pytest.mark.parametrize("back", ["all", "some"])
def test_recovery_over_few_groups_has_no_interval(make_pair, groups, size, unit, back):
    rows = grouped_pairs(make_pair, groups, size, lambda group, place: back == "all" or (group + place) % 2 == 0)
    [row] = report_of(*rows).hedge_recovery().to_dict("records")
    assert 0 < row["share"] <= 1
    assert math.isnan(row["low"])
    assert math.isnan(row["high"])
    assert row["note"] == f"too few for an interval: {groups} {unit} with a change"


def test_unchanged_groups_do_not_count_for_the_interval(make_pair):
    """Only five of eight groups change."""
    rows = [
        make_pair(f"s{group}-{place}", condition, choice, group=f"g{group}")
        for group in range(8)
        for place in range(4)
        for condition, choice in (
            ("base", 1),
            ("wrong_think", int(group > 4)),
            ("wrong_think_but", int(group > 4 or place < 2 + group % 2)),
        )
    ]
    [row] = report_of(*rows).hedge_recovery().to_dict("records")
    assert (row["n"], row["note"]) == (32, "too few for an interval: 5 groups with a change")


def test_a_recovery_interval_has_positive_width(make_pair):
    [row] = (
        report_of(*grouped_pairs(make_pair, 30, 10, lambda group, place: place % 2)).hedge_recovery().to_dict("records")
    )
    assert row["share"] == 0.5
    assert math.isnan(row["low"])
    assert row["note"] == "no interval: all that drop get the same share back"
    varied = grouped_pairs(make_pair, 30, 10, lambda group, place: place < 4 + group % 3)
    [row] = report_of(*varied).hedge_recovery().to_dict("records")
    assert row["low"] < row["share"] < row["high"]
    assert row["note"] == ""


def test_samples_with_a_single_draw_are_included(make_pair):
    """Base has four draws, the condition one, and none for one sample: only that sample is left out."""
    rows = [make_pair(f"s{n}", "base", 1, draw=draw) for n in range(12) for draw in range(4)]
    rows += [make_pair(f"s{n}", "x", int(n < 6)) for n in range(11)]
    [row] = report_of(*rows).robust_accuracy(greedy=False).to_dict("records")
    assert (row["n"], row["value"]) == (11, pytest.approx(6 / 11))
    assert row["note"] == "1 samples left out: a condition was not asked, failed or does not fit"
    lost = {"status": "error", "error": "lost"}
    rows = [make_pair(f"s{n}", name, 1, draw=draw) for n in range(12) for draw in range(4) for name in ("base", "x")]
    rows = [
        make_pair(prompt.sample.id, "x", None, draw=3, **lost) if (prompt.condition, prompt.draw) == ("x", 3) else pair
        for pair in rows
        for prompt in pair[:1]
    ]
    [row] = report_of(*rows).robust_accuracy(greedy=False).to_dict("records")
    assert (row["n"], row["value"], row["note"]) == (12, 1.0, "")


@pytest.mark.parametrize("draws", [2, 3, 4])
def test_an_unknown_noise_floor_notes_the_draws_it_needs(make_pair, draws):
    rows = [make_pair(f"s{n}", name, int(n % 5 > draw % 2), draw=draw)
            for n in range(12) for draw in range(draws) for name in ("base", "x")]  # fmt: skip
    [row] = report_of(*rows).robust_accuracy(greedy=False).to_dict("records")
    assert row["note"] == ("" if draws == 4 else "no noise floor: it needs 4 draws under base")
    assert math.isnan(row["noise_floor"]) == (draws < 4)
