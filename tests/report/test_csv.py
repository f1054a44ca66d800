"""Test that exported tables are text to a spreadsheet."""

import csv
import io
from pathlib import Path

import pandas as pd
import pytest

from vlmrobust.report import formats as written
from vlmrobust.report.formats import csv_text, write_csv


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
    monkeypatch.setattr(written, "_ROWS", 2)
    texts = ["a\nb", "=1+1", 'say "é"', "", "x,y"][:rows]
    table = pd.DataFrame({"text": pd.Series(texts, dtype="string"), "n": range(rows)})
    write_csv(table, tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_bytes().decode() == csv_text(table)


def test_tuples_become_json_lists() -> None:
    rows = list(csv.reader(io.StringIO(csv_text(pd.DataFrame({"options": [("red, or", 'a "é"'), ("x", None)]})))))
    assert rows == [["options"], ['["red, or", "a \\"é\\""]'], ['["x", null]']]
