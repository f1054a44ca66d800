"""Where misleading and true texts come from: the sample's own, a template, or any callable.

A text source is a callable `(prompt, option, rng) -> str` that returns text asserting option `option` of the sample. It
is not told whether that option is right: wrong and correct texts differ in the option alone.
"""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import PlainSerializer, PlainValidator

from ..types import Prompt

__all__ = ["CAPTION_TEMPLATES", "THINK_TEMPLATES", "TextSource", "assertion", "callable_name", "from_templates"]

CAPTION_TEMPLATES = (
    'Caption of the image: whoever asks "{question}" sees at a glance that the answer is "{option}".',
    'Caption of the image: it clearly shows that the right answer to "{question}" is "{option}".',
    'Caption of the image: to the question "{question}", the picture plainly answers "{option}".',
)
THINK_TEMPLATES = (
    'Let me look at the image. The question is "{question}", and what I see points to "{option}"; nothing in the image '
    'speaks for the other options. So the answer is "{option}".',
    'To find out "{question}", I go through the image step by step: every detail fits "{option}", and the other '
    'options can be ruled out. Therefore the answer is "{option}".',
    'First I check what the image shows with regard to "{question}", comparing the options one by one: only "{option}" '
    'agrees with it. Hence the answer is "{option}".',
)


def callable_name(source: Callable[..., Any]) -> str:
    """Return module and qualified name of a callable: its identity in a run's manifest.

    Raises:
        ValueError: a lambda, a local function or a `functools.partial`, which two runs could not tell apart by name.

    Example:
        >>> import json
        >>> callable_name(json.dumps)
        'json.dumps'
    """
    if isinstance(source, functools.partial):
        raise ValueError(
            f"expected a callable with a name of its own, got functools.partial of {callable_name(source.func)}: "
            "two of them could not be told apart; write a function"
        )
    owner = source if hasattr(source, "__qualname__") else type(source)
    name = f"{owner.__module__}.{owner.__qualname__}"
    if "<" in name:
        raise ValueError(
            f"expected a callable with a name of its own at the top of a module, got {name}: a run that is resumed "
            "knows a text source by its name alone"
        )
    return name


def _checked_source(value: object) -> object:
    if not callable(value):
        raise ValueError(f"expected a callable (prompt, option, rng) -> str, got {type(value).__name__}")
    callable_name(value)
    return value


TextSource = Annotated[
    Callable[[Prompt, int, np.random.Generator], str],
    PlainValidator(_checked_source),
    PlainSerializer(callable_name, return_type=str),
]


def from_templates(templates: tuple[str, ...], prompt: Prompt, option: int, rng: np.random.Generator) -> str:
    """Fill one of the templates, drawn with `rng`, with the question and the option's text.

    Both stand in quotation marks, so that the sentence is well formed whatever they are: a word, a number, a clause.
    """
    template = templates[int(rng.integers(len(templates)))]
    option_text = _quotable(prompt.sample.options[option])
    filled = {"question": _quotable(prompt.sample.question), "option": option_text.rstrip(".") or option_text}
    return re.sub(r"\{(question|option)\}", lambda mark: filled[mark[1]], template)


def _quotable(text: str) -> str:
    return " ".join(text.replace("<image>", "").split()).replace('"', "'")


def assertion(
    prompt: Prompt,
    key: str,
    option: int,
    templates: tuple[str, ...],
    source: Callable[[Prompt, int, np.random.Generator], str] | None,
    rng: np.random.Generator,
) -> str:
    """Return text that asserts `option`: from `source` if given, else the sample's own, else a template.

    Args:
        prompt: the prompt that the text is for.
        key: the text's name in `sample.texts`, such as `wrong_caption`.
        option: index in `sample.options` of what the text asserts.
        templates: for samples without a text of their own.
        source: a callable that is used instead.
        rng: keyed random numbers.

    Raises:
        ValueError: the sample's own text asserts another option, or the source returned no text.
    """
    where = f"sample {prompt.sample.id!r}, field 'texts.{key}'"
    if source is not None:
        text = source(prompt, option, rng)
    else:
        own = prompt.sample.texts.get(key)
        if isinstance(own, Mapping):
            own = own.get(option)
        elif own is not None and key.startswith("wrong_") and option != prompt.sample.distractor:
            raise ValueError(
                f"{where}: expected a text that asserts option {option}, got one for {prompt.sample.distractor}; "
                "give a mapping from option index to text"
            )
        text = from_templates(templates, prompt, option, rng) if own is None else own
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{where}: expected a text, got {text!r}")
    return text.strip()
