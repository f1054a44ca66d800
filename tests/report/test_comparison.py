import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from vlmrobust import Metric, PairedMetric, Report
from vlmrobust.functional import paired_interval
from vlmrobust.metrics import Accuracy, CorrectProbability, FollowRate
from vlmrobust.seeding import generator

LETTERS = {"option_logprobs": (-2.0, -0.5, -3.0), "readout": "own_thought"}


class Length(Metric):
    """Number of characters."""

    least: int = 1

    def per_sample(self, responses):
        return torch.tensor([float(len(text)) if len(text) >= self.least else math.nan for text in responses.text])


class Total(Metric):
    """An aggregate that is no mean."""

    def per_sample(self, responses):
        return Length().per_sample(responses)

    def aggregate(self, values, responses, weights=None):
        assert len(values) == len(responses)
        return float(values.sum() if weights is None else (values * weights).sum())


class AnswerFlip(PairedMetric):
    """Share of answers that differ from the one under base."""

    def per_pair(self, base, responses):
        return base.choice != responses.choice


ACCURACY = (Accuracy(),)


def report(pairs, metrics=ACCURACY, **settings):
    prompts, responses = zip(*pairs, strict=True)
    return Report.from_responses(prompts, responses, metrics, **settings)


def row(table, condition, metric="accuracy"):
    [found] = table.query("condition == @condition and metric == @metric").to_dict("records")
    return found


FEW = "too few for an interval"


def answers(answer, condition, choices, **fields):
    return [answer(f"s{number}", condition, choice, **fields) for number, choice in enumerate(choices)]


def test_each_condition_is_compared_with_the_same_condition_there(answer):
    here = report(answers(answer, "base", [1, 1, 1, 0] * 2) + answers(answer, "x", [1, 1, 0, 0] * 2))
    there = report(answers(answer, "x", [0, 0, 0, 0] * 2) + answers(answer, "base", [1, 0, 1, 1] * 2))
    table = here.compare(there)
    assert table["condition"].tolist() == ["base", "x"]
    assert list(table.columns) == list(here.summary.columns)
    found = row(table, "base")
    assert (found["value"], found["base_value"], found["difference"], found["n"]) == (0.75, 0.75, 0.0, 8)
    found = row(table, "x")
    assert (found["value"], found["base_value"], found["difference"]) == (0.5, 0.0, 0.5)
    expected = paired_interval([0] * 8, [1, 1, 0, 0] * 2, outcome="rate", rng=np.random.default_rng(0))
    assert (found["low"], found["high"], found["p"]) == (expected.low, expected.high, expected.p)
    assert (table["note"] == "").all()


def test_turned_round_it_is_the_same_with_the_opposite_sign(answer):
    here = report(answers(answer, "base", [1, 1, 1, 0, 1, 1]))
    there = report(answers(answer, "base", [1, 0, 0, 1, 0, 0]))
    one, other = row(here.compare(there), "base"), row(there.compare(here), "base")
    assert (one["value"], one["difference"]) == (other["base_value"], -other["difference"])
    assert (one["low"], one["high"]) == pytest.approx((-other["high"], -other["low"]))
    assert one["p"] == other["p"]


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_differences_equal_a_pandas_oracle(answer, data):
    cells = st.tuples(
        st.integers(0, 4), st.sampled_from(["base", "x"]), st.integers(0, 1), st.text("ab", min_size=0, max_size=5)
    )
    sides = [data.draw(st.lists(cells, min_size=1, max_size=20, unique_by=lambda cell: cell[:3])) for _ in range(2)]
    frames, reports = [], []
    for side in sides:
        made = [answer(f"s{sample}", condition, draw=draw, text=text) for sample, condition, draw, text in side]
        reports.append(report(made, [Length()]))
        frame = pd.DataFrame(side, columns=["sample", "condition", "draw", "text"])
        frame["length"] = frame["text"].str.len().replace(0, np.nan).astype(float)
        frames.append(frame.set_index(["sample", "condition", "draw"]).sort_index()["length"])
    keys = ["sample", "condition"]
    common = pd.concat([frame.groupby(keys).size() for frame in frames], axis=1).min(axis=1, skipna=False)
    here, there = (
        frame[frame.groupby(keys).cumcount() < frame.index.droplevel("draw").map(common)].groupby(keys).mean()
        for frame in frames
    )
    ids, conditions = ([set(frame.index.get_level_values(level)) for frame in frames] for level in (0, 1))
    if not set.intersection(*ids) or not set.intersection(*conditions):
        with pytest.raises(ValueError, match="in common"):
            reports[0].compare(reports[1])
        return
    pairs = pd.concat([here, there], axis=1, keys=["here", "there"]).dropna()
    for found in reports[0].compare(reports[1]).to_dict("records"):
        of_condition = pairs[pairs.index.get_level_values("condition") == found["condition"]]
        if of_condition.empty:
            assert math.isnan(found["difference"])
            continue
        assert found["n"] == len(of_condition)
        assert found["paired_value"] == pytest.approx(of_condition["here"].mean())
        assert found["base_value"] == pytest.approx(of_condition["there"].mean())
        assert found["difference"] == pytest.approx((of_condition["here"] - of_condition["there"]).mean())


def test_as_many_draws_are_compared_as_both_reports_have_of_a_sample(answer):
    def drawn(choices):
        return [answer(f"s{n}", draw=draw, choice=right) for n, own in enumerate(choices) for draw, right in own]

    here = report(drawn([[(3, 0), (1, 1), (0, 1)], [(0, 0)], [(0, 1), (1, 1)]]))
    there = report(drawn([[(5, 0)], [(0, 1), (1, 0), (2, 0)], [(1, 0), (0, 1)]]))
    found = row(here.compare(there), "base")
    assert (found["paired_value"], found["base_value"], found["n"]) == (2 / 3, 0.5, 3)
    assert "draws differ in number: as many are compared as both reports have of a sample" in found["note"]
    assert row(here.compare(here), "base")["note"].find("draws differ") == -1


def test_a_run_of_many_draws_does_not_differ_from_one_of_a_single_draw(answer):
    # Failures are rare: a mean of 20 draws is below 1 more often than one draw is, in small steps.
    chance, sets, draws, below = np.random.default_rng(5), 200, 20, 0
    for _ in range(sets):
        right = (chance.random((40, draws + 1)) < 0.96).astype(int).tolist()
        many = report([answer(f"s{n}", draw=d, choice=right[n][d]) for n in range(40) for d in range(draws)])
        one = report([answer(f"s{n}", choice=right[n][draws]) for n in range(40)])
        below += row(many.compare(one), "base")["p"] < 0.05
    assert below / sets <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / sets)


def test_groups_are_resampled_together_keyed_by_this_reports_seed(answer):
    chance = np.random.default_rng(0)
    lengths = {side: chance.integers(1, 30, size=12).repeat(4) + chance.integers(0, 3, size=48) for side in "ab"}
    sides = {
        side: report(
            [answer(f"s{n}", text="t" * int(lengths[side][n]), group=f"g{n // 4:02d}") for n in range(48)],
            [Length()],
            seed=seed,
        )
        for side, seed in (("a", 7), ("b", 8))
    }
    found = row(sides["a"].compare(sides["b"]), "base", "length")
    rng = generator(7, "bootstrap")
    expected = paired_interval(lengths["b"], lengths["a"], np.arange(48) // 4, rng=rng)
    assert (found["low"], found["high"], found["p"]) == (expected.low, expected.high, expected.p)


def test_holm_is_over_the_conditions_of_one_metric(answer):
    here, there = [], []
    for condition, wrong in (("base", 1), ("x", 9), ("y", 7), ("z", 5)):
        here += answers(answer, condition, [1] * 12)
        there += answers(answer, condition, [0] * wrong + [1] * (12 - wrong))
    table = report(here).compare(report(there))
    assert table["p_adjusted"].tolist() == pytest.approx(multipletests(table["p"], method="holm")[1].tolist())


def test_what_is_in_one_report_alone_is_counted(answer):
    here = report(answers(answer, "base", [1, 1, 1]) + answers(answer, "x", [1]) + [answer("mine", choice=0)])
    there = report(answers(answer, "base", [0, 1]) + answers(answer, "y", [0]))
    table = here.compare(there)
    found = row(table, "base")
    assert (found["paired_value"], found["base_value"], found["n"]) == (1.0, 0.5, 2)
    assert (found["value"], found["n_value"]) == (0.75, 4)
    assert found["note"] == f"2 samples in this report only; {FEW}: 2 samples"
    assert row(there.compare(here), "base")["note"] == f"2 samples in the other report only; {FEW}: 2 samples"
    alone = row(table, "x")
    assert (alone["value"], alone["n"], alone["note"]) == (1.0, 1, "no responses in the other report")
    absent = row(table, "y")
    assert (absent["n"], absent["note"]) == (0, "no responses in this report")
    for found in (alone, absent):
        assert all(math.isnan(found[name]) for name in ("base_value", "difference", "low", "high", "p", "p_adjusted"))


def test_failed_responses_have_no_pair(answer):
    here = report([answer("a"), answer("b", choice=None, status="error", error="boom")])
    there = report([answer("a", choice=0), answer("b")])
    found = row(here.compare(there), "base")
    assert (found["difference"], found["n"], found["errors"]) == (1.0, 1, 1)
    failed = report([answer(name, choice=None, status="error", error="boom") for name in "ab"])
    found = row(failed.compare(there), "base")
    assert (found["n"], found["errors"]) == (0, 2)
    assert found["note"] == "defined for no sample both in the other report and here"


def test_a_sample_that_is_told_something_else_there_is_left_out(answer):
    here = [answer("a", "x"), answer("b", "x", 0), answer("c", "x")]
    there = [answer("a", "x"), answer("b", "x"), answer("c", "x", 0)]
    here = [(prompt.replace(asserted=0), response) for prompt, response in here]
    there = [(prompt.replace(asserted=0 if prompt.sample.id == "c" else 2), response) for prompt, response in there]
    found = row(report(here).compare(report(there)), "x")
    assert (found["difference"], found["n"]) == (1.0, 1)
    assert found["note"] == f"2 samples left out: the other report asserts another option; {FEW}: 1 sample"


def test_letters_of_different_readouts_are_not_subtracted(answer):
    forced = LETTERS | {"readout": "fixed_prefix"}
    metrics = [Accuracy(), CorrectProbability()]
    here = report([answer("a", **LETTERS), answer("b", **LETTERS)], metrics)
    there = report([answer("a", **forced), answer("b", **forced)], metrics)
    table = here.compare(there)
    assert row(table, "base")["difference"] == 0.0
    found = row(table, "base", "correct_probability")
    assert math.isnan(found["difference"])
    assert found["note"] == "read-outs differ (fixed_prefix in the other report, own_thought here)"
    mixed = report([answer("a", **LETTERS), answer("b", **forced)], metrics)
    found = row(here.compare(mixed), "base", "correct_probability")
    assert (found["difference"], found["n"]) == (0.0, 1)
    assert found["note"].startswith("1 pairs left out: read-outs differ")


def test_carriers_are_compared_with_their_own_kind(answer):
    carried = {"carrier": "user_text"}
    here = report(answers(answer, "x", [1, 1]) + answers(answer, "base", [1, 1]))
    there = report(answers(answer, "x", [0, 0], **carried) + answers(answer, "base", [1, 0]))
    table = here.compare(there)
    assert row(table, "base")["difference"] == 0.5
    found = row(table, "x")
    assert math.isnan(found["difference"])
    assert found["value"] == 1.0
    assert found["note"] == "carriers differ (user_text in the other report, assistant_prefill here)"
    both = report(answers(answer, "x", [0, 0], **carried)[:1] + answers(answer, "x", [0, 0])[1:])
    found = row(here.compare(both), "x")
    assert (found["difference"], found["n"]) == (1.0, 1)
    assert found["note"] == f"1 samples in this report only; {FEW}: 1 sample"


def test_aggregates_and_paired_metrics_are_compared_as_well(answer):
    metrics = [Length(), Total(), AnswerFlip()]
    here = [answer("a", text="aa"), answer("b", text="aaa"), answer("a", "x", 0, text="a"), answer("b", "x", text="a")]
    there = [answer("a", text="a"), answer("b", text="a"), answer("a", "x", text="a"), answer("b", "x", text="a")]
    table = report(here, metrics).compare(report(there, metrics))
    found = row(table, "base", "total")
    assert (found["value"], found["base_value"], found["difference"], found["n"]) == (5.0, 2.0, 3.0, 2)
    assert math.isnan(found["low"])
    assert found["note"] == f"{FEW}: 2 samples"
    found = row(table, "x", "answer_flip")
    assert (found["value"], found["base_value"], found["difference"]) == (0.5, 0.0, 0.5)
    found = row(table, "base", "answer_flip")
    assert (found["n"], found["note"]) == (0, "")


def test_a_metric_of_one_report_alone_has_its_value_and_no_difference(answer):
    pairs = answers(answer, "base", [1, 0])
    here, there = report(pairs, [Accuracy(), FollowRate()]), report(pairs, [Length(), Accuracy()])
    table = here.compare(there)
    assert table["metric"].tolist() == ["accuracy", "follow_rate", "length"]
    assert (row(table, "base", "follow_rate")["value"], row(table, "base", "length")["n"]) == (0.5, 0)
    for metric in ("follow_rate", "length"):
        assert math.isnan(row(table, "base", metric)["difference"])
        assert row(table, "base", metric)["note"] == "defined for no sample both in the other report and here"


def test_loaded_reports_are_compared_too(answer, tmp_path):
    metrics = [Accuracy(), Length(), Total()]
    here = report(answers(answer, "base", [1, 0], text="aaa"), metrics)
    there = report(answers(answer, "base", [0, 0], text="a"), metrics)
    expected = here.compare(there)
    loaded = [Report.load(one.save(tmp_path / name)) for one, name in ((here, "a.jsonl"), (there, "b.jsonl"))]
    pd.testing.assert_frame_equal(loaded[0].compare(there), expected)
    found = row(loaded[0].compare(loaded[1]), "base", "total")
    assert found["note"] == "total is no mean over samples: score the loaded report again to have it"


@pytest.mark.parametrize(
    ("here", "there", "message"),
    [
        (
            [("a", "base"), ("b", "base")],
            [("c", "base"), ("d", "base"), ("e", "base"), ("f", "base")],
            r"expected reports with samples in common; this one has a, b, the other c, d, e, … \(4 in all\)",
        ),
        (
            [("a", "base"), ("a", "x")],
            [("a", "y")],
            "expected reports with conditions in common; this one has base, x, the other y",
        ),
    ],
)
def test_reports_with_nothing_in_common_are_refused(answer, here, there, message):
    with pytest.raises(ValueError, match=message):
        report([answer(*key) for key in here]).compare(report([answer(*key) for key in there]))


def test_what_goes_by_one_name_has_to_be_one_thing(answer):
    pairs = [answer("a")]
    with pytest.raises(
        ValueError, match="expected reports with metrics in common; this one has accuracy, the other len"
    ):
        report(pairs).compare(report(pairs, [Length()]))
    with pytest.raises(
        ValueError, match=r"metric 'length': expected the same in both reports, got Length\(.*least=1\) here"
    ):
        report(pairs, [Length()]).compare(report(pairs, [Length(least=5)]))
    prompt, response = answer("a")
    other = prompt.replace(sample=prompt.sample.replace(answer=2))
    with pytest.raises(
        ValueError, match="sample 'a', field 'target': expected the same in both reports, got 1 here and 2"
    ):
        report(pairs).compare(report([(other, response)]))
