"""Test all plots of a report together, and that plotting has no side effects."""

import sys
from io import BytesIO

import matplotlib as mpl
import pytest
from PIL import Image

from vlmrobust import Report, plots
from vlmrobust.metrics import Accuracy, default_metrics
from vlmrobust.plots import NothingToPlot
from vlmrobust.plots.look import figure, look
from vlmrobust.plots.panels import panels, svgs
from vlmrobust.plots.picture import svg_of


def axes_names(report):
    return [panel.name for panel, _ in panels(report, lambda panel: figure(6, 4).add_subplot())]


def test_the_figure_has_a_panel_per_available_plot(report):
    assert axes_names(report) == [
        "drops accuracy", "drops consistency", "quadrants", "entropies", "probabilities", "reliability",
    ]  # fmt: skip
    titles = [axes.get_title(loc="left") for axes in report.plot().axes]
    assert titles[0] == "Change in accuracy"
    assert len(titles) == len(set(titles)) == 6


def test_panels_do_not_overlap(report):
    drawn = report.plot()
    drawn.draw_without_rendering()
    boxes = [axes.get_position() for axes in drawn.axes]
    assert not any(first.overlaps(second) for index, first in enumerate(boxes) for second in boxes[index + 1 :])


def test_undefined_plots_are_left_out(report, make_report):
    assert axes_names(report.score([Accuracy()])) == ["drops accuracy", "reliability"]
    assert axes_names(make_report([("a", "base", {"think": "It is blue."})])) == ["quadrants"]
    assert len(make_report([("a", "base", {"think": "It is blue."})]).plot().axes) == 1
    assert axes_names(Report.from_responses([], [])) == []
    with pytest.raises(NothingToPlot, match="expected something to draw, got a report without"):
        Report.from_responses([], []).plot()


def test_single_condition_plots_show_the_largest_drop(report):
    rows = report.summary.query("metric == 'accuracy'").set_index("condition")["difference"]
    titles = [axes.get_title(loc="left") for axes in report.plot().axes]
    assert f"What {rows.idxmin().replace('_', ' ')} does to each sample" in titles


def test_global_settings_and_pyplot_are_unchanged(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it would fail
    names = [name for name in mpl.rcParams if name != "backend"]  # asking for that one imports pyplot
    before = [mpl.rcParams[name] for name in names]
    shown_by_a_notebook, size = plots.trajectory([(0, report)])._repr_png_()
    with Image.open(BytesIO(shown_by_a_notebook)) as picture:
        assert (picture.format, picture.size) == ("PNG", (2 * size["width"], 2 * size["height"]))
    assert len(svgs(report)) == 6
    assert [mpl.rcParams[name] for name in names] == before
    with pytest.raises(ImportError):
        import matplotlib.pyplot  # noqa: F401


def test_the_users_axes_keep_the_users_settings(report):
    with mpl.rc_context({"axes.titlesize": 31}):
        mine = figure(5, 4).add_subplot()
        assert plots.drops(report, axes=mine)._left_title.get_fontsize() == 31
        assert plots.drops(report)._left_title.get_fontsize() == 10.5


def test_equal_reports_give_equal_images(run_report):
    first, second = (svg_of(plots.quadrants(run_report(10)).figure) for _ in range(2))
    assert first == second
    assert first.startswith("<?xml")


@pytest.mark.parametrize("name", ["cost $x$", "$\\frac$", "<b>&", "a_b^c"])
def test_names_are_drawn_literally(make_report, name):
    report = make_report([("a", "base", {}), ("a", name, {"answer": 0})], metrics=default_metrics())
    drawn = report.plot()
    drawn.draw_without_rendering()
    with mpl.rc_context(mpl.rcParamsDefault), look():
        axes = plots.drops(report, axes=figure(5, 4).add_subplot())
    [label] = axes.get_yticklabels()
    assert label.get_text() == name.replace("_", " ")
    assert svg_of(axes.figure)


def test_long_names_are_truncated(make_report):
    name = "+".join(["wrong_caption_disclaimer"] * 6)
    drawn = make_report([("a", "base", {}), ("a", name, {"answer": 0})]).plot()
    drawn.draw_without_rendering()
    assert all(axes.get_position().width > 0.2 for axes in drawn.axes)
    assert drawn.axes[0].get_yticklabels()[0].get_text() == "wrong caption disclaimer +\nwrong caption disclaimer + …"


def test_without_matplotlib_the_error_says_what_to_install(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        ImportError, match=r"expected matplotlib for a plot, found none; pip install 'vlmrobust\[plot\]'"
    ):
        report.plot()


def test_conditions_differ_without_colour(report):
    markers = [container.lines[0].get_marker() for container in plots.drops(report).containers]
    assert len(set(markers)) == len(markers)
