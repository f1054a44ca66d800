"""Samples and styles: texts of a question, and validation with errors that name sample and field."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vlmrobust import Sample, Style
from vlmrobust.types import check_samples

Make = Callable[..., Sample]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"answer": 4}, r"sample 'q1', field 'answer': expected the index of one of 4 options \(0 to 3\), got 4"),
        ({"answer": -1}, r"sample 'q1', field 'answer': expected the index of one of 4 options \(0 to 3\), got -1"),
        ({"answer": "B"}, "sample 'q1', field 'answer': .*integer.*, got 'B'"),
        ({"options": ("red",), "answer": 0}, "sample 'q1', field 'options': expected 2 to 26 options, got 1"),
        ({"options": tuple(map(str, range(27)))}, "sample 'q1', field 'options': expected 2 to 26 options, got 27"),
        (
            {"options": ("red", "blue", "red")},
            "field 'options': expected different options, got 'red' at index 0 and 2",
        ),
        ({"options": ("a  b", "a b")}, "field 'options': expected different options, got 'a b' at index 0 and 1"),
        ({"options": ("red", " ")}, "field 'options': expected text in every option, got ' ' at index 1"),
        ({"question": ""}, "sample 'q1', field 'question': expected a question, got ''"),
        ({"question": " \n"}, "sample 'q1', field 'question': expected a question, got ' .n'"),
        ({"images": ()}, "sample 'q1', field 'images': .*at least 1"),
        ({"images": (5,)}, "sample 'q1', field 'images.0': expected a path, bytes or a PIL image, got int"),
        ({"images": "cube.png"}, "sample 'q1', field 'images': .*tuple.*, got 'cube.png'"),
        ({"distractor": 1}, r"field 'distractor': expected the index of a wrong option \(0 to 3, not 1\), got 1"),
        ({"distractor": 9}, "field 'distractor': expected the index of a wrong option"),
        (
            {"texts": {"wrong_caption": {4: "x"}}},
            r"field 'texts.wrong_caption': expected indices of options \(0 to 3\), got 4",
        ),
        ({"texts": {"wrong_think": "x"}}, "field 'texts.wrong_think': expected a mapping .*, or a 'distractor'"),
        ({"question": "<image> or <image>?"}, r"field 'images': expected as many images .* marks \(2\), got 1"),
        ({"colour": "red"}, "sample 'q1', field 'colour': Extra inputs are not permitted, got 'red'"),
    ],
)
def test_invalid_values_are_rejected(make_sample: Make, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make_sample(**fields)


def test_all_problems_are_reported_together(make_sample: Make) -> None:
    with pytest.raises(ValidationError, match=r"field 'question': .*; sample 'q1', field 'options': "):
        make_sample(question="", options=("red",))


def test_missing_fields_are_reported() -> None:
    with pytest.raises(
        ValidationError, match=r"sample '<no id>', field 'id': Field required; .*field 'answer': Field required"
    ):
        Sample()  # type: ignore[call-arg]


def test_a_wrong_text_as_a_bare_string_needs_the_distractor(make_sample: Make) -> None:
    assert make_sample(texts={"wrong_caption": "A red cube."}, distractor=0).distractor == 0
    assert make_sample(texts={"wrong_caption": {0: "A red cube."}}).distractor is None
    assert make_sample(texts={"correct_caption": "A blue cube."}).texts["correct_caption"] == "A blue cube."


def test_samples_are_frozen_and_replace_validates(make_sample: Make) -> None:
    sample = make_sample()
    with pytest.raises(ValidationError, match="frozen"):
        sample.answer = 2  # type: ignore[misc]
    assert sample.replace(answer=2).answer == 2
    assert sample.answer == 1
    with pytest.raises(ValidationError, match="sample 'q1', field 'answer': expected the index of one of 4 options"):
        sample.replace(answer=7)
    with pytest.raises(ValidationError, match="field 'anwser': Extra inputs are not permitted"):
        sample.replace(anwser=0)


@given(st.integers(2, 26), st.data())
def test_two_to_twenty_six_options(count: int, data: st.DataObject) -> None:
    answer = data.draw(st.integers(0, count - 1))
    sample = Sample(id="q", images=[b"x"], question="?", options=[f"o{i}" for i in range(count)], answer=answer)
    assert sample.options[sample.answer] == f"o{answer}"


def test_check_samples(make_sample: Make) -> None:
    samples = [make_sample("a"), make_sample("b")]
    assert check_samples(iter(samples)) == samples
    with pytest.raises(
        ValueError, match="sample 'a', field 'id': expected ids that differ, got the same at positions 0 and 2"
    ):
        check_samples([*samples, make_sample("a")])
    with pytest.raises(ValueError, match="expected at least one sample, got none"):
        check_samples([])
    with pytest.raises(TypeError, match="expected samples, got str at position 1"):
        check_samples([samples[0], "b"])  # type: ignore[list-item]


def test_unvalidated_copy_is_rejected(make_sample: Make) -> None:
    sound = make_sample("a")
    assert check_samples([sound])[0] is sound
    beyond = sound.model_copy(update={"answer": len(sound.options)})
    with pytest.raises(ValueError, match="sample 'a', field 'answer': expected the index of one of"):
        check_samples([sound.replace(id="b"), beyond])
    with pytest.raises(ValueError, match=r"field 'metadata\.source': expected text that UTF-8 can hold"):
        check_samples([sound.model_copy(update={"metadata": {"source": "cut \ud83d"}})])


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
def test_invalid_styles_are_rejected(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Style(**fields)  # type: ignore[arg-type]
