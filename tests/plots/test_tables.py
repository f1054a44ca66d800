"""Test that plots of the tables equal the tables."""

import math

import numpy as np
import pytest
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from vlmrobust import Report
from vlmrobust.metrics import Accuracy
from vlmrobust.plots import NothingToPlot, drops, quadrants
from vlmrobust.plots.panels import PARTS


def row_names(axes):
    return [text.get_text() for text in axes.get_yticklabels()]


@pytest.mark.parametrize("metric", ["accuracy", "consistency", "follow_rate"])
def test_drops_show_differences_and_intervals(report, metric):
    rows = report.summary.query("metric == @metric and condition != 'base'").reset_index(drop=True)
    axes = drops(report, metric)
    assert row_names(axes) == [name.replace("_", " ") for name in rows["condition"]]
    defined = rows[rows["difference"].notna()]
    assert len(axes.containers) == len(defined) > 0
    for container, (place, row) in zip(axes.containers, defined.iterrows(), strict=True):
        points, _, [reach] = container.lines
        assert container.get_label() == row["condition"]
        assert points.get_xydata().tolist() == [[row["difference"], place]]
        [[start, end]] = reach.get_segments()
        assert (start[0], end[0]) == pytest.approx((row["low"], row["high"]))
    beside = [text.get_text() for text in axes.texts]
    for (_, row), text in zip(rows.iterrows(), beside, strict=True):
        if math.isnan(row["difference"]):
            assert text.strip() == "undefined"
        else:
            number, count = text.replace("−", "-").split("  n=")
            assert (float(number), int(count)) == (pytest.approx(row["difference"], abs=0.005), row["n"])


def test_a_condition_has_the_same_colour_in_every_plot(report):
    def colours(metric):
        return {c.get_label(): c.lines[0].get_color() for c in drops(report, metric).containers}

    first, second = colours("accuracy"), colours("correct_probability")
    assert first.items() >= second.items()
    assert len(set(first.values())) == len(first) == 7


def test_other_conditions_get_different_colours(make_report):
    said = [("a", name, {}) for name in ("base", "shouted", "wrong_think+shouted", "rotated")]
    found = [container.lines[0].get_color() for container in drops(make_report(said)).containers]
    assert len(set(found)) == 3


def test_carriers_have_separate_rows(make_report):
    said = [("a", "base", {}), ("b", "base", {}), ("a", "x", {}), ("b", "x", {"carrier": "user_text", "answer": 0})]
    axes = drops(make_report(said))
    assert row_names(axes) == ["x [assistant prefill]", "x [user text]"]
    assert [container.lines[0].get_xdata()[0] for container in axes.containers] == [0, -1]
    bars = quadrants(make_report(said))
    assert row_names(bars) == ["base", "x [assistant prefill]", "x [user text]"]
    assert [patch.get_width() for patch in bars_of(bars, "undefined, correct")] == [1, 1, 0]


def test_missing_data_are_refused_with_the_reason(make_report):
    with pytest.raises(NothingToPlot, match=r"expected one of the report's metrics \(accuracy, .*\), got 'accurcy'"):
        drops(make_report([("a", "base", {})]), "accurcy")
    with pytest.raises(
        NothingToPlot, match=r"expected a difference of 'accuracy' from base.*there is no condition but base"
    ):
        drops(make_report([("a", "base", {})]))
    letters = {"option_logprobs": (-2.0, -0.5, -3.0)}
    said = [("a", "base", letters | {"readout": "own_thought"}), ("a", "x", letters | {"readout": "direct"})]
    with pytest.raises(NothingToPlot, match=r"got none: read-outs differ \(own_thought under base, direct here\)"):
        drops(make_report(said), "letter_entropy")
    with pytest.raises(NothingToPlot, match="expected a report with responses and metrics, got one without"):
        drops(Report.from_responses([], []))
    with pytest.raises(NothingToPlot, match=r"expected one of the report's metrics \(accuracy\), got 'consistency'"):
        quadrants(make_report([("a", "base", {})], metrics=[Accuracy()]))
    failed = {"status": "error", "answer": None, "error": "boom"}
    with pytest.raises(NothingToPlot, match="expected responses that are scored, got none"):
        quadrants(make_report([("a", "base", failed)]))


def bars_of(axes, name) -> BarContainer:
    return next(container for container in axes.containers if container.get_label() == name)


def test_quadrants_are_shares_of_all_scored_answers(make_report):
    def thought(concluded, answer):
        return {"think": f'So the answer is "{concluded}".', "answer": answer}

    said = [
        ("a", "base", thought("blue", 1)),
        ("b", "base", thought("blue", 1)),
        ("c", "base", thought("red", 1)),
        ("d", "base", thought("red", 0)),
        ("e", "base", thought("blue", 0)),
        ("f", "base", {"think": "", "answer": 1}),
        ("g", "base", {"status": "unparsed", "answer": None}),
        ("h", "base", {"status": "truncated", "answer": None}),
        ("i", "base", {"status": "error", "answer": None, "error": "boom"}),
    ]
    axes = quadrants(make_report(said))
    widths = {", ".join(name): bars_of(axes, ", ".join(name))[0].get_width() for name in PARTS}
    assert widths == pytest.approx(
        {
            "consistent, correct": 2 / 8,
            "inconsistent, correct": 1 / 8,
            "undefined, correct": 1 / 8,
            "undefined, incorrect": 2 / 8,
            "inconsistent, incorrect": 1 / 8,
            "consistent, incorrect": 1 / 8,
        }
    )


def test_quadrants_add_up_and_agree_with_the_summary(report):
    axes = quadrants(report)
    accuracy = report.summary.query("metric == 'accuracy'")["value"].to_numpy()
    widths = {name: np.array([bar.get_width() for bar in bars_of(axes, ", ".join(name))]) for name in PARTS}
    assert sum(widths.values()) == pytest.approx(np.ones(8))
    assert sum(width for (_, correct), width in widths.items() if correct == "correct") == pytest.approx(accuracy)
    # Every part begins where the previous one ends.
    starts = np.zeros(8)
    for name, width in widths.items():
        assert [bar.get_x() for bar in bars_of(axes, ", ".join(name))] == pytest.approx(starts)
        starts = starts + width


def test_quadrants_of_judged_answers_equal_the_summary(run_report):
    report = run_report(accuracy=0.6, contradict=0.3)
    axes = quadrants(report)
    kinds = [name for name in PARTS if name[0] != "undefined"]
    shares = {name: bars_of(axes, ", ".join(name))[0].get_width() for name in kinds}
    for name, share in shares.items():
        [value] = report.summary.query(
            "condition == 'base' and metric == @metric", local_dict={"metric": "_".join(name)}
        )["value"]
        assert share / sum(shares.values()) == pytest.approx(value)


def test_parts_differ_without_colour(report):
    axes = quadrants(report)
    looks = [(bars[0].get_hatch(), sum(bars[0].get_facecolor()[:3])) for bars in axes.containers]
    order = [lightness for _, lightness in looks]
    assert order[:3] == sorted(order[:3])
    assert order[3:] == sorted(order[3:], reverse=True)
    assert [bool(hatch) for hatch, _ in looks] == [False, True, False, False, True, False]


def test_given_axes_are_used_and_returned(report):
    mine = Figure().add_subplot()
    assert drops(report, axes=mine) is mine
    assert quadrants(report, Figure().add_subplot()).get_title(loc="left")
