"""Test that the plotted curve equals the table."""

import pytest

from vlmrobust import Report
from vlmrobust.plots import NothingToPlot, robustness_curve


def test_curves_and_band_equal_the_table(report):
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


def test_it_draws_on_given_axes(report, run_report):
    first = robustness_curve(report)
    assert robustness_curve(run_report(), axes=first) is first


def test_without_responses_there_is_nothing_to_draw(report):
    with pytest.raises(NothingToPlot, match="expected conditions that were scored, got none"):
        robustness_curve(Report.from_responses([], []))
    with pytest.raises(KeyError, match="got 'none'"):
        robustness_curve(report, ["none"])
