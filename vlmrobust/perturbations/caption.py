"""A caption before the question, wrong or true; the image is unchanged."""

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from ..types import Prompt
from .base import Perturbation
from .texts import CAPTION_TEMPLATES, TextSource, assertion

__all__ = ["CorrectCaption", "WrongCaption"]


class _Caption(Perturbation):
    """A caption that asserts one option stands before the question."""

    source: TextSource | None = None

    draw: ClassVar[str | None] = "caption"

    @abstractmethod
    def _asserted(self, prompt: Prompt) -> int:
        """Return the option that the caption asserts."""

    def _caption(self, key: str, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        option = self._asserted(prompt)
        caption = assertion(prompt, key, option, CAPTION_TEMPLATES, self.source, rng)
        context = f"{prompt.context}\n\n{caption}" if prompt.context else caption
        return prompt.replace(context=context, asserted=option)


class CorrectCaption(_Caption):
    """A caption that asserts the correct option: the control that shows content, not form, to mislead.

    It leaks the answer, so accuracy under it says nothing about seeing.

    Attributes:
        source: callable `(prompt, option, rng) -> str` that writes the caption; None = the sample's own
            `texts["correct_caption"]`, or else a template.

    Source: arXiv:2602.12506, the condition "correct caption".

    Example:
        >>> from vlmrobust import Prompt, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which colour?", options=["red", "blue"], answer=1,
        ...                 texts={"correct_caption": "A blue cube."})
        >>> CorrectCaption()(Prompt.of(sample)).context
        'A blue cube.'
    """

    def _asserted(self, prompt: Prompt) -> int:
        return prompt.sample.answer

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Put a true caption before the question."""
        return self._caption("correct_caption", prompt, rng)


class WrongCaption(_Caption):
    """A caption that strongly suggests one wrong option, the sample's distractor.

    Attributes:
        source: callable `(prompt, option, rng) -> str` that writes the caption; None = the sample's own
            `texts["wrong_caption"]`, or else a template.
        disclaimer: a hedge that follows the caption, such as "but I could be wrong"; None = no hedge.

    Source: arXiv:2602.12506, the conditions "wrong caption" and "wrong caption + disclaimer"; the paper's wording is
    not public, this one is ours.

    Example:
        >>> from vlmrobust import Prompt, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which colour?", options=["red", "blue"], answer=1,
        ...                 distractor=0, texts={"wrong_caption": "A red cube."})
        >>> WrongCaption(disclaimer="but I could be wrong")(Prompt.of(sample)).context
        'A red cube, but I could be wrong.'
    """

    disclaimer: str | None = None

    @property
    def condition(self) -> str:
        """`wrong_caption`, or `wrong_caption_disclaimer` with a hedge, unless a name was given."""
        return self.name or ("wrong_caption_disclaimer" if self.disclaimer else "wrong_caption")

    def _asserted(self, prompt: Prompt) -> int:
        return distractor_of(prompt, self.condition)

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Put a wrong caption before the question."""
        changed = self._caption("wrong_caption", prompt, rng)
        if not self.disclaimer:
            return changed
        return changed.replace(context=f"{hedged(changed.context, self.disclaimer)}.")


def distractor_of(prompt: Prompt, condition: str) -> int:
    """Return the wrong option that all conditions of this sample assert.

    Raises:
        ValueError: the prompt has none; `expand` draws one.
    """
    if prompt.distractor is None:
        raise ValueError(
            f"sample {prompt.sample.id!r}, condition {condition!r}: expected a prompt with a distractor, got none; "
            "make prompts with 'expand', or give the sample a distractor"
        )
    return prompt.distractor


def hedged(text: str, hedge: str) -> str:
    """Return a sentence that goes on into a hedge, without a full stop.

    Example:
        >>> hedged('So the answer is "red".', "but I think")
        'So the answer is "red", but I think'
    """
    return f"{text.rstrip().rstrip('.!')}, {hedge.strip().rstrip('.')}"
