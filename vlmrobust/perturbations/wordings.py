"""Choose the wrong option to assert, and word the text that asserts it: the sample's, the library's, or a callable's.

A text source is a callable `(prompt, option, rng) -> str` that returns text asserting option `option` of the sample. It
does not know whether that option is right, so that wrong and correct texts differ only in the option. Controls that
assert nothing use the same wording, or sentences about something else.

A callable is identified by its module path and name, and validated when a condition is made. The hedges stand with
their conditions, in `caption` and `think`.
"""

import functools
import math
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import PlainSerializer, PlainValidator

from ..prompting import inert_tags
from ..seeding import generator
from ..types import Prompt, Response, Sample
from .base import NotApplicable, Perturbation
from .statements import statement, statements

__all__ = [
    "CAPTIONS",
    "IRRELEVANT_CAPTIONS",
    "MISTAKES",
    "THOUGHTS",
    "WORDED",
    "Distractor",
    "TextSource",
    "Worded",
    "Wording",
    "assertion",
    "callable_name",
    "distractor_of",
    "draw_distractor",
    "hedged",
    "irrelevant",
    "named_callable",
    "neutral",
    "quotable",
    "runner_up",
    "worded",
]


Distractor = Literal["random", "runner_up"]


def draw_distractor(sample: Sample, seed: int) -> int:
    """Return the wrong option that all conditions of a sample assert: its own, or one drawn by seed and sample.

    Example:
        >>> sample = Sample(id="q1", images=["x.png"], question="Which?", options=["red", "blue"], answer=1)
        >>> draw_distractor(sample, seed=0)
        0
    """
    if sample.distractor is not None:
        return sample.distractor
    wrong = [index for index in range(len(sample.options)) if index != sample.answer]
    return wrong[int(generator(seed, sample.id, "distractor").integers(len(wrong)))]


def runner_up(sample: Sample, base: Response) -> int | None:
    """Return the most likely wrong option under base, the first of equals; None if no letters were read.

    It is the model's second choice if the model is right, and its answer if it is wrong. A sample's own distractor
    takes precedence.

    Example:
        >>> sample = Sample(id="q1", images=["x.png"], question="Which?", options=["red", "blue", "green"], answer=1)
        >>> base = Response(sample_id="q1", condition="base", status="answered", answer=1,
        ...                 option_logprobs=(-3.0, -0.1, -2.5))
        >>> runner_up(sample, base)
        2
    """
    if sample.distractor is not None:
        return sample.distractor
    logprobs = base.option_logprobs or ()
    wrong = [index for index, value in enumerate(logprobs) if index != sample.answer and value > -math.inf]
    return max(wrong, key=logprobs.__getitem__, default=None)


def distractor_of(prompt: Prompt, condition: str) -> int:
    """Return the wrong option that all conditions of this sample assert.

    Raises:
        NotApplicable: it should be the runner-up under base, but no letters were read under base.
        ValueError: the prompt has none; `expand` draws one.
    """
    if prompt.distractor is None and prompt.base is not None:
        raise NotApplicable(
            f"condition {condition!r} asserts the runner-up under base, and no letters of options were read there"
        )
    if prompt.distractor is None:
        raise ValueError(
            f"sample {prompt.sample.id!r}, condition {condition!r}: expected a prompt with a distractor, got none; "
            "create prompts with 'expand', or give the sample a distractor"
        )
    return prompt.distractor


WORDED = 3  # version of the wording below and of statements; 1 quoted question and option in every sample


class Wording(NamedTuple):
    """Templates for texts of one kind that assert an option.

    Attributes:
        stated: for samples whose options have statements: `{statement}` asserts the option, `{option}` names it.
        quoted: for all others: question and option are quoted.
    """

    stated: tuple[str, ...]
    quoted: tuple[str, ...]


CAPTIONS = Wording(
    stated=(
        "Caption of the image: {statement}",
        "Caption: {statement}",
        "Caption of this picture: {statement}",
    ),
    quoted=(
        'Caption of the image: whoever asks "{question}" sees at a glance that the answer is "{option}".',
        'Caption of the image: it clearly shows that the right answer to "{question}" is "{option}".',
        'Caption of the image: to the question "{question}", the picture plainly answers "{option}".',
    ),
)
THOUGHTS = Wording(
    stated=(
        "Let me look at the image. {statement} Nothing in the image speaks for the other options. So the answer is "
        '"{option}".',
        "To find the answer, I go through the image step by step. {statement} The other options can be ruled out. "
        'Therefore the answer is "{option}".',
        "First I check what the image shows, comparing the options one by one. {statement} Only this agrees with what "
        'I see. Hence the answer is "{option}".',
    ),
    quoted=(
        'Let me look at the image. The question is "{question}", and what I see points to "{option}"; nothing in the '
        'image speaks for the other options. So the answer is "{option}".',
        'To find out "{question}", I go through the image step by step: every detail fits "{option}", and the other '
        'options can be ruled out. Therefore the answer is "{option}".',
        'First I check what the image shows with regard to "{question}", comparing the options one by one: only '
        '"{option}" agrees with it. Hence the answer is "{option}".',
    ),
)
MISTAKES = Wording(
    stated=("{statement}", "Looking more closely: {statement}", "From this one thing follows: {statement}"),
    quoted=(
        'On a closer look, the answer to "{question}" has to be "{option}".',
        'This settles "{question}": the answer is "{option}".',
        'From this it follows that the answer to "{question}" is "{option}".',
    ),
)
IRRELEVANT_CAPTIONS = (
    "Caption of the image: water boils sooner on a high mountain than at the seaside.",
    "Caption of the image: a violin is tuned in fifths, and so are the viola and the cello.",
    "Caption of the image: honey keeps for years as long as the jar is well closed.",
    "Caption of the image: most rivers are at their widest shortly before they reach the sea.",
    "Caption of the image: paper was made of rags for centuries before it was made of wood.",
)
# Neutral replacements for an option of 1, 2, … words.
_UNSPECIFIC = (
    "something",
    "an option",
    "an available option",
    "an option listed here",
    "an option among those here",
    "an option among those listed here",
    "an option among those that are listed",
    "an option among those that are listed here",
)


def callable_name(source: Callable[..., Any]) -> str:
    """Return module and qualified name of a callable: its identity in a run's manifest.

    Raises:
        ValueError: it is a lambda, a local function or a `functools.partial`, which a name does not identify.

    Example:
        >>> import json
        >>> callable_name(json.dumps)
        'json.dumps'
    """
    if isinstance(source, functools.partial):
        raise ValueError(
            f"expected a callable with a name of its own, got functools.partial of {callable_name(source.func)}: "
            "two of them cannot be told apart; write a function"
        )
    owner = source if hasattr(source, "__qualname__") else type(source)
    name = f"{getattr(owner, '__module__', 'builtins')}.{owner.__qualname__}"  # str.upper has no module
    if "<" in name:
        raise ValueError(
            f"expected a callable with a name of its own at the top of a module, got {name}: a resumed run "
            "identifies a text source by its name alone"
        )
    return name


def named_callable(signature: str) -> PlainValidator:
    """Return the validator of a field that holds a callable, which must have a name of its own.

    Args:
        signature: the expected signature, for the error message.
    """

    def check(value: object) -> object:
        if not callable(value):
            raise ValueError(f"expected a callable {signature}, got {type(value).__name__}")
        callable_name(value)
        return value

    return PlainValidator(check)


TextSource = Annotated[
    Callable[[Prompt, int, np.random.Generator], str],
    named_callable("(prompt, option, rng) -> str"),
    PlainSerializer(callable_name, return_type=str),
]


class Worded(Perturbation):
    """A condition whose text is written by a source, or else in the sample's or the library's wording."""

    source: TextSource | None = None

    @property
    def version(self) -> int:
        """The version of the library's wording; 1 with a custom source, which is identified by its name."""
        return WORDED if self.source is None else 1


def worded(wording: Wording, prompt: Prompt, option: int, rng: np.random.Generator) -> str:
    """Return a text that asserts an option, with a statement if a rule finds one, else quoting question and option.

    The form is chosen for all of a sample's options together, so that its wrong and its correct texts differ only in
    the option.

    Args:
        wording: the templates, one of which is drawn.
        prompt: the prompt that the text is for.
        option: index in `sample.options` of the option to assert.
        rng: keyed random numbers.
    """
    sample = prompt.sample
    known = statements(sample.question, sample.options)
    quoted = quotable(sample.options[option], end=".")
    template = _draw_template(wording, known is not None, rng)
    statement_text = known[option] if known else ""
    return _fill(template, statement=statement_text, question=quotable(sample.question), option=quoted)


def _draw_template(wording: Wording, stated: bool, rng: np.random.Generator) -> str:
    templates = wording.stated if stated else wording.quoted
    return templates[int(rng.integers(len(templates)))]


def _fill(template: str, **fields: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda placeholder: fields[placeholder[1]], template)


def quotable(text: str, end: str = "") -> str:
    """Return a text for use in quotation marks, without trailing `end` characters unless it consists of them."""
    text = " ".join(text.replace("<image>", "").split()).replace('"', "'")
    return text.rstrip(end) or text if end else text


def neutral(prompt: Prompt, key: str, option: int, wording: Wording, rng: np.random.Generator) -> str:
    """Return the text of `assertion` with the option replaced by words that assert nothing.

    Where question and option are quoted, the replacement has as many words as the option; a statement says "something",
    "somewhere", "a number of", or that it can be seen whether it is so.

    Args:
        prompt: the prompt that the text is for.
        key: the text's name in `sample.texts`, which takes precedence.
        option: index in `sample.options` of the option to replace; more than eight words count as eight.
        wording: the wording of the text that asserts the option.
        rng: random numbers with the key of that text, so that both use the same template.

    Raises:
        NotApplicable: the replacement itself names an option of the sample ("something").
    """
    if (own := _own_text(prompt, key)) is not None:
        return own
    sample = prompt.sample
    words = len(quotable(sample.options[option]).split())
    phrase = _UNSPECIFIC[min(max(words, 1), len(_UNSPECIFIC)) - 1]
    neutral_text = statements(sample.question, sample.options) and statement(sample.question, None, sample.options)
    template = _draw_template(wording, bool(neutral_text), rng)
    replacements = [text for text in (phrase if '"{option}"' in template else "", neutral_text) if text]
    # Naming an option that the question itself names does not assert it.
    options = [option for option in sample.options if not (neutral_text and _names(sample.question, option))]
    for text in replacements:
        if any(_names(text, option) for option in options):
            raise NotApplicable(f"a text that asserts nothing says {text!r}, which names an option of the sample")
    template = template.replace('"{option}"', phrase)
    return _without_tags(_fill(template, statement=neutral_text or "", question=quotable(sample.question)), prompt)


def irrelevant(prompt: Prompt, key: str, texts: tuple[str, ...], rng: np.random.Generator) -> str:
    """Return the sample's own text of that name, else one drawn from those of `texts` that name no option.

    Raises:
        NotApplicable: each of them names an option.
    """
    if (own := _own_text(prompt, key)) is not None:
        return own
    for text in map(texts.__getitem__, rng.permutation(len(texts)).tolist()):
        if not any(_names(text, option) for option in prompt.sample.options):
            return text
    raise NotApplicable("every text about something else names an option of the sample")


def _own_text(prompt: Prompt, key: str) -> str | None:
    text = prompt.sample.texts.get(key)
    if text is not None and (not isinstance(text, str) or not text.strip()):
        raise ValueError(
            f"sample {prompt.sample.id!r}, field 'texts.{key}': expected a text that asserts no option, got {text!r}"
        )
    return text if text is None else _without_tags(text.strip(), prompt)


def _names(text: str, option: str) -> bool:
    # The case of a single letter must match, since "a" is a common word.
    option = option.strip()
    return bool(re.search(rf"(?<!\w){re.escape(option)}(?!\w)", text, 0 if len(option) == 1 else re.IGNORECASE))


def assertion(
    prompt: Prompt,
    key: str,
    option: int,
    wording: Wording,
    source: TextSource | None,
    rng: np.random.Generator,
) -> str:
    """Return text that asserts `option`: from `source` if given, else the sample's own, else in the library's wording.

    Args:
        prompt: the prompt that the text is for.
        key: the text's name in `sample.texts`, such as `wrong_caption`.
        option: index in `sample.options` of the option to assert.
        wording: the templates for samples without a text of their own.
        source: a callable that takes precedence.
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
        text = worded(wording, prompt, option, rng) if own is None else own
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{where}: expected a text, got {text!r}")
    return _without_tags(text.strip(), prompt)


def _without_tags(text: str, prompt: Prompt) -> str:
    """Return a text to inject with the style's tags made inert, so that none closes a thought or opens an answer."""
    return inert_tags(text, (*prompt.style.think_tags, *(prompt.style.answer_tags or ())))


def hedged(text: str, hedge: str) -> str:
    """Return a sentence continued by a hedge, without a full stop.

    Example:
        >>> hedged('So the answer is "red".', "but I think")
        'So the answer is "red", but I think'
    """
    return f"{text.rstrip().rstrip('.!')}, {hedge.strip().rstrip('.')}"
