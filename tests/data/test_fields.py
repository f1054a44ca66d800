"""Cells hold lists and objects as text, and become the fields of a sample."""

import base64
import csv
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust.data import RowsError, read_rows
from vlmrobust.data.fields import from_cell, index_of, is_missing, looks_nested, nested_or_text, options_of, texts_of
from vlmrobust.data.row import from_base64, images_of
from vlmrobust.prompting import LETTERS

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


COLOURS = ("red", "blue", "green")


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (0, 0),
        (2, 2),
        (2.0, 2),
        ("1", 1),
        ("B", 1),
        ("(B)", 1),
        ("B.", 1),
        ("B)", 1),
        ("B. blue", 1),
        ("(B) blue", 1),
        ("blue", 1),
        ("  blue ", 1),
    ],
)
def test_an_answer_is_an_index_a_letter_or_a_text(cell: object, expected: int) -> None:
    assert index_of(cell, COLOURS) == expected


@pytest.mark.parametrize("cell", [3, -1, "D", "b", "Blue", "B. red", "", "blue green", 1.5, True, None, ["B"], "3"])
def test_an_answer_outside_the_options_is_refused(cell: object) -> None:
    with pytest.raises(ValueError, match="expected an index from 0 to 2, a letter from A to C, or an option's text"):
        index_of(cell, COLOURS)


@pytest.mark.parametrize(
    ("cell", "options", "written_as", "expected"),
    [
        ("2", ("1", "2", "3"), "index", 2),
        ("2", ("1", "2", "3"), "text", 1),
        (2, ("1", "2", "3"), "text", 1),
        ("A", ("B", "A"), "letter", 0),
        ("A", ("B", "A"), "text", 1),
    ],
)
def test_two_meanings_are_refused_until_one_is_chosen(
    cell: object, options: tuple[str, ...], written_as: str, expected: int
) -> None:
    with pytest.raises(ValueError, match=r"expected an answer with one meaning, got .*: as .* and .* means"):
        index_of(cell, options)
    assert index_of(cell, options, written_as=written_as) == expected  # type: ignore[arg-type]


NUMBERED = ("1. red", "2. blue", "3. green", "4. grey")


@pytest.mark.parametrize(
    ("cell", "options", "written_as", "expected"),
    [
        ("2", NUMBERED, "index", 2),
        ("2", NUMBERED, "text", 1),
        (3, NUMBERED, "text", 2),
        (1, ("(1) red", "(2) blue"), "text", 0),
    ],
)
def test_a_number_that_an_option_begins_with_is_a_second_meaning(
    cell: object, options: tuple[str, ...], written_as: str, expected: int
) -> None:
    with pytest.raises(ValueError, match=r"expected an answer with one meaning, got .*: as .* and text means"):
        index_of(cell, options)
    assert index_of(cell, options, written_as=written_as) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cell", "options", "expected"),
    [
        (4, NUMBERED, 3),
        ("(2)", NUMBERED, 1),
        ("2. blue", NUMBERED, 1),
        ("B", NUMBERED, 1),
        (1, ("0. red", "1. blue"), 1),
        (1, ("1.5", "2.5"), 1),
        (1, ("1.2 m", "2.4 m"), 1),
        (1, ("1: 2", "2: 1"), 1),
        (1, ("1. red", "2. blue", "2. April"), 1),
        ("A", ("B. blue", "A. red"), 0),
    ],
)
def test_an_answer_with_one_meaning_among_labelled_options(
    cell: object, options: tuple[str, ...], expected: int
) -> None:
    assert index_of(cell, options) == expected


def test_two_readings_that_agree_are_one() -> None:
    assert index_of("1", ("0", "1", "2")) == 1
    assert index_of("B", ("A", "B")) == 1


@pytest.mark.parametrize("answer", ["B. blue", "b. blue", "(B) blue", "B.blue", "B", "blue"])
def test_an_answer_may_keep_the_letter_that_the_options_lost(answer: str) -> None:
    assert index_of(answer, options_of(["A. red", "B. blue"])) == 1


@pytest.mark.parametrize(("answer", "index"), [("a few", 1), ("B a few", 1), ("a. few", 0), ("A", 0)])
def test_a_lower_case_letter_before_a_space_is_a_word(answer: str, index: int) -> None:
    assert index_of(answer, ("few", "a few", "lot")) == index


def test_the_chosen_reading_is_the_only_one() -> None:
    with pytest.raises(ValueError, match="expected the letter of an option, got 'blue'"):
        index_of("blue", COLOURS, written_as="letter")


@given(
    st.lists(
        st.text("abcdefg hij", min_size=2).filter(str.strip),
        min_size=2,
        max_size=26,
        unique_by=lambda text: tuple(text.split()),
    )
)
def test_every_way_to_name_an_option_finds_it(options: list[str]) -> None:
    for index, option in enumerate(options):
        assert index_of(index, options) == index_of(LETTERS[index], options) == index_of(option, options) == index


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (["red", "blue"], ("red", "blue")),
        (("red", 2, 1.5), ("red", "2", "1.5")),
        ('["red", "blue"]', ("red", "blue")),
        ({"B": "blue", "A": "red", "C": None}, ("red", "blue")),
        ('{"A": "red", "B": "blue"}', ("red", "blue")),
        (["A. red", "B. blue"], ("red", "blue")),
        ({"A": "(a) red", "B": "(b) blue"}, ("red", "blue")),
        (["A.D.", "B.C."], ("A.D.", "B.C.")),
    ],
)
def test_options(cell: object, expected: tuple[str, ...]) -> None:
    assert options_of(cell) == expected


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("red, blue", "expected a list of options, got str"),
        (5, "expected a list of options, got int"),
        ({"A": "red", "C": "blue"}, r"without a gap, got \['A', 'C'\]"),
        (["red", None], "expected text in every option, got NoneType at index 1"),
        (["red", float("nan")], "expected text in every option, got float at index 1"),
        ('["red", ', "in a cell that begins with"),
    ],
)
def test_what_are_no_options(cell: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options_of(cell)


def test_images_are_paths_from_the_root_bytes_or_pictures() -> None:
    root = Path("images")
    assert images_of("a.png", root) == (root / "a.png",)
    assert images_of(["a.png", b"x"], root) == (root / "a.png", b"x")
    assert images_of('["a.png", "b.png"]', None) == (Path("a.png"), Path("b.png"))
    assert images_of({"bytes": b"x", "path": "a.png"}, root) == (b"x",)
    assert images_of({"bytes": None, "path": "a.png"}, root) == (root / "a.png",)


def test_a_fetched_image_has_to_be_the_one_that_was_meant() -> None:
    cell = {"path": "https://example.org/a.png", "sha256": hashlib.sha256(b"abc").hexdigest()}
    assert images_of(cell, None, lambda address: b"abc") == (b"abc",)
    assert images_of(cell | {"sha256": None}, None, lambda address: b"abd") == (b"abd",)
    with pytest.raises(ValueError, match=r"with sha256 ba78\w+ at 'https://example.org/a.png', got another: a52d\w+"):
        images_of(cell, None, lambda address: b"abd")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ([], "expected at least one image, got an empty list"),
        ([None], "expected an image, got an empty cell"),
        ({"bytes": None, "path": None}, "expected an image, got an empty cell"),
        ("https://example.org/a.png", "expected the path of an image file, got an address"),
    ],
)
def test_what_are_no_images(cell: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        images_of(cell, None)


def test_texts_by_option() -> None:
    assert texts_of("A red cube.", COLOURS) == "A red cube."
    expected = {0: "x", 1: "y"}
    assert texts_of({"A": "x", "B": "y"}, COLOURS) == expected
    assert texts_of({"0": "x", "1": "y"}, COLOURS) == expected
    assert texts_of({"red": "x", "blue": "y", "green": None}, COLOURS) == expected
    assert texts_of('{"red": "x", "1": "y"}', COLOURS) == expected


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (["x"], "expected a text, or a mapping from option to text, got list"),
        ({"D": "x"}, "expected an index from 0 to 2"),
        ({"A": 5}, "expected a text for option 'A', got int"),
        ({"A": "x", "red": "y"}, "expected one text per option, got two for option 'red'"),
    ],
)
def test_what_are_no_texts(cell: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        texts_of(cell, COLOURS)


def test_missing() -> None:
    assert all(map(is_missing, (None, "", float("nan"))))
    assert not any(map(is_missing, (0, False, " ", [], 0.0)))


@given(st.binary(min_size=1))
def test_a_data_url_is_the_image_itself(content: bytes) -> None:
    data = base64.b64encode(content).decode()
    assert images_of(f"data:image/png;base64,{data}", Path("images")) == (content,)
    assert from_base64(data) == content


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("data:image/png,abc", "expected a data URL in base64, got 'data:image/png'"),
        ("data:image/png;base64,a?c", r"expected an image in base64, got 'a\?c'"),
        ("https://x.org/a.png", "got an address: 'https://x.org/a.png'; to fetch it, pass download_urls=True"),
    ],
)
def test_addresses_that_hold_no_image(cell: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        images_of(cell, None)


def test_an_address_is_fetched_by_what_is_given_for_it() -> None:
    fetched = images_of(["https://x.org/a.png", "b.png"], None, fetch=lambda address: address.encode())
    assert fetched == (b"https://x.org/a.png", Path("b.png"))
