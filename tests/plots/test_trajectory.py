"""Test curves over checkpoints."""

import math

import numpy as np
import pytest

from vlmrobust.plots import NothingToPlot, trajectory


@pytest.fixture(scope="module")
def reports(run_report):
    return [(step, run_report(20, accuracy=0.4 + step / 1000, contradict=step / 1000)) for step in (500, 0, 250)]


def curves(axes):
    return {line.get_label(): line for line in axes.lines}


def test_curves_equal_the_summaries_by_step(reports):
    figure = trajectory(reports)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "accuracy",
        "consistency (judged)",
        "letter entropy",
    ]
    by_step = sorted(reports, key=lambda pair: pair[0])
    for axes, metric in zip(figure.axes, ("accuracy", "consistency", "letter_entropy"), strict=True):
        assert list(curves(axes)) == ["base", "wrong think", "wrong caption"]
        for condition, band in zip(("base", "wrong_think", "wrong_caption"), axes.collections, strict=True):
            tables = [report.summary.set_index(["metric", "condition"]) for _, report in by_step]
            rows = [table.loc[(metric, condition)] for table in tables]
            line = curves(axes)[condition.replace("_", " ")]
            assert line.get_xdata().tolist() == [0, 250, 500]
            assert line.get_ydata() == pytest.approx([row["value"] for row in rows])
            edge = band.get_paths()[0].vertices
            for step, row in zip((0, 250, 500), rows, strict=True):
                heights = edge[edge[:, 0] == step, 1]
                assert (heights.min(), heights.max()) == pytest.approx((row["value_low"], row["value_high"]))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["base", "wrong think", "wrong caption"]


def test_curves_differ_without_colour(reports):
    lines = curves(trajectory(reports).axes[0]).values()
    assert len({line.get_marker() for line in lines}) == 3


def test_steps_come_from_argument_pairs_or_manifest(run_report):
    def steps(reports, **options):
        return trajectory(reports, metrics=["accuracy"], **options).axes[0].lines[0].get_xdata().tolist()

    plain = run_report(4)
    assert steps([plain, plain], steps=[30, 10]) == [10, 30]
    assert steps([(7, plain)]) == [7]
    assert steps([run_report(4, manifest={"step": 5, "model": {"name": "checkpoint-9"}})]) == [5]
    names = ["out/checkpoint-250", "run-3/global_step_1000/actor/huggingface", "checkpoint-1/merged/checkpoint-750/"]
    assert steps([run_report(4, manifest={"model": {"name": name}}) for name in names]) == [250, 750, 1000]


def test_missing_and_repeated_steps_are_refused(run_report):
    plain = run_report(4)
    with pytest.raises(
        ValueError, match=r"report 1: expected a step in manifest\['step'\] or in the model's name, .*got ''"
    ):
        trajectory([run_report(4, manifest={"step": 1}), plain])
    with pytest.raises(ValueError, match=r"got 'Qwen/Qwen2.5-VL-7B-Instruct'; give 'steps'"):
        trajectory([run_report(4, manifest={"model": {"name": "Qwen/Qwen2.5-VL-7B-Instruct"}})])
    with pytest.raises(ValueError, match="expected one report per step, got two of step 5"):
        trajectory([(5, plain), (5, plain)])
    with pytest.raises(ValueError, match=r"expected one step per report \(2\), got 1"):
        trajectory([plain, plain], steps=[1])
    with pytest.raises(ValueError, match="expected 'steps' or pairs of step and report, got both"):
        trajectory([(1, plain)], steps=[1])
    with pytest.raises(ValueError, match="expected at least one report, got none"):
        trajectory([])
    with pytest.raises(ValueError, match="expected at least one of 'metrics', got none"):
        trajectory([(1, plain)], metrics=[])


def test_missing_metrics_and_conditions_are_named(run_report, reports):
    with pytest.raises(NothingToPlot, match=r"step 0: expected one of the report's metrics \(.*\), got 'x'"):
        trajectory(reports, metrics=["x"])
    with pytest.raises(NothingToPlot, match=r"expected conditions out of base, stop_think, .*; got 'x'"):
        trajectory(reports, conditions=["base", "x"])


def test_a_missing_condition_leaves_a_gap(make_report):
    both, alone = [("a", "base", {}), ("a", "x", {})], [("a", "base", {})]
    figure = trajectory(
        [(0, make_report(both)), (1, make_report(alone)), (2, make_report(both))],
        metrics=["accuracy"],
        conditions=["base", "x"],
    )
    values = curves(figure.axes[0])["x"].get_ydata()
    assert (values[0], values[2]) == (1, 1)
    assert math.isnan(values[1])
    assert np.isfinite(curves(figure.axes[0])["base"].get_ydata()).all()
