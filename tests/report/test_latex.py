"""Tables in LaTeX: every text is shown as it is, and every row has its cells."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust import Evaluator, demo, perturbations
from vlmrobust.report.latex import escaped, latex_table
from vlmrobust.report.tables import Table
from vlmrobust.testing import FakeModel

# What LaTeX makes of a command, read back.
COMMANDS = {
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    **{rf"\{character}": character for character in "&%$#_{}"},
}
TEXT = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S", "Zs"]), max_size=30)


def shown(latex: str) -> str:
    return re.sub("|".join(map(re.escape, COMMANDS)), lambda found: COMMANDS[found[0]], latex)


@given(TEXT)
def test_a_text_is_shown_as_it_is(text: str) -> None:
    latex = escaped(text)
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


def test_a_bracket_at_the_beginning_is_no_argument() -> None:
    assert r"{[no interval]} & 1 \\" in latex_table(Table(("a", "b"), (("[no interval]", "1"),)))


def test_a_report_in_latex(tmp_path: Path) -> None:
    report = Evaluator(FakeModel(follow_think=1.0), [perturbations.WrongThink()]).run(demo.samples(30))
    latex = report.to_latex(caption="After 50 % of the steps", label="tab:robust")
    assert isinstance(latex, str)
    assert latex.count(r"\begin{table}") == latex.count(r"\end{table}") == 1
    assert r"\caption{After 50 \% of the steps}" in latex
    assert r"\label{tab:robust}" in latex
    row = next(line for line in latex.splitlines() if r"wrong\_think" in line)
    summary = report.summary
    [found] = summary[(summary["condition"] == "wrong_think") & (summary["metric"] == "accuracy")].to_dict("records")
    assert row.split(" & ")[1] == (
        f"{found['value']:.2f} {found['difference']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}]"
    ).replace("-", "$-$")
    assert report.to_latex(tmp_path / "table.tex") == tmp_path / "table.tex"
    assert (tmp_path / "table.tex").read_text() == f"{report.to_latex()}\n"


@pytest.mark.parametrize("text", ["1e-3", "a-1", "2024-05-06", "well-formed"])
def test_a_hyphen_is_no_minus(text: str) -> None:
    assert escaped(text) == text
