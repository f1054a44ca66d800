"""Test splitting of questions with lettered options."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust import Style
from vlmrobust.harnesses.imported import Lettered, split_options

WORDS = st.text(string.ascii_lowercase + " ", min_size=1, max_size=20).map(str.strip).filter(bool)
QUESTIONS = WORDS.filter(lambda text: not text.endswith(("options", "choices")))  # that would be their label


@given(
    question=QUESTIONS,
    options=st.lists(WORDS, min_size=2, max_size=26),
    template=st.sampled_from(["{letter}. {text}", "({letter}) {text}", "{letter}) {text}", "{letter}: {text}"]),
    label=st.sampled_from(["", "Options:\n", "Choices:\n", "Answer choices: \n"]),
    instruction=st.sampled_from(["", "Answer with the letter."]),
)
def test_lettered_lines_come_back(
    question: str, options: list[str], template: str, label: str, instruction: str
) -> None:
    lines = Style(option_template=template).options_text(options)
    found = split_options(f"{question}\n{label}{lines}\n{instruction}")
    assert found == Lettered(question, tuple(options), instruction)


@given(options=st.lists(WORDS, min_size=2, max_size=6))
def test_options_in_one_line_come_back(options: list[str]) -> None:
    line = ", ".join(f"{letter}: {option}" for letter, option in zip("ABCDEF", options, strict=False))
    assert split_options(f"Which?\nOptions: {line}\nAnswer briefly.").options == tuple(options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Who is A. Smith?\nA. a poet\nB. a cook", ("Who is A. Smith?", ("a poet", "a cook"), "")),
        ("A. red\nB. blue\nWhich of the two?\nA. the first\nB. the second", ("the first", "the second")),
        ("Which?\n  A. red\n  B. blue\n\nThink first.", ("Which?", ("red", "blue"), "Think first.")),
        ("Which?\nA. red\nor so\nB. blue", ("Which?", ("red\nor so", "blue"), "")),
        ("Which? (A) red (B) blue", ("Which?", ("red", "blue"), "")),
        ("Hint: look.\nQuestion: Which?\nOptions:\nA. red\nB. blue\nPlease select.", ("red", "blue")),
        ("Which?\nA. Vitamin A. B. C.\nB. none", ("Vitamin A. B. C.", "none")),
    ],
)
def test_texts_of_tasks(text: str, expected: tuple[object, ...]) -> None:
    found = split_options(text)
    assert found == expected or found.options == expected


@pytest.mark.parametrize("text", ["What is this?", "Which?\nB. red\nC. blue", "Which?\nA. red", "", "A and B"])
def test_a_question_without_options_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a question with lettered options, got"):
        split_options(text)


def test_options_without_a_question_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a question before its options"):
        split_options("Options:\nA. red\nB. blue")
