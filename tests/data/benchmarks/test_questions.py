"""Questions and options out of one text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust.data.benchmarks.questions import LeftOut, published, split_options, without_instruction
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
