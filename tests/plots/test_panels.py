"""Test that plots equal the tables of a report, alone and all together, and that plotting has no side effects."""

import math
import sys
import warnings
from io import BytesIO

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from PIL import Image

from vlmrobust import Report, plots
from vlmrobust.metrics import Accuracy, default_metrics
from vlmrobust.plots import NothingToPlot, drops, quadrants, robustness_curve
from vlmrobust.plots.look import figure, look
from vlmrobust.plots.panels import PARTS, panels, svgs
from vlmrobust.plots.picture import svg_of


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


def test_characters_that_the_font_lacks_are_taken_from_another_one(make_report, monkeypatch):
    other = "Last Resort High-Efficiency"
    if other not in fontManager.get_font_names():
        pytest.skip("this version of matplotlib has no other font with all characters")
    report = make_report([(str(number), name, {}) for number in range(6) for name in ("base", "大声")])
    monkeypatch.setattr("vlmrobust.plots.look._FURTHER_FONTS", ())
    with pytest.warns(UserWarning, match="missing from font"):
        report.plot().savefig(BytesIO())
    monkeypatch.setattr("vlmrobust.plots.look._FURTHER_FONTS", ("no such font", other))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report.plot().savefig(BytesIO())


def test_other_conditions_get_different_colours(make_report):
    rows = [("a", name, {}) for name in ("base", "shouted", "wrong_think+shouted", "rotated")]
    found = [container.lines[0].get_color() for container in drops(make_report(rows)).containers]
    assert len(set(found)) == 3


def test_carriers_have_separate_rows(make_report):
    rows = [("a", "base", {}), ("b", "base", {}), ("a", "x", {}), ("b", "x", {"carrier": "user_text", "answer": 0})]
    axes = drops(make_report(rows))
    assert row_names(axes) == ["x [assistant prefill]", "x [user text]"]
    assert [container.lines[0].get_xdata()[0] for container in axes.containers] == [0, -1]
    bars = quadrants(make_report(rows))
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
    rows = [("a", "base", letters | {"readout": "own_thought"}), ("a", "x", letters | {"readout": "direct"})]
    with pytest.raises(NothingToPlot, match=r"got none: read-outs differ \(own_thought under base, direct here\)"):
        drops(make_report(rows), "letter_entropy")
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

    rows = [
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
    axes = quadrants(make_report(rows))
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


def test_curve_and_band_equal_the_table(report):
    names = ["base", "wrong_think", "wrong_caption"]
    table = report.robustness_curve(names)
    axes = robustness_curve(report, names)
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    columns = {"samples": "value", "if conditions were independent": "independent", "guessing": "chance"}
    assert drawn == {label: table[["k", column]].to_numpy().tolist() for label, column in columns.items()}
    [band] = axes.collections
    corners = band.get_paths()[0].vertices.tolist()
    for _, row in table.iterrows():
        assert [row["k"], row["low"]] in corners
        assert [row["k"], row["high"]] in corners
    assert axes.get_xlabel() == f"right under at least k of 3 conditions (n = {table['n'].iloc[0]})"
    assert axes.get_xticks().tolist() == [0, 1, 2, 3]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(columns)


def test_a_curve_is_drawn_on_given_axes(report, run_report):
    first = robustness_curve(report)
    assert robustness_curve(run_report(), axes=first) is first


def test_without_responses_there_is_nothing_to_draw(report):
    with pytest.raises(NothingToPlot, match="expected conditions that were scored, got none"):
        robustness_curve(Report.from_responses([], []))
    with pytest.raises(KeyError, match="got 'none'"):
        robustness_curve(report, ["none"])


# --- all plots of a report ------------------------------------------------------------------------------------------


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
