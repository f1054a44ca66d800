"""Test that tables for terminals fit the line and keep all text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from vlmrobust.report.formats import Table, terminal_table

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
