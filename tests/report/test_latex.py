"""Test that LaTeX tables show text literally, and that every row has all cells."""

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust import Evaluator, Report, demo, perturbations
from vlmrobust.report.formats import Table, latex_escaped, latex_table
from vlmrobust.testing import FakeModel

# What LaTeX makes of a command, read back.
COMMANDS = {
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"\textbar{}": "|",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    **{rf"\{character}": character for character in "&%$#_{}"},
}
TEXT = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S", "Zs"]), max_size=30)


def shown(latex: str) -> str:
    return re.sub("|".join(map(re.escape, COMMANDS)), lambda found: COMMANDS[found[0]], latex)


@given(TEXT)
def test_text_is_shown_literally(text: str) -> None:
    latex = latex_escaped(text)
    assert shown(latex.replace("$-$", "-")) == text
    bare = latex.replace("$-$", "")
    for command in COMMANDS:
        bare = bare.replace(command, "")
    assert not set(bare) & set("\\&%$#_{}~^")


@given(st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=4))
def test_every_row_has_its_cells(rows: list[tuple[str, str, str]]) -> None:
    latex = latex_table(Table(("condition", "a\nb", "c"), tuple(rows)))
    body = latex.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
    lines = [line for line in body.splitlines() if line.strip()]
    assert len(lines) == len(rows)
    assert all(len(re.findall(r"(?<!\\)&", line)) == 2 for line in lines)
    assert all(line.endswith(r" \\") for line in lines)
    assert r"\shortstack[r]{a \\ b}" in latex


def test_a_leading_bracket_is_not_an_argument() -> None:
    assert r"{[no interval]} & 1 \\" in latex_table(Table(("a", "b"), (("[no interval]", "1"),)))


@pytest.fixture(scope="module")
def report() -> Report:
    return Evaluator(FakeModel(follow_think=1.0), [perturbations.WrongThink()]).run(demo.samples(30))


def cells_of(latex: str) -> list[list[str]]:
    """Return the cells between the rules, without commands."""
    body = latex.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
    lines = [line.strip().removesuffix(r" \\") for line in body.splitlines() if line.strip().endswith(r"\\")]
    plain = (re.sub(r"\{\\scriptsize (.*?)\}(?= &|$)", r"\1", f"{line} ") for line in lines)
    return [[cell.strip().replace("$-$", "-") for cell in line.split("&")] for line in plain]


def test_report_to_latex(report: Report, tmp_path: Path) -> None:
    latex = report.to_latex(caption="After 50 % of the steps", label="tab:robust_3")
    assert isinstance(latex, str)
    for environment in ("table", "tabular"):
        assert latex.count(rf"\begin{{{environment}}}") == latex.count(rf"\end{{{environment}}}") == 1
    assert [latex.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert r"\caption{After 50 \% of the steps}" in latex
    assert r"\label{tab:robust_3}" in latex
    columns = re.search(r"\\begin\{tabular\}\{(.*)\}", latex)
    assert columns is not None
    assert columns[1] == "l" + "r" * 7
    assert report.to_latex(tmp_path / "table.tex") == tmp_path / "table.tex"
    assert (tmp_path / "table.tex").read_text() == f"{report.to_latex()}\n"


def test_values_are_above_their_intervals(report: Report) -> None:
    metrics = ["accuracy", "correct_probability", "letter_entropy", "consistency", "follow_rate"]
    lines = cells_of(str(report.to_latex(metrics=metrics)))
    assert [line[0] for line in lines] == ["base", "", r"wrong\_think", ""]
    assert {len(line) for line in lines} == {1 + len(metrics) + 3}
    summary = report.summary.set_index(["condition", "metric"])
    for values, small, condition in ((*lines[:2], "base"), (*lines[2:], "wrong_think")):
        for place, metric in enumerate(metrics, start=1):
            row = summary.loc[condition, metric]
            if math.isnan(row["value"]):
                assert (values[place], small[place]) == ("--", "")
                continue
            assert values[place].split(" (")[0] == f"{row['value']:.2f}"
            interval = f"[{row['value_low']:.2f}, {row['value_high']:.2f}]"
            if not math.isnan(row["difference"]):
                interval = f"{row['difference']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"
            assert small[place] == interval


def test_models_are_groups_of_rows() -> None:
    runs = [
        Evaluator(FakeModel(abstain=abstain), [perturbations.AbstainOption()]).run(demo.samples(20))
        for abstain in (0.0, 1.0)
    ]
    both = Report.concat(runs, ["Space_R", "Base & co"], column="model")
    latex = str(both.to_latex(by="model", metrics=["accuracy"]))
    assert latex.count(r"\midrule") == 2
    assert {len(re.findall(r"(?<!\\)&", line)) for line in latex.splitlines() if line.endswith(r"\\")} == {5}
    groups = [line.split(" & ")[0].strip() for line in latex.splitlines() if r"& base &" in line]
    assert groups == [r"Base \& co", r"Space\_R"]
    assert "& abstained/ unparsed/ truncated &" in latex  # under both, though one of them never abstains
    assert re.findall(r"& (\d+)\\%/0\\%/0\\% &", latex) == ["0", "100", "0", "0"]
    twice = str(both.to_latex(by=["model", "kind"], metrics=["accuracy"]))
    assert r"\begin{tabular}{lllrrrr}" in twice
    assert "consistency" not in latex  # no note on what is not shown


def test_unknown_metrics_and_keys_are_refused(report: Report) -> None:
    with pytest.raises(ValueError, match="expected metrics of the report, got 'acuracy'; did you mean 'accuracy'"):
        report.to_latex(metrics=["acuracy"])
    with pytest.raises(KeyError, match="got 'model'"):
        report.to_latex(by="model")
    for label in ("tab:50%", "tab:{x}", "tab:é"):
        with pytest.raises(ValueError, match="field 'label': expected a label such as 'tab:robustness'"):
            report.to_latex(label=label)


@pytest.mark.parametrize("text", ["1e-3", "a-1", "2024-05-06", "well-formed"])
def test_hyphens_do_not_become_minus_signs(text: str) -> None:
    assert latex_escaped(text) == text
