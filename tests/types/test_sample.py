"""Samples: validation, with errors that name the sample and the field."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vlmrobust import Sample
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
