"""Test points, curves and histograms against the frame."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from vlmrobust.metrics import Accuracy
from vlmrobust.plots import NothingToPlot, entropies, letters, probabilities, reliability


def points_by_label(axes):
    """Return the points of each collection by its label, without the count."""
    return {
        found.get_label().split(" (")[0]: np.asarray(found.get_offsets())
        for found in axes.collections
        if not found.get_label().startswith("_")
    }


def test_points_pair_the_same_sample_and_draw(report):
    frame = report.frame.set_index(["sample_id", "draw"])
    base, here = (frame[frame["condition"] == name] for name in ("base", "wrong_think"))
    expected = {"stays right": [], "stays wrong": [], "harmed": [], "helped": []}
    for key in base.index:
        x, y = base.loc[key, "correct_probability"], here.loc[key, "correct_probability"]
        if not (math.isnan(x) or math.isnan(y)):
            fates = {(1, 1): "stays right", (0, 0): "stays wrong", (1, 0): "harmed", (0, 1): "helped"}
            expected[fates[base.loc[key, "accuracy"], here.loc[key, "accuracy"]]].append((x, y))
    axes = probabilities(report, "wrong_think")
    drawn = points_by_label(axes)
    assert drawn.keys() == expected.keys()
    for fate, found in drawn.items():
        assert np.sort(found, axis=0) == pytest.approx(np.sort(np.reshape(expected[fate], (-1, 2)), axis=0))
    counts = {fate: len(found) for fate, found in drawn.items()}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [f"{k} ({v})" for k, v in counts.items()]
    assert min(counts["harmed"], counts["stays right"]) > 0


def test_pairs_of_different_read_outs_are_left_out_and_counted(make_report, report):
    read = {"option_logprobs": (-2.0, -0.5, -3.0)}
    rows = [
        ("a", "base", read | {"readout": "own_thought"}),
        ("b", "base", read | {"readout": "own_thought"}),
        ("a", "x", read | {"readout": "own_thought"}),
        ("b", "x", read | {"readout": "direct"}),
    ]
    axes = probabilities(make_report(rows), "x")
    assert sum(map(len, points_by_label(axes).values())) == 1
    assert axes.get_title(loc="left") == "What x does to each sample (1 pairs left out)"
    table = report.frame.set_index(["sample_id", "draw", "condition"])["correct_probability"].unstack()
    apart = len(table[["base", "stop_think"]].dropna())
    with pytest.raises(
        NothingToPlot, match=rf"under base and stop_think .*; {apart} pairs were read at different places"
    ):
        probabilities(report, "stop_think")


def test_a_missing_condition_or_metric_is_named(report, make_report):
    for draw in (probabilities, reliability):
        with pytest.raises(NothingToPlot, match=r"expected one of the conditions base, stop_think, .*; got 'wrong'"):
            draw(report, "wrong")
    with pytest.raises(NothingToPlot, match="expected letter entropies, got none: no letters were read"):
        entropies(make_report([("a", "base", {})]))
    with pytest.raises(NothingToPlot, match="expected answers with letter probabilities under base or x, got none"):
        reliability(make_report([("a", "base", {}), ("a", "x", {})]), "x")
    for draw in (entropies, probabilities):
        with pytest.raises(NothingToPlot, match=r"expected one of the report's metrics \(accuracy\), got"):
            draw(make_report([("a", "base", {})], metrics=[Accuracy()]))


def test_many_points_are_rasterised(report, monkeypatch):
    assert not any(found.get_rasterized() for found in probabilities(report).collections)
    monkeypatch.setattr(letters, "_MANY", 10)
    assert all(found.get_rasterized() for found in probabilities(report).collections)


def histogram(axes, label):
    [outline] = [patch for patch in axes.patches if patch.get_label() == label]
    return outline.get_data()


def test_entropy_histograms_contain_every_defined_value(report):
    axes = entropies(report)
    for place, name in enumerate(report.conditions):
        values = report.frame.query("condition == @name")["letter_entropy"].dropna()
        found = histogram(axes, name)
        counts, _ = np.histogram(values, found.edges)
        assert counts.sum() == len(values)
        heights = found.baseline - found.values
        assert heights == pytest.approx(0.86 * counts / counts.max())
        assert axes.texts[place].get_text() == f"{values.mean():.2f}  n={len(values)}"
        assert axes.lines[place].get_xdata() == pytest.approx([values.mean()] * 2)
    assert found.edges[-1] == pytest.approx(math.log(4))


def test_read_outs_have_separate_rows(make_report):
    read = {"option_logprobs": (-2.0, -0.5, -3.0)}
    rows = [(name, "base", read | {"readout": where}) for name, where in [("a", "own_thought"), ("b", "direct")]]
    names = [text.get_text() for text in entropies(make_report(rows)).get_yticklabels()]
    assert names == ["base, own thought", "base, direct"]


def test_reliability_shows_confidence_accuracy_and_wilsons_interval_of_each_bin(report):
    axes = reliability(report, "wrong_think", bins=5)
    errorbars = [container for container in axes.containers if hasattr(container, "has_yerr")]
    for name, bars in zip(("base", "wrong_think"), errorbars, strict=True):
        assert bars.get_label() == f"{name.replace('_', ' ')}, own thought"
        rows = np.flatnonzero((report.frame["condition"] == name) & (report.frame["status"] == "answered"))
        letters = report.responses.option_logprobs.exp().numpy()[rows]
        chosen = report.responses.choice.numpy()[rows]
        confidence = letters[np.arange(len(rows)), chosen] / letters.sum(1)
        right = chosen == report.responses.target.numpy()[rows]
        line, _, [reach] = bars.lines
        found = iter(zip(line.get_xydata(), reach.get_segments(), strict=True))
        for low in np.arange(5) / 5:
            inside = (confidence > low) & (confidence <= low + 0.2)
            if inside.any():
                (x, y), ((_, bottom), (_, top)) = next(found)
                assert (x, y) == pytest.approx((confidence[inside].mean(), right[inside].mean()))
                interval = binomtest(int(right[inside].sum()), int(inside.sum())).proportion_ci(method="wilson")
                assert (bottom, top) == pytest.approx((interval.low, interval.high), abs=1e-6)
        assert next(found, None) is None
    heights = np.array([[patch.get_height() for patch in bars] for bars in axes.containers if bars not in errorbars])
    counts = heights / heights.max() * float(axes.texts[0].get_text().split("most: ")[1].rstrip(")"))
    answered = report.frame[report.frame["status"] == "answered"].groupby("condition").size()
    assert counts.sum(1) == pytest.approx([answered["base"], answered["wrong_think"]])


def test_reliability_of_base_alone(report):
    assert len([bars for bars in reliability(report, "base").containers if hasattr(bars, "has_yerr")]) == 1
