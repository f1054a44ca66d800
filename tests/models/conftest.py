"""Tiny models of real architectures and prompts for them."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import zoo
from oracle import ONE_LETTER, token_texts
from PIL import Image

from vlmrobust import Sample


@pytest.fixture(scope="session")
def tiny() -> Callable[[str], zoo.Tiny]:
    """Return a builder of tiny models, each built once: a test that changes one builds its own."""
    return cache(zoo.build)


@pytest.fixture(scope="session")
def writer(texts_of: Callable[[Any], list[str]]) -> Callable[[str], zoo.Tiny]:
    """Return a builder of tiny models that like to write A, B, C and D, each built once."""

    @cache
    def build(family: str) -> zoo.Tiny:
        made = zoo.build(family)
        tokenizer = made.processor.tokenizer
        read = ((token, ONE_LETTER.fullmatch(text)) for token, text in enumerate(texts_of(tokenizer)))
        letters = [token for token, match in read if match and match[1] in "ABCD"]
        zoo.favour(made.model, dict.fromkeys(letters, 8.0) | {tokenizer.eos_token_id: 8.0})
        return made

    return build


@pytest.fixture(scope="session")
def texts_of() -> Callable[[Any], list[str]]:
    """Return what each token of a tokenizer stands for, looked up once per tokenizer."""
    return cache(token_texts)


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    """Return seven samples: 2 to 26 options, one or two images of several sizes, questions of several lengths."""
    gradient, radial = Image.linear_gradient("L").convert("RGB"), Image.radial_gradient("L").convert("RGB")
    pictures = [
        gradient.resize((56, 56)),
        radial.resize((84, 56)),
        Image.new("RGB", (40, 70), "red"),
        gradient.rotate(90).resize((60, 30)),
    ]
    return [
        Sample(
            id=f"q{index}",
            images=[pictures[index % 4], *([pictures[(index + 1) % 4]] if index in (2, 5) else [])],
            question="Which colour is the cube" + " that I see" * (index % 3) + "?",
            options=[f"colour {option}" for option in range(count)],
            answer=index % count,
        )
        for index, count in enumerate((2, 4, 26, 3, 11, 4, 5))
    ]
