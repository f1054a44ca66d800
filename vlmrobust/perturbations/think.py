"""The assistant's turn prefilled with a thought: empty, wrong, true, or asserting nothing."""

from typing import ClassVar

import numpy as np

from ..types import Prompt
from .base import NotApplicable, Perturbation
from .caption import distractor_of, hedged
from .texts import THOUGHTS, WORDED, TextSource, assertion, neutral

__all__ = ["CorrectThink", "NeutralThink", "StopThink", "WrongThink", "begin_thought"]


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
