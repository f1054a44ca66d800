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
from vlmrobust.report.comparison import response_pairs
from vlmrobust.seeding import generator

LETTERS = {"option_logprobs": (-2.0, -0.5, -3.0), "readout": "own_thought"}


class Length(Metric):
    """Number of characters."""

    least: int = 1

    def per_sample(self, responses):
        return torch.tensor([float(len(text)) if len(text) >= self.least else math.nan for text in responses.text])


class Total(Metric):
    """An aggregate that is not a mean."""

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


def report_of(pairs, metrics=ACCURACY, **settings):
    prompts, responses = zip(*pairs, strict=True)
    return Report.from_responses(prompts, responses, metrics, **settings)


def pairs_of(here, there):
    return sorted(response_pairs(here.responses, there.responses), key=lambda pair: pair.here)


def row_of(table, condition, metric="accuracy"):
    [found] = table.query("condition == @condition and metric == @metric").to_dict("records")
    return found


FEW = "too few for an interval"


def make_pairs(make_pair, condition, choices, **fields):
    return [make_pair(f"s{number}", condition, choice, **fields) for number, choice in enumerate(choices)]


def test_each_condition_is_compared_with_the_same_condition_there(make_pair):
    here = report_of(make_pairs(make_pair, "base", [1, 1, 1, 0] * 2) + make_pairs(make_pair, "x", [1, 1, 0, 0] * 2))
    there = report_of(make_pairs(make_pair, "x", [0, 0, 0, 0] * 2) + make_pairs(make_pair, "base", [1, 0, 1, 1] * 2))
    table = here.compare(there)
    assert table["condition"].tolist() == ["base", "x"]
    assert list(table.columns) == list(here.summary.columns)
    found = row_of(table, "base")
    assert (found["value"], found["base_value"], found["difference"], found["n"]) == (0.75, 0.75, 0.0, 8)
    found = row_of(table, "x")
    assert (found["value"], found["base_value"], found["difference"]) == (0.5, 0.0, 0.5)
    expected = paired_interval([0] * 8, [1, 1, 0, 0] * 2, outcome="rate", rng=np.random.default_rng(0))
    assert (found["low"], found["high"], found["p"]) == (expected.low, expected.high, expected.p)
    assert (table["note"] == "").all()


def test_swapping_reports_changes_the_sign(make_pair):
    here = report_of(make_pairs(make_pair, "base", [1, 1, 1, 0, 1, 1]))
    there = report_of(make_pairs(make_pair, "base", [1, 0, 0, 1, 0, 0]))
    one, other = row_of(here.compare(there), "base"), row_of(there.compare(here), "base")
    assert (one["value"], one["difference"]) == (other["base_value"], -other["difference"])
    assert (one["low"], one["high"]) == pytest.approx((-other["high"], -other["low"]))
    assert one["p"] == other["p"]


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_differences_equal_a_pandas_oracle(make_pair, data):
    cells = st.tuples(
        st.integers(0, 4), st.sampled_from(["base", "x"]), st.integers(0, 1), st.text("ab", min_size=0, max_size=5)
    )
    sides = [data.draw(st.lists(cells, min_size=1, max_size=20, unique_by=lambda cell: cell[:3])) for _ in range(2)]
    frames, reports = [], []
    for side in sides:
        side_pairs = [
            make_pair(f"s{sample}", condition, draw=draw, text=text) for sample, condition, draw, text in side
        ]
        reports.append(report_of(side_pairs, [Length()]))
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


def test_equally_many_draws_are_compared(make_pair):
    def drawn(choices):
        return [make_pair(f"s{n}", draw=draw, choice=right) for n, own in enumerate(choices) for draw, right in own]

    here = report_of(drawn([[(3, 0), (1, 1), (0, 1)], [(0, 0)], [(0, 1), (1, 1)]]))
    there = report_of(drawn([[(5, 0)], [(0, 1), (1, 0), (2, 0)], [(1, 0), (0, 1)]]))
    found = row_of(here.compare(there), "base")
    assert (found["paired_value"], found["base_value"], found["n"]) == (2 / 3, 0.5, 3)
    assert "draws differ in number: as many are compared as both reports have of a sample" in found["note"]
    assert row_of(here.compare(here), "base")["note"].find("draws differ") == -1


def test_a_failed_draw_is_none_of_those_that_are_compared(make_pair):
    failed = {"choice": None, "status": "error", "error": "timeout"}
    wrong, right = {"choice": 0}, {"choice": 1}

    def drawn(*choices):
        return report_of(
            [make_pair(f"s{n}", draw=draw, **one) for n, own in enumerate(choices) for draw, one in enumerate(own)]
        )

    here, there = drawn([failed, right, wrong], [right, right, wrong]), drawn([wrong], [failed, wrong, wrong])
    found = row_of(here.compare(there), "base")
    assert (found["paired_value"], found["base_value"], found["n"], found["errors"]) == (1.0, 0.0, 2, 1)
    assert row_of(there.compare(here), "base")["difference"] == -found["difference"]
    pairs = [(here.responses.draw[pair.here], there.responses.draw[pair.there]) for pair in pairs_of(here, there)]
    assert pairs == [(1, 0), (0, 1), (1, 2)]


def test_the_number_of_draws_alone_makes_no_difference(make_pair):
    # Failures are rare: a mean of 20 draws is below 1 more often than a single draw, by small steps.
    chance, sets, draws, below = np.random.default_rng(5), 200, 20, 0
    for _ in range(sets):
        right = (chance.random((40, draws + 1)) < 0.96).astype(int).tolist()
        many = report_of([make_pair(f"s{n}", draw=d, choice=right[n][d]) for n in range(40) for d in range(draws)])
        one = report_of([make_pair(f"s{n}", choice=right[n][draws]) for n in range(40)])
        below += row_of(many.compare(one), "base")["p"] < 0.05
    assert below / sets <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / sets)


def test_groups_are_resampled_together_keyed_by_this_reports_seed(make_pair):
    chance = np.random.default_rng(0)
    lengths = {side: chance.integers(1, 30, size=12).repeat(4) + chance.integers(0, 3, size=48) for side in "ab"}
    sides = {
        side: report_of(
            [make_pair(f"s{n}", text="t" * int(lengths[side][n]), group=f"g{n // 4:02d}") for n in range(48)],
            [Length()],
            seed=seed,
        )
        for side, seed in (("a", 7), ("b", 8))
    }
    found = row_of(sides["a"].compare(sides["b"]), "base", "length")
    rng = generator(7, "bootstrap")
    expected = paired_interval(lengths["b"], lengths["a"], np.arange(48) // 4, rng=rng)
    assert (found["low"], found["high"], found["p"]) == (expected.low, expected.high, expected.p)


def test_holm_is_over_the_conditions_of_one_metric(make_pair):
    here, there = [], []
    for condition, wrong in (("base", 1), ("x", 9), ("y", 7), ("z", 5)):
        here += make_pairs(make_pair, condition, [1] * 12)
        there += make_pairs(make_pair, condition, [0] * wrong + [1] * (12 - wrong))
    table = report_of(here).compare(report_of(there))
    assert table["p_adjusted"].tolist() == pytest.approx(multipletests(table["p"], method="holm")[1].tolist())


def test_samples_in_one_report_only_are_counted(make_pair):
    here = report_of(
        make_pairs(make_pair, "base", [1, 1, 1]) + make_pairs(make_pair, "x", [1]) + [make_pair("mine", choice=0)]
    )
    there = report_of(make_pairs(make_pair, "base", [0, 1]) + make_pairs(make_pair, "y", [0]))
    table = here.compare(there)
    found = row_of(table, "base")
    assert (found["paired_value"], found["base_value"], found["n"]) == (1.0, 0.5, 2)
    assert (found["value"], found["n_value"]) == (0.75, 4)
    assert found["note"] == f"2 samples in this report only; {FEW}: 2 samples"
    assert row_of(there.compare(here), "base")["note"] == f"2 samples in the other report only; {FEW}: 2 samples"
    alone = row_of(table, "x")
    assert (alone["value"], alone["n"], alone["note"]) == (1.0, 1, "no responses in the other report")
    absent = row_of(table, "y")
    assert (absent["n"], absent["note"]) == (0, "no responses in this report")
    for found in (alone, absent):
        assert all(math.isnan(found[name]) for name in ("base_value", "difference", "low", "high", "p", "p_adjusted"))


def test_failed_responses_have_no_pair(make_pair):
    here = report_of([make_pair("a"), make_pair("b", choice=None, status="error", error="boom")])
    there = report_of([make_pair("a", choice=0), make_pair("b")])
    found = row_of(here.compare(there), "base")
    assert (found["difference"], found["n"], found["errors"]) == (1.0, 1, 1)
    failed = report_of([make_pair(name, choice=None, status="error", error="boom") for name in "ab"])
    found = row_of(failed.compare(there), "base")
    assert (found["n"], found["errors"]) == (0, 2)
    assert found["note"] == "defined for no sample both in the other report and here"


def test_a_sample_with_another_asserted_option_is_left_out(make_pair):
    here = [make_pair("a", "x"), make_pair("b", "x", 0), make_pair("c", "x")]
    there = [make_pair("a", "x"), make_pair("b", "x"), make_pair("c", "x", 0)]
    here = [(prompt.replace(asserted=0), response) for prompt, response in here]
    there = [(prompt.replace(asserted=0 if prompt.sample.id == "c" else 2), response) for prompt, response in there]
    found = row_of(report_of(here).compare(report_of(there)), "x")
    assert (found["difference"], found["n"]) == (1.0, 1)
    assert found["note"] == f"2 samples left out: the other report asserts another option; {FEW}: 1 sample"


def test_letters_of_different_readouts_are_not_subtracted(make_pair):
    forced = LETTERS | {"readout": "fixed_prefix"}
    metrics = [Accuracy(), CorrectProbability()]
    here = report_of([make_pair("a", **LETTERS), make_pair("b", **LETTERS)], metrics)
    there = report_of([make_pair("a", **forced), make_pair("b", **forced)], metrics)
    table = here.compare(there)
    assert row_of(table, "base")["difference"] == 0.0
    found = row_of(table, "base", "correct_probability")
    assert math.isnan(found["difference"])
    assert found["note"] == "read-outs differ (fixed_prefix in the other report, own_thought here)"
    mixed = report_of([make_pair("a", **LETTERS), make_pair("b", **forced)], metrics)
    found = row_of(here.compare(mixed), "base", "correct_probability")
    assert (found["difference"], found["n"]) == (0.0, 1)
    assert found["note"].startswith("1 pairs left out: read-outs differ")


def test_carriers_are_compared_with_the_same_carrier(make_pair):
    carried = {"carrier": "user_text"}
    here = report_of(make_pairs(make_pair, "x", [1, 1]) + make_pairs(make_pair, "base", [1, 1]))
    there = report_of(make_pairs(make_pair, "x", [0, 0], **carried) + make_pairs(make_pair, "base", [1, 0]))
    table = here.compare(there)
    assert row_of(table, "base")["difference"] == 0.5
    found = row_of(table, "x")
    assert math.isnan(found["difference"])
    assert found["value"] == 1.0
    assert found["note"] == "carriers differ (user_text in the other report, assistant_prefill here)"
    both = report_of(make_pairs(make_pair, "x", [0, 0], **carried)[:1] + make_pairs(make_pair, "x", [0, 0])[1:])
    found = row_of(here.compare(both), "x")
    assert (found["difference"], found["n"]) == (1.0, 1)
    assert found["note"] == f"1 samples in this report only; {FEW}: 1 sample"


def test_aggregates_and_paired_metrics_are_compared_as_well(make_pair):
    metrics = [Length(), Total(), AnswerFlip()]
    here = [
        make_pair("a", text="aa"),
        make_pair("b", text="aaa"),
        make_pair("a", "x", 0, text="a"),
        make_pair("b", "x", text="a"),
    ]
    there = [
        make_pair("a", text="a"),
        make_pair("b", text="a"),
        make_pair("a", "x", text="a"),
        make_pair("b", "x", text="a"),
    ]
    table = report_of(here, metrics).compare(report_of(there, metrics))
    found = row_of(table, "base", "total")
    assert (found["value"], found["base_value"], found["difference"], found["n"]) == (5.0, 2.0, 3.0, 2)
    assert math.isnan(found["low"])
    assert found["note"] == f"{FEW}: 2 samples"
    found = row_of(table, "x", "answer_flip")
    assert (found["value"], found["base_value"], found["difference"]) == (0.5, 0.0, 0.5)
    found = row_of(table, "base", "answer_flip")
    assert (found["n"], found["note"]) == (0, "")


def test_a_metric_in_one_report_only_has_no_difference(make_pair):
    pairs = make_pairs(make_pair, "base", [1, 0])
    here, there = report_of(pairs, [Accuracy(), FollowRate()]), report_of(pairs, [Length(), Accuracy()])
    table = here.compare(there)
    assert table["metric"].tolist() == ["accuracy", "follow_rate", "length"]
    assert (row_of(table, "base", "follow_rate")["value"], row_of(table, "base", "length")["n"]) == (0.5, 0)
    for metric in ("follow_rate", "length"):
        assert math.isnan(row_of(table, "base", metric)["difference"])
        assert row_of(table, "base", metric)["note"] == "defined for no sample both in the other report and here"


def test_loaded_reports_are_compared_too(make_pair, tmp_path):
    metrics = [Accuracy(), Length(), Total()]
    here = report_of(make_pairs(make_pair, "base", [1, 0], text="aaa"), metrics)
    there = report_of(make_pairs(make_pair, "base", [0, 0], text="a"), metrics)
    expected = here.compare(there)
    loaded = [Report.load(one.save(tmp_path / name)) for one, name in ((here, "a.jsonl"), (there, "b.jsonl"))]
    pd.testing.assert_frame_equal(loaded[0].compare(there), expected)
    found = row_of(loaded[0].compare(loaded[1]), "base", "total")
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
def test_reports_with_nothing_in_common_are_refused(make_pair, here, there, message):
    with pytest.raises(ValueError, match=message):
        report_of([make_pair(*key) for key in here]).compare(report_of([make_pair(*key) for key in there]))


def test_samples_and_metrics_of_one_name_must_be_equal(make_pair):
    pairs = [make_pair("a")]
    with pytest.raises(
        ValueError, match="expected reports with metrics in common; this one has accuracy, the other len"
    ):
        report_of(pairs).compare(report_of(pairs, [Length()]))
    with pytest.raises(
        ValueError, match=r"metric 'length': expected the same in both reports, got Length\(.*least=1\) here"
    ):
        report_of(pairs, [Length()]).compare(report_of(pairs, [Length(least=5)]))
    prompt, response = make_pair("a")
    other = prompt.replace(sample=prompt.sample.replace(answer=2))
    with pytest.raises(
        ValueError, match="sample 'a', field 'target': expected the same in both reports, got 1 here and 2"
    ):
        report_of(pairs).compare(report_of([(other, response)]))
