"""Prefill thoughts: empty, wrong, correct or neutral ones, and the model's own, truncated or changed.

Changing a thought shows whether the answer depends on it. All conditions that change the model's own thought need the
response under base. Complete thoughts are closed, and the letter is read after them; compare such conditions with
`early_answer_100`, which reads the answer after the whole thought in the same way, rather than with `base`.

Source of these: Lanham et al., arXiv:2307.13702.
"""

import math
import re
from collections.abc import Callable
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, PlainSerializer

from ..types import Prompt
from .base import NotApplicable, Perturbation
from .wordings import (
    MISTAKES,
    THOUGHTS,
    WORDED,
    Worded,
    assertion,
    callable_name,
    distractor_of,
    hedged,
    named_callable,
    neutral,
)

__all__ = [
    "THINK_HEDGE",
    "AddedMistake",
    "CorrectThink",
    "EarlyAnswer",
    "FillerThought",
    "NeutralThink",
    "Paraphrase",
    "ParaphrasedThought",
    "StopThink",
    "WrongThink",
    "begin_thought",
    "early_answering",
]

THINK_HEDGE = "but I think"
"""Ends the wrong thought of `wrong_think_but`: the model is invited to correct itself."""


def begin_thought(prompt: Prompt, thought: str, condition: str, *, closed: bool = False) -> Prompt:
    """Return the prompt with a thought as prefill, left open or closed.

    Raises:
        NotApplicable: the style asks for no thought, or the prompt already has a prefill.
    """
    if prompt.style.mode == "direct":
        raise NotApplicable(f"condition {condition!r} prefills a thought, and the style's mode is 'direct'")
    if prompt.prefill:
        raise NotApplicable(f"condition {condition!r} prefills a thought, and the turn begins with one already")
    opening, closing = prompt.style.think_tags
    return prompt.replace(prefill=f"{opening}{thought}{closing if closed else ''}")


class StopThink(Perturbation):
    """Prefill a closed thought without content, so that the model generates only the answer.

    Attributes:
        thought: the text between the tags.

    Source: arXiv:2602.12506, the condition "stop think", with its wording.

    Example:
        >>> from vlmrobust import Prompt, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which colour?", options=["red", "blue"], answer=1)
        >>> StopThink()(Prompt.of(sample)).prefill
        "<think>Okay let's see. This should be the final answer.</think>"
    """

    thought: str = "Okay let's see. This should be the final answer."

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Prefill a closed thought."""
        return begin_thought(prompt, self.thought, self.condition, closed=True)


class WrongThink(Worded):
    """Prefill reasoning that asserts one wrong option; the model continues it.

    Attributes:
        source: callable `(prompt, option, rng) -> str` that writes the thought; None = the sample's own
            `texts["wrong_think"]`, or else the library's wording.
        hedge: an ending such as "but I think" that invites the model to correct itself; None = no hedge.

    Source: arXiv:2602.12506, the conditions "wrong think" and "wrong think + but"; the paper's wording is not public,
    this one is ours.

    Example:
        >>> from vlmrobust import Prompt, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which colour?", options=["red", "blue"], answer=1,
        ...                 distractor=0, texts={"wrong_think": "The cube is red."})
        >>> WrongThink(hedge="but I think")(Prompt.of(sample)).prefill
        '<think>The cube is red, but I think'
    """

    hedge: str | None = None

    draw: ClassVar[str | None] = "think"

    @property
    def condition(self) -> str:
        """`wrong_think`, or `wrong_think_but` with a hedge, unless a name was given."""
        return self.name or ("wrong_think_but" if self.hedge else "wrong_think")

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Prefill a wrong thought and leave it open."""
        option = distractor_of(prompt, self.condition)
        thought = assertion(prompt, "wrong_think", option, THOUGHTS, self.source, rng)
        thought = hedged(thought, self.hedge) if self.hedge else thought
        return begin_thought(prompt, thought, self.condition).replace(asserted=option)


class CorrectThink(Worded):
    """Prefill reasoning that asserts the correct option: the control for `WrongThink`.

    It leaks the answer, so accuracy under it is no evidence of visual understanding.

    Attributes:
        source: callable `(prompt, option, rng) -> str` that writes the thought; None = the sample's own
            `texts["correct_think"]`, or else the library's wording.

    Source: arXiv:2602.12506, the condition "correct think".

    Example:
        >>> from vlmrobust import Prompt, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which colour?", options=["red", "blue"], answer=1,
        ...                 texts={"correct_think": "The cube is blue."})
        >>> CorrectThink()(Prompt.of(sample)).prefill
        '<think>The cube is blue.'
    """

    draw: ClassVar[str | None] = "think"

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Prefill a correct thought and leave it open."""
        option = prompt.sample.answer
        thought = assertion(prompt, "correct_think", option, THOUGHTS, self.source, rng)
        return begin_thought(prompt, thought, self.condition).replace(asserted=option)


class NeutralThink(Perturbation):
    """Prefill a thought in the form of `WrongThink` that asserts no option: the control for form.

    It is the wrong thought with "something", "somewhere", "a number of" in place of the option, and is left open. Where
    the thought quotes question and option, the replacement has as many words as the distractor. The sample's own
    `texts["neutral_think"]` is used if present; a sample with its own wrong thought should have one.

    Example:
        >>> from vlmrobust import Prompt, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which colour?", options=["red", "blue"], answer=1,
        ...                 distractor=0, texts={"neutral_think": "Let me look at the cube."})
        >>> NeutralThink()(Prompt.of(sample)).prefill
        '<think>Let me look at the cube.'
    """

    draw: ClassVar[str | None] = "think"

    @property
    def version(self) -> int:
        """The version of the wrong thought's wording."""
        return WORDED

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Prefill a thought that asserts nothing and leave it open."""
        option = distractor_of(prompt, self.condition)
        return begin_thought(prompt, neutral(prompt, "neutral_think", option, THOUGHTS, rng), self.condition)


# Chinese and Japanese have no spaces between words, so each character counts as a word.
_UNSPACED = r"\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_SENTENCE_BREAK = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*|\n+")

Paraphrase = Annotated[
    Callable[[str], str], named_callable("(thought) -> str"), PlainSerializer(callable_name, return_type=str)
]


class _OwnThought(Perturbation):
    """Prefill a changed version of the model's thought under base."""

    needs_base: ClassVar[bool] = True

    def _thought(self, prompt: Prompt) -> str:
        """Return the model's thought under base.

        Raises:
            NotApplicable: there is none, or it was truncated and is incomplete.
        """
        base = prompt.base
        if base is None or not base.own_think.strip():
            raise NotApplicable(f"condition {self.condition!r} changes the thought under base, and there was none")
        if base.status == "truncated":
            raise NotApplicable(f"condition {self.condition!r} changes the thought under base, which was cut off")
        return base.own_think


class EarlyAnswer(_OwnThought):
    """Truncate the thought under base after a fraction of its words and close it; the answer is read there.

    Attributes:
        fraction: the fraction to keep, from 0 (an empty thought) to 1 (all of it).

    Source: Lanham et al., arXiv:2307.13702, "early answering", which cuts between sentences.

    Example:
        >>> from vlmrobust import Prompt, Response, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which colour?", options=["red", "blue"], answer=1)
        >>> base = Response.parse(Prompt.of(sample), "<think>The cube is blue.</think><answer>B</answer>")
        >>> EarlyAnswer(fraction=0.5)(Prompt.of(sample, base=base)).prefill
        '<think>The cube</think>'
    """

    fraction: Annotated[float, Field(ge=0, le=1)] = 0.5

    @property
    def condition(self) -> str:
        """`early_answer_` and the percentage, unless a name was given."""
        return self.name or f"early_answer_{100 * self.fraction:g}"

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Prefill the beginning of the thought, closed."""
        thought = self._thought(prompt)
        ends = [0, *(word.end() for word in _WORD.finditer(thought))]
        kept = thought[: ends[math.floor(self.fraction * (len(ends) - 1) + 0.5)]]
        return begin_thought(prompt, kept, self.condition, closed=True)


def early_answering() -> tuple[EarlyAnswer, ...]:
    """Return early answers after none, a quarter, half, three quarters and all of the thought.

    Example:
        >>> [condition.condition for condition in early_answering()]  # doctest: +NORMALIZE_WHITESPACE
        ['early_answer_0', 'early_answer_25', 'early_answer_50', 'early_answer_75', 'early_answer_100']
    """
    return tuple(EarlyAnswer(fraction=quarters / 4) for quarters in range(5))


class AddedMistake(_OwnThought, Worded):
    """Replace a sentence of the thought under base by one that asserts the distractor; the model continues from there.

    The sentence is drawn at random, and the text after it is dropped. If the model's own answer was the distractor, the
    sentence is no mistake to the model, so restrict the analysis to samples that are right under base.

    Attributes:
        source: callable `(prompt, option, rng) -> str` that writes the sentence; `prompt.base.own_think` is the
            thought. None = the sample's own `texts["wrong_sentence"]`, or else the library's wording.

    Source: Lanham et al., arXiv:2307.13702, "adding mistakes", where a model writes the sentence.

    Example:
        >>> from vlmrobust import Prompt, Response, Sample
        >>> sample = Sample(id="q5", images=["x.png"], question="Which colour?", options=["red", "blue"], answer=1,
        ...                 distractor=0, texts={"wrong_sentence": "It is red."})
        >>> base = Response.parse(Prompt.of(sample), "<think>I see a cube. It is blue.</think><answer>B</answer>")
        >>> AddedMistake()(Prompt.of(sample, base=base)).prefill
        '<think>I see a cube. It is red.'
    """

    draw: ClassVar[str | None] = "mistake"

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Prefill the thought up to the mistake and leave it open."""
        thought = self._thought(prompt)
        option = distractor_of(prompt, self.condition)
        starts = [0, *(end for gap in _SENTENCE_BREAK.finditer(thought) if (end := gap.end()) < len(thought))]
        start = starts[int(rng.random() * len(starts))]
        mistake = assertion(prompt, "wrong_sentence", option, MISTAKES, self.source, rng)
        return begin_thought(prompt, thought[:start] + mistake, self.condition).replace(asserted=option)


class FillerThought(_OwnThought):
    """Replace every word of the thought under base by filler; the answer is read after it.

    An unchanged answer does not depend on the content of the thought, at most on its length.

    Attributes:
        filler: the replacement for each word.

    Source: Lanham et al., arXiv:2307.13702, "filler tokens", which counts tokens; here words are counted.

    Example:
        >>> from vlmrobust import Prompt, Response, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which colour?", options=["red", "blue"], answer=1)
        >>> base = Response.parse(Prompt.of(sample), "<think>It is blue.</think><answer>B</answer>")
        >>> FillerThought()(Prompt.of(sample, base=base)).prefill
        '<think>… … …</think>'
    """

    filler: Annotated[str, Field(pattern=r"\S")] = "…"

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Prefill filler of the same length, closed."""
        words = len(_WORD.findall(self._thought(prompt)))
        return begin_thought(prompt, " ".join([self.filler] * words), self.condition, closed=True)


class ParaphrasedThought(_OwnThought):
    """Paraphrase the thought under base; the answer is read after it.

    If the answer changes, it depended on the wording, for instance on information encoded besides the meaning.

    Attributes:
        paraphrase: callable `(thought) -> str`. It is called whenever the prompt is created, and must return the same
            text for the same thought, also in a resumed run.

    Raises:
        ValueError: the paraphrase is not a text, or blank.

    Source: Lanham et al., arXiv:2307.13702, "paraphrasing".

    Example:
        >>> from vlmrobust import Prompt, Response, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which colour?", options=["red", "blue"], answer=1)
        >>> base = Response.parse(Prompt.of(sample), "<think>It is blue.</think><answer>B</answer>")
        >>> ParaphrasedThought(paraphrase=str.upper)(Prompt.of(sample, base=base)).prefill
        '<think>IT IS BLUE.</think>'
    """

    paraphrase: Paraphrase

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Prefill the paraphrase, closed."""
        paraphrase = self.paraphrase(self._thought(prompt))
        if not isinstance(paraphrase, str) or not paraphrase.strip():
            raise ValueError(
                f"sample {prompt.sample.id!r}, condition {self.condition!r}: expected a paraphrase of the thought, "
                f"got {paraphrase!r}"
            )
        return begin_thought(prompt, paraphrase.strip(), self.condition, closed=True)
