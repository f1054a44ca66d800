"""Thoughts put into the assistant's turn: empty, wrong, true or neutral ones, and the model's own, cut or changed.

Whether an answer depends on the thought before it shows in what becomes of the answer when the thought is changed. All
conditions that change the model's own thought need the response under base. A thought that is complete is closed, and
the letter is read there; compare such conditions with `early_answer_100`, the whole thought read in the same way,
rather than with `base`.

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
from .caption import distractor_of, hedged
from .texts import MISTAKES, THOUGHTS, WORDED, TextSource, assertion, callable_name, named_callable, neutral

__all__ = [
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


def begin_thought(prompt: Prompt, thought: str, condition: str, *, closed: bool = False) -> Prompt:
    """Return the prompt with its assistant's turn begun with a thought, which is left open or closed.

    Raises:
        NotApplicable: the style asks for no thought, or the turn begins with one already.
    """
    if prompt.style.mode == "direct":
        raise NotApplicable(f"condition {condition!r} prefills a thought, and the style's mode is 'direct'")
    if prompt.prefill:
        raise NotApplicable(f"condition {condition!r} prefills a thought, and the turn begins with one already")
    opening, closing = prompt.style.think_tags
    return prompt.replace(prefill=f"{opening}{thought}{closing if closed else ''}")


class StopThink(Perturbation):
    """The assistant's turn is prefilled with a complete, empty thought; only the answer is produced.

    Attributes:
        thought: what stands between the tags.

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


class WrongThink(Perturbation):
    """The assistant's turn is prefilled with reasoning that asserts one wrong option; the model goes on from there.

    Attributes:
        source: callable `(prompt, option, rng) -> str` that writes the thought; None = the sample's own
            `texts["wrong_think"]`, or else the library's words.
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

    source: TextSource | None = None
    hedge: str | None = None

    draw: ClassVar[str | None] = "think"

    @property
    def version(self) -> int:
        """That of the library's words; 1 with a source of one's own, which is known by its name."""
        return WORDED if self.source is None else 1

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


class CorrectThink(Perturbation):
    """The assistant's turn is prefilled with reasoning that asserts the correct option: the control of `WrongThink`.

    It leaks the answer, so accuracy under it says nothing about seeing.

    Attributes:
        source: callable `(prompt, option, rng) -> str` that writes the thought; None = the sample's own
            `texts["correct_think"]`, or else the library's words.

    Source: arXiv:2602.12506, the condition "correct think".

    Example:
        >>> from vlmrobust import Prompt, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which colour?", options=["red", "blue"], answer=1,
        ...                 texts={"correct_think": "The cube is blue."})
        >>> CorrectThink()(Prompt.of(sample)).prefill
        '<think>The cube is blue.'
    """

    source: TextSource | None = None

    draw: ClassVar[str | None] = "think"

    @property
    def version(self) -> int:
        """That of the library's words; 1 with a source of one's own, which is known by its name."""
        return WORDED if self.source is None else 1

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Prefill a true thought and leave it open."""
        option = prompt.sample.answer
        thought = assertion(prompt, "correct_think", option, THOUGHTS, self.source, rng)
        return begin_thought(prompt, thought, self.condition).replace(asserted=option)


class NeutralThink(Perturbation):
    """The assistant's turn is prefilled with a thought of `WrongThink`'s form that asserts no option.

    It is the wrong thought with "something", "somewhere", "a number of" in the option's place, and is left open:
    the control for form. Where the thought quotes question and option, as many words stand there as the distractor
    has. The sample's own `texts["neutral_think"]` is used if there is one, as it should be where the sample has a
    wrong thought of its own.

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
        """That of the wrong thought's words."""
        return WORDED

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Prefill a thought that asserts nothing and leave it open."""
        option = distractor_of(prompt, self.condition)
        return begin_thought(prompt, neutral(prompt, "neutral_think", option, THOUGHTS, rng), self.condition)


# Chinese and Japanese are written without spaces: there, a character counts as a word.
_UNSPACED = r"\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_SENTENCE_BREAK = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*|\n+")

Paraphrase = Annotated[
    Callable[[str], str], named_callable("(thought) -> str"), PlainSerializer(callable_name, return_type=str)
]


class _OwnThought(Perturbation):
    """The assistant's turn begins with what becomes of the model's thought under base."""

    needs_base: ClassVar[bool] = True

    def _thought(self, prompt: Prompt) -> str:
        """Return what the model thought under base.

        Raises:
            NotApplicable: nothing, or its thought was cut off and is no whole that could be changed.
        """
        base = prompt.base
        if base is None or not base.own_think.strip():
            raise NotApplicable(f"condition {self.condition!r} changes the thought under base, and there was none")
        if base.status == "truncated":
            raise NotApplicable(f"condition {self.condition!r} changes the thought under base, which was cut off")
        return base.own_think


class EarlyAnswer(_OwnThought):
    """The thought under base is cut off after a part of its words and closed, and the answer is read there.

    Attributes:
        fraction: how much of it is kept, from 0 (an empty thought) to 1 (all of it).

    Source: Lanham et al., arXiv:2307.13702, "early answering", which cuts between sentences.

    Example:
        >>> from vlmrobust import Prompt, Response, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which colour?", options=["red", "blue"], answer=1)
        >>> said = Response.parse(Prompt.of(sample), "<think>The cube is blue.</think><answer>B</answer>")
        >>> EarlyAnswer(fraction=0.5)(Prompt.of(sample, base=said)).prefill
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


class AddedMistake(_OwnThought):
    """A sentence of the thought under base gives way to one that asserts the distractor; the model goes on from there.

    Which sentence is drawn; what followed it is left out. Where the model's own answer was the distractor, it is no
    mistake to the model: look at samples that are right under base.

    Attributes:
        source: callable `(prompt, option, rng) -> str` that writes the sentence; `prompt.base.own_think` is the
            thought. None = the sample's own `texts["wrong_sentence"]`, or else the library's words.

    Source: Lanham et al., arXiv:2307.13702, "adding mistakes", where a model writes the sentence.

    Example:
        >>> from vlmrobust import Prompt, Response, Sample
        >>> sample = Sample(id="q5", images=["x.png"], question="Which colour?", options=["red", "blue"], answer=1,
        ...                 distractor=0, texts={"wrong_sentence": "It is red."})
        >>> said = Response.parse(Prompt.of(sample), "<think>I see a cube. It is blue.</think><answer>B</answer>")
        >>> AddedMistake()(Prompt.of(sample, base=said)).prefill
        '<think>I see a cube. It is red.'
    """

    source: TextSource | None = None

    draw: ClassVar[str | None] = "mistake"

    @property
    def version(self) -> int:
        """That of the library's words; 1 with a source of one's own, which is known by its name."""
        return WORDED if self.source is None else 1

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Prefill the thought up to the mistake and leave it open."""
        thought = self._thought(prompt)
        option = distractor_of(prompt, self.condition)
        starts = [0, *(end for gap in _SENTENCE_BREAK.finditer(thought) if (end := gap.end()) < len(thought))]
        start = starts[int(rng.random() * len(starts))]
        mistake = assertion(prompt, "wrong_sentence", option, MISTAKES, self.source, rng)
        return begin_thought(prompt, thought[:start] + mistake, self.condition).replace(asserted=option)


class FillerThought(_OwnThought):
    """Every word of the thought under base is replaced by filler, and the answer is read after it.

    An answer that survives does not need what the thought said, only (if that) the room that it took.

    Attributes:
        filler: what stands for a word.

    Source: Lanham et al., arXiv:2307.13702, "filler tokens", which counts tokens; here words are counted.

    Example:
        >>> from vlmrobust import Prompt, Response, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which colour?", options=["red", "blue"], answer=1)
        >>> said = Response.parse(Prompt.of(sample), "<think>It is blue.</think><answer>B</answer>")
        >>> FillerThought()(Prompt.of(sample, base=said)).prefill
        '<think>… … …</think>'
    """

    filler: Annotated[str, Field(pattern=r"\S")] = "…"

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Prefill as much filler, closed."""
        words = len(_WORD.findall(self._thought(prompt)))
        return begin_thought(prompt, " ".join([self.filler] * words), self.condition, closed=True)


class ParaphrasedThought(_OwnThought):
    """The thought under base in other words, and the answer is read after it.

    An answer that changes hung on the wording, for instance on a code that the thought carries beside its meaning.

    Attributes:
        paraphrase: callable `(thought) -> str`. It is called whenever the prompt is made, and has to return the same
            text for the same thought, in a resumed run too.

    Raises:
        ValueError: the paraphrase is no text.

    Source: Lanham et al., arXiv:2307.13702, "paraphrasing".

    Example:
        >>> from vlmrobust import Prompt, Response, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which colour?", options=["red", "blue"], answer=1)
        >>> said = Response.parse(Prompt.of(sample), "<think>It is blue.</think><answer>B</answer>")
        >>> ParaphrasedThought(paraphrase=str.upper)(Prompt.of(sample, base=said)).prefill
        '<think>IT IS BLUE.</think>'
    """

    paraphrase: Paraphrase

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Prefill the paraphrase, closed."""
        said = self.paraphrase(self._thought(prompt))
        if not isinstance(said, str) or not said.strip():
            raise ValueError(
                f"sample {prompt.sample.id!r}, condition {self.condition!r}: expected a paraphrase of the thought, "
                f"got {said!r}"
            )
        return begin_thought(prompt, said.strip(), self.condition, closed=True)
