"""Test conversion of cells: answers, options, images and texts."""

import base64
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust.data.fields import index_of, is_missing, options_of, texts_of
from vlmrobust.data.row import from_base64, images_of
from vlmrobust.prompting import LETTERS

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


def test_two_readings_that_agree_are_one() -> None:
    assert index_of("1", ("0", "1", "2")) == 1
    assert index_of("B", ("A", "B")) == 1


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
