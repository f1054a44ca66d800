"""Test parsing of lists and objects in a cell: they survive being written as JSON or by Python."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust.data import RowsError, read_rows
from vlmrobust.data.fields import from_cell, looks_nested, nested_or_text

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
NESTED = st.lists(VALUES, max_size=4) | st.dictionaries(TEXT, VALUES, max_size=4)


@given(NESTED)
def test_what_json_and_python_write_is_read_back(value: Any) -> None:
    assert from_cell(json.dumps(value)) == value
    assert from_cell(repr(value)) == value
    assert from_cell(f"  {value!r}\n") == value


@given(st.lists(TEXT, min_size=1, max_size=6))
def test_what_numpy_writes_is_a_list_of_as_many_texts(texts: list[str]) -> None:
    import numpy as np

    assert from_cell(str(np.array(texts, dtype=object))) == texts


@pytest.mark.parametrize("separator", ["\f", "\x1c", "\u2028"])
def test_texts_on_lines_of_their_own_may_hold_other_line_separators(separator: str) -> None:
    assert from_cell(f"['a{separator}b'\n 'c'\n 'd']") == [f"a{separator}b", "c", "d"]


@pytest.mark.parametrize(
    "cell",
    [
        "[red, blue]",
        "['red', 'blue'",
        '["red", "blue]',
        "{'A': 'red'",
        "{'A'}",
        "[{1, 2}]",
        "['a', b'c']",
        "[open('x')]",
        "[[" * 500,
    ],
)
def test_what_looks_like_a_list_and_is_none_is_refused(cell: str) -> None:
    with pytest.raises(ValueError, match=r"expected (a list|an object), as JSON or as Python writes it, in a cell"):
        from_cell(cell)
    assert nested_or_text(cell) == cell


@pytest.mark.parametrize("cell", ["{'A': 'red', 'A': 'blue'}", '{"A": "red", "A": "blue"}'])
def test_a_key_that_is_there_twice_is_refused(cell: str) -> None:
    with pytest.raises(ValueError, match="expected each key of an object once, got 'A' twice"):
        from_cell(cell)


@pytest.mark.parametrize(
    ("cell", "looks"), [("[1].png", False), ("[a]", True), (" {} ", True), ("[", False), (3, False)]
)
def test_which_cells_look_like_one(cell: object, looks: bool) -> None:
    assert looks_nested(cell) is looks


OPTIONS = ["a red cube", "it's blue", 'a "green" one', "yellow, or so"]
WRITTEN = {
    "json": json.dumps(OPTIONS),
    "python": repr(OPTIONS),
    "tuple": repr(tuple(OPTIONS)).replace("(", "[").replace(")", "]"),
    "numpy": " ".join(["[", *map(repr, OPTIONS), "]"]),
    "json by letter": json.dumps(dict(zip("ABCD", OPTIONS, strict=True))),
    "python by letter": repr(dict(zip("ABCD", OPTIONS, strict=True))),
}


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    from PIL import Image

    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("how", WRITTEN)
def test_a_table_holds_options_images_texts_and_metadata_in_one_cell_each(
    pictures: Path, suffix: str, how: str
) -> None:
    row = {
        "id": "q1",
        "images": "['a.png', 'b.png']",
        "question": "Which [of these] is it?",
        "options": WRITTEN[how],
        "answer": "C",
        "wrong_caption": repr({"A": "It's a red cube."}),
        "metadata": "{'split': 'val', 'seen': True}",
        "tags": "['shape', 'colour']",
        "box": "[1, 2, 3, 4]",
        "note": "[sic] not sure]",
        "kind": "colour",
    }
    [sample] = read_rows(table(pictures / f"rows{suffix}", [row]))
    assert sample.options == tuple(OPTIONS)
    assert (sample.answer, sample.question) == (2, "Which [of these] is it?")
    assert [path.name for path in sample.images] == ["a.png", "b.png"]
    assert sample.texts["wrong_caption"] == {0: "It's a red cube."}
    assert sample.metadata == {
        "split": "val",
        "seen": True,
        "tags": ["shape", "colour"],
        "box": [1, 2, 3, 4],
        "note": "[sic] not sure]",
        "kind": "colour",
    }


def test_a_table_means_the_same_as_the_lines_that_it_was_made_of(pictures: Path) -> None:
    rows = [
        {"id": f"q{n}", "image": "a.png", "question": "Which?", "options": OPTIONS, "answer": n, "tags": ["x", n]}
        for n in range(3)
    ]
    (pictures / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    expected = read_rows(pictures / "rows.jsonl")
    frame = pd.DataFrame(rows)
    frame.to_csv(pictures / "frame.csv", index=False)
    frame.to_csv(pictures / "frame.tsv", index=False, sep="\t")
    for name in ("frame.csv", "frame.tsv"):
        assert read_rows(pictures / name) == expected
    assert [one.options for one in read_rows(pd.read_csv(pictures / "frame.csv"), root=pictures)] == [
        one.options for one in expected
    ]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"choices": "[red, blue]"}, "field 'options', column 'choices': expected a list, as JSON or as Python"),
        ({"choices": "['red', 'blue'"}, "field 'options', column 'choices': expected a list, as JSON or as Python"),
        (
            {"choices": "red; blue"},
            "field 'options', column 'choices': expected a list of options, got str: 'red; blue'",
        ),
        ({"images": "[a.png, b.png]"}, "field 'images': expected a list, as JSON or as Python"),
        ({"metadata": "{split: val}"}, "field 'metadata': expected an object, as JSON or as Python"),
        ({"wrong_caption": "{'A': 'red'"}, "field 'wrong_caption': expected an object, as JSON or as Python"),
    ],
)
def test_an_error_names_row_and_column(pictures: Path, suffix: str, change: dict[str, str], where: str) -> None:
    good = {
        "id": "q1",
        "images": "a.png",
        "question": "Which?",
        "choices": "['red', 'blue']",
        "answer": "A",
        "wrong_caption": "",
        "metadata": "",
    }
    file = table(pictures / f"rows{suffix}", [good, {**good, "id": "q2", **change}])
    with pytest.raises(RowsError, match=re.escape(f"rows{suffix}, line 3: sample 'q2', {where}")):
        read_rows(file, {"options": "choices"})


def test_options_in_columns_of_their_own_stay_texts(pictures: Path) -> None:
    row = {"id": "q", "image": "a.png", "question": "Which?", "A": "[1, 2]", "B": "{1, 2}", "answer": "A"}
    [sample] = read_rows(table(pictures / "rows.csv", [row]), {"options": ["A", "B"]})
    assert sample.options == ("[1, 2]", "{1, 2}")


def test_a_text_in_json_lines_stays_one(pictures: Path) -> None:
    row = {"id": "q", "image": "a.png", "question": "Which?", "options": ["a", "b"], "answer": "A", "note": "[1, 2]"}
    (pictures / "rows.jsonl").write_text(json.dumps(row))
    assert read_rows(pictures / "rows.jsonl")[0].metadata == {"note": "[1, 2]"}
