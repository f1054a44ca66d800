"""Every family that transformers maps to image-text-to-text, and three that it maps to multimodal models only."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
import zoo
from rightness import assert_right
from zoo.outcomes import NOT_BUILT, NOTES, PENDING, PENDING_IN_4, REFUSED
from zoo.page import PAGE, lines

from vlmrobust import Sample
from vlmrobust.models import HFModel

pytestmark = [
    # transformers' own, from handing tensors to numpy
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

_NEW = not transformers.__version__.startswith("4.")  # some are wrong in transformers 5 only


def cases() -> list[Any]:
    """Return the families that are not refused; those that are wrong today have to be wrong."""
    pending = PENDING if _NEW else PENDING | PENDING_IN_4
    return [
        pytest.param(
            family, marks=[pytest.mark.xfail(reason=pending[family], strict=_NEW)] if family in pending else []
        )
        for family in zoo.ALL
        if family not in REFUSED
    ]


@pytest.mark.parametrize("family", cases())
def test_letters_and_texts_are_those_of_plain_forwards(
    family: str,
    samples: list[Sample],
    texts_of: Callable[[Any], list[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    # One image; one of another size, with so long a question that the others are padded by more than 128 tokens, a
    # block of sparse attention; two images.
    long = samples[1].replace(question=samples[1].question + " Think of what you see." * 40)
    chosen = [samples[0], long, samples[3 if "several images" in NOTES.get(family, "") else 2]]
    assert_right(zoo.build(family), chosen, texts_of, lambda: caplog.text)


@pytest.mark.parametrize("family", REFUSED)
def test_what_cannot_be_asked_is_refused_when_the_model_is_made(family: str) -> None:
    made = zoo.build(family)
    with pytest.raises(ValueError, match=REFUSED[family][0]):
        HFModel(made.model, made.processor)


def test_every_class_of_the_mapping_has_a_builder() -> None:
    # A class that transformers adds needs one, a few lines, or an entry with the reason why there is none.
    assert set(zoo.IMAGE_TEXT_TO_TEXT) - set(zoo.ALL) - set(NOT_BUILT) == set()


def test_the_page_lists_what_is_tested() -> None:
    page = Path(PAGE).read_text(encoding="utf-8")
    assert "\n".join(lines()) in page, "python -m zoo.page in tests/models writes it"
