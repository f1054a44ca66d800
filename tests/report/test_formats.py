"""Test that tables as text show all of it literally: fitted to a terminal, and as HTML, Markdown, LaTeX and CSV."""

import csv
import html.parser
import io
import math
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from vlmrobust import Evaluator, Report, demo, perturbations
from vlmrobust.report import formats
from vlmrobust.report.formats import (
    Table,
    csv_text,
    html_table,
    latex_escaped,
    latex_table,
    markdown_table,
    terminal_table,
    write_csv,
)
from vlmrobust.testing import FakeModel

WORDS = st.text("abcdefgh 中文é", max_size=40)


@st.composite
def tables(draw):
    columns, names = draw(st.integers(1, 8)), draw(st.integers(1, 3))
    header = tuple(draw(st.text("xyz", min_size=1, max_size=9)) for _ in range(columns + names))
    rows = tuple(tuple(draw(WORDS) for _ in header) for _ in range(draw(st.integers(0, 4))))
    return Table(header, rows, notes=(draw(WORDS),), names=names)


@given(tables(), st.integers(30, 140))
def test_lines_fit_the_width_and_keep_all_text(table, width):
    text = terminal_table(table, width)
    assert max(map(cell_len, text.splitlines()), default=0) <= width
    shown = "".join(text.split())
    for cells in (*table.rows, table.notes):
        for letter in "abcdefgh中文é":
            assert shown.count(letter) >= sum(cell.count(letter) for cell in cells)


def test_row_names_are_repeated_in_every_part():
    header = ("condition", "metric", *(f"number {index}" for index in range(9)))
    rows = [(condition, metric, *["0.123 [0.1, 0.2]"] * 9) for condition in ("base", "other") for metric in ("a", "b")]
    parts = terminal_table(Table(header, tuple(rows), names=2), 60).split("\n\n")
    assert len(parts) > 1
    for part in parts:
        assert [line.split()[:2] for line in part.splitlines()[-4:]] == [list(row[:2]) for row in rows]


def test_without_a_terminal_the_width_is_80(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    table = Table(("name", "value"), (("a", "word " * 40),), notes=("note " * 40,))
    assert 70 < max(map(len, terminal_table(table).splitlines())) <= 80
    monkeypatch.setenv("COLUMNS", "110")
    assert 100 < max(map(len, terminal_table(table).splitlines())) <= 110


@pytest.mark.parametrize("width", [40, 80, 120])
def test_long_names_leave_room_for_numbers(width):
    text = terminal_table(Table(("condition", "value"), (("x" * 200, "0.123"),)), width)
    assert max(map(len, text.splitlines())) <= width
    assert "0.123" in text
    assert text.count("x") == 200


HOSTILE = '<script>alert("x")</script> | [bold]&amp;'
TABLE = Table(header=("condition", HOSTILE), rows=((HOSTILE, "two\nlines"),), notes=(HOSTILE,))


def test_html_is_escaped():
    found = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.append(tag)

        def handle_data(self, data):
            found.append(data)

    Reader().feed(html_table(TABLE))
    assert set(found) - {HOSTILE, "condition", "two\nlines"} == {"table", "thead", "tr", "th", "tbody", "td", "p"}
    assert found.count(HOSTILE) == 3


def test_markdown_keeps_one_row_per_line():
    lines = markdown_table(TABLE).splitlines()
    assert lines[1] == "| --- | ---: |"
    assert lines[2].endswith("| two lines |")
    assert all(line.replace("\\|", "").count("|") == 3 for line in lines[:3])


def test_terminal_text_is_not_parsed_as_markup():
    assert "[bold]" in terminal_table(TABLE, width=200)


# --- LaTeX ------------------------------------------------------------------------------------------------------------


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


# --- CSV --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cell", ["=1+1", "=cmd|' /C calc'!A0", "@SUM(A1)", "+1+1", "-2+3+cmd|' /C calc'!A0", "\t=1", "\r=1"]
)
def test_formulas_are_escaped(cell: str) -> None:
    table = pd.DataFrame({"name": pd.Series([cell], dtype="string"), cell: ["x"]})
    read = pd.read_csv(io.StringIO(csv_text(table)), dtype=str, lineterminator="\n")
    assert read["name"][0].lstrip('"').startswith("'")
    assert all(not name.startswith(("=", "@", "+", "-", "\t", "\r")) for name in read.columns)


@pytest.mark.parametrize("cell", ["fine\r=cmd|' /C calc'!A0", "a\r\n=1", "a\n=1", "a,\r=1", '"\r=1', "\r=1", "a\r"])
def test_line_breaks_in_cells_do_not_begin_a_row(cell: str) -> None:
    """Spreadsheets and Python end a row at an unquoted carriage return."""
    text = csv_text(pd.DataFrame({"text": [cell, "after"], cell: [1, 2]}))
    rows = list(csv.reader(io.StringIO(text, newline="")))
    shown = f"'{cell}" if cell.startswith("\r") else cell
    assert rows == [["text", shown], [shown, "1"], ["after", "2"]]
    assert text.endswith("after,2\n")


def test_other_values_equal_pandas_output() -> None:
    table = pd.DataFrame(
        {
            "text": ["red", "-0.5", "+1e-3", "a=b", "–", "-"],
            "number": [-0.5, 1.0, float("nan"), 2.0, 0.0, -1.0],
            "count": [1, -2, 3, 4, 5, 6],
            "flag": [True, False, True, True, False, False],
            "note": pd.Series(["x", None, "y", None, "z", ""], dtype="string"),
        }
    )
    before = table.copy()
    assert csv_text(table) == table.to_csv(index=False)
    pd.testing.assert_frame_equal(table, before)


@pytest.mark.parametrize("rows", [0, 1, 4, 5])
def test_a_file_written_in_chunks_equals_the_text(rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_ROWS", 2)
    texts = ["a\nb", "=1+1", 'say "é"', "", "x,y"][:rows]
    table = pd.DataFrame({"text": pd.Series(texts, dtype="string"), "n": range(rows)})
    write_csv(table, tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_bytes().decode() == csv_text(table)


def test_tuples_become_json_lists() -> None:
    rows = list(csv.reader(io.StringIO(csv_text(pd.DataFrame({"options": [("red, or", 'a "é"'), ("x", None)]})))))
    assert rows == [["options"], ['["red, or", "a \\"é\\""]'], ['["x", null]']]
