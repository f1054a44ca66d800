"""Styles: texts of instruction, options and tags, and validation."""

import pytest
from pydantic import ValidationError

from vlmrobust import Style


def test_default_instruction_depends_on_mode_and_answer_by() -> None:
    texts = {
        (mode, by): Style(mode=mode, answer_by=by).instruction_text()
        for mode in ("think", "direct")
        for by in ("letter", "text")
    }
    assert len(set(texts.values())) == 4
    for (mode, by), text in texts.items():
        assert ("<think>" in text) == ("<answer>" in text) == (mode == "think")
        assert ("the letter" in text) == (by == "letter")


def test_instruction_contains_the_styles_tags() -> None:
    style = Style(think_tags=("[T]", "[/T]"), answer_tags=("[A]", "[/A]"))
    assert "[T] and [/T]" in style.instruction_text()
    assert "[A] and [/A]" in style.instruction_text()
    assert Style(instruction="In {answer_open}.").instruction_text() == "In <answer>."
    assert Style(instruction="").instruction_text() == ""


def test_question_follows_its_template() -> None:
    style = Style(question_template="Q: {question}\nOptions:\n{options}\n\n{instruction}", instruction="Choose.")
    assert style.question_text("Which?", ["red", "blue"]) == "Q: Which?\nOptions:\nA. red\nB. blue\n\nChoose."
    marks = ["{question}", "{instruction}"]
    assert style.question_text("{options}", marks) == (
        "Q: {options}\nOptions:\nA. {question}\nB. {instruction}\n\nChoose."
    )
    assert Style(question_template="{question}\n{options}", instruction="").question_text("Which?", ["red"]) == (
        "Which?\nA. red"
    )


def test_instruction_without_answer_tags() -> None:
    style = Style(answer_tags=None)
    assert style.instruction_text().endswith("and </think>, and only the letter of the correct option after it.")
    assert (style.answer_opener, style.answer_closer) == ("\n\n", "")
    assert (Style().answer_opener, Style().answer_closer) == ("<answer>", "</answer>")


def test_placeholders_in_option_texts_are_not_filled() -> None:
    assert Style().options_text(["{letter}", "{text}"]) == "A. {letter}\nB. {text}"


def test_twenty_six_options() -> None:
    lines = Style().options_text([str(number) for number in range(26)]).splitlines()
    assert (lines[0], lines[25], len(lines)) == ("A. 0", "Z. 25", 26)


def test_other_letters() -> None:
    assert Style(letters="PQRS").options_text(["red", "blue"]) == "P. red\nQ. blue"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"option_template": "{letter}"}, "expected an option template with {letter} and {text}, got '{letter}'"),
        ({"think_tags": ("<think>", " ")}, "expected an opening and a closing tag"),
        ({"answer_tags": ("", "</answer>")}, "expected an opening and a closing tag"),
        (
            {"answer_tags": None, "instruction": "In {answer_open}."},
            "expected an instruction without answer tags",
        ),
        (
            {"question_template": "{question}\n{options}"},
            "expected a question template with {question}, {options}, {instruction}, got",
        ),
        ({"question_template": "{options}", "instruction": ""}, "template with {question}, {options}, got '{options}'"),
        *(
            (
                {"letters": letters},
                f"letters from A to Z, or 2 to 10 different digits, got {letters!r}",
            )
            for letters in ("", "A", "ABA", "abcd", "A B", "ÄÖ", "11", "1A", "0")
        ),
        ({"mode": "silent"}, "'think' or 'direct'"),
        ({"temperature": 1}, "Extra inputs are not permitted"),
    ],
)
def test_invalid_values_are_rejected(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Style(**fields)  # type: ignore[arg-type]
