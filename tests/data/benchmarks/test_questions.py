"""Questions, options and instructions in one text; numbers near the right one."""

import itertools
from collections import Counter
from decimal import Decimal

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust.data.benchmarks.questions import (
    OPTIONS as COUNT,
)
from vlmrobust.data.benchmarks.questions import (
    LeftOut,
    nearby_numbers,
    published,
    split_options,
    without_instruction,
)
from vlmrobust.prompting import LETTERS

WORDS = st.text("abcdefg xyz,.()'é", min_size=1).map(str.strip).map(lambda text: text.rstrip(",;")).filter(str.strip)
OPTIONS = st.lists(WORDS, min_size=2, max_size=len(LETTERS))


@given(WORDS, OPTIONS, st.sampled_from(["{}. ", "({}) ", "{}) ", "{}: "]), st.sampled_from(["", "\nOptions:"]))
def test_options_on_lines_come_back(question: str, options: list[str], mark: str, heading: str) -> None:
    lines = [mark.format(letter) + option for letter, option in zip(LETTERS, options, strict=False)]
    found, split = split_options("\n".join([question + heading, *lines]))
    assert (found, split) == (question.strip(), [option.strip().rstrip(",;").rstrip() for option in options])


@given(WORDS, OPTIONS)
def test_options_behind_one_another_come_back(question: str, options: list[str]) -> None:
    inline = ", ".join(f"{letter}: {option}" for letter, option in zip(LETTERS, options, strict=False))
    found, split = split_options(f"{question}\nOptions: {inline}")
    assert (found, split) == (question.strip(), [option.strip().rstrip(",;").rstrip() for option in options])


@pytest.mark.parametrize(
    ("text", "question", "options"),
    [
        ("Which?\n\n(A) a\n(B) b\n", "Which?", ["a", "b"]),
        ("Which?\nChoices:\n(A) 1, 2\n(B) 3", "Which?", ["1, 2", "3"]),
        ("Which?\nOptions: A: Vitamin A, zinc, B: None.", "Which?", ["Vitamin A, zinc", "None."]),
        ("A. red or B. blue, which?\nA. red\nB. blue", "A. red or B. blue, which?", ["red", "blue"]),
        ("Which?\nA. one\ntwo\nB. three", "Which?", ["one\ntwo", "three"]),
        ("Which?\nA.\nB. b", "Which?", ["", "b"]),
        ("Which piece? Choices:(A) A (B) B (C) C", "Which piece?", ["A", "B", "C"]),
        ("Which?\nA. point (B)\nB. point (A)", "Which?", ["point (B)", "point (A)"]),
    ],
)
def test_what_questions_look_like(text: str, question: str, options: list[str]) -> None:
    assert split_options(text) == (question, options)


@pytest.mark.parametrize("text", ["How many?", "How many? (A) one", "How many?\nA. one\nC. two", ""])
def test_a_text_without_options_is_left_out(text: str) -> None:
    with pytest.raises(LeftOut, match="its text has no options A, B, …"):
        split_options(text)


def test_the_instruction_goes_and_the_rest_stays() -> None:
    text = "Which?\nA. a\nB. b\n"
    for sentence in (
        "Please answer directly with only the letter of the correct option and nothing else.",
        "Answer with the option's letter from the given choices directly.",
    ):
        assert without_instruction(text + sentence) == text.strip()
    assert without_instruction(text) == text.strip()
    hint = "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.\n"
    assert without_instruction(f"{hint}Question: {text}") == text.strip()


@pytest.mark.parametrize("answer", [None, "", "?", "hidden", "nan"])
def test_an_answer_that_is_not_published(answer: str | None) -> None:
    with pytest.raises(LeftOut, match="its answer is not published"):
        published(answer)


COUNTS = st.integers(0, 10_000).map(str)
NUMBERS = st.decimals(0, 10_000, allow_nan=False, places=3).map(lambda number: f"{number.normalize():f}") | COUNTS
SEEDS = st.integers(0, 2**32)


@given(NUMBERS, SEEDS)
def test_options_are_successive_numbers_from_zero_of_which_one_is_right(number: str, seed: int) -> None:
    options = nearby_numbers(number, np.random.default_rng(seed))
    values = sorted(map(Decimal, options))
    assert options[0] == number
    assert len(set(values)) == COUNT == len(options)
    assert values[0] >= 0
    unit = Decimal(1).scaleb(-len(number.partition(".")[2]))
    assert {after - before for before, after in itertools.pairwise(values)} == {unit}
    assert {len(option.partition(".")[2]) for option in options} == {len(number.partition(".")[2])}
    assert max(abs(value - Decimal(number)) for value in values) < COUNT * unit


@pytest.mark.parametrize(("number", "places"), [("0", 1), ("1", 2), ("2", 3), ("3", 4), ("12", 4), ("0.2", 3)])
def test_every_place_that_there_is_is_equally_likely(number: str, places: int) -> None:
    ranks = Counter(
        sum(Decimal(other) < Decimal(number) for other in nearby_numbers(number, np.random.default_rng(seed)))
        for seed in range(2000)
    )
    assert set(ranks) == set(range(places))
    assert places == 1 or scipy.stats.chisquare([*ranks.values()]).pvalue > 0.001


@given(st.integers(3, 10_000), SEEDS)
def test_options_could_be_those_of_any_number_among_them(count: int, seed: int) -> None:
    """What is right cannot be read off the options: each of them, from three on, has these with some seed."""
    options = set(nearby_numbers(str(count), np.random.default_rng(seed)))
    for other in options:
        if int(other) >= COUNT - 1:
            assert any(set(nearby_numbers(other, np.random.default_rng(draw))) == options for draw in range(100))


@pytest.mark.parametrize("answer", ["2 \\sqrt { 221 }", "36 \\pi", "-3", "1,000", "12 cm", "1e3", "½", "", ".5", "٣"])
def test_what_is_no_plain_number_is_left_out(answer: str) -> None:
    with pytest.raises(LeftOut, match="an open question whose answer is no plain number"):
        nearby_numbers(answer, np.random.default_rng(0))
