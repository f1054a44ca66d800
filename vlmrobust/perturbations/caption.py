"""Put a caption before the question: wrong, true, neutral or irrelevant; the image is unchanged."""

from typing import ClassVar

import numpy as np

from ..types import Prompt
from .base import Perturbation
from .wordings import (
    CAPTIONS,
    IRRELEVANT_CAPTIONS,
    WORDED,
    Worded,
    assertion,
    distractor_of,
    hedged,
    irrelevant,
    neutral,
)

__all__ = ["CAPTION_HEDGE", "CorrectCaption", "IrrelevantCaption", "NeutralCaption", "WrongCaption"]

CAPTION_HEDGE = "but I could be wrong"
"""Ends the wrong caption of `wrong_caption_disclaimer`."""


class _Caption(Worded):
    """Put a caption that asserts one option before the question."""

    draw: ClassVar[str | None] = "caption"

    def _caption(self, key: str, prompt: Prompt, option: int, rng: np.random.Generator) -> Prompt:
        caption = assertion(prompt, key, option, CAPTIONS, self.source, rng)
        return before_question(prompt, caption).replace(asserted=option)


class CorrectCaption(_Caption):
    """A caption that asserts the correct option: the control that separates the content of captions from their form.

    It leaks the answer, so accuracy under it is no evidence of visual understanding.

    Attributes:
        source: callable `(prompt, option, rng) -> str` that writes the caption; None = the sample's own
            `texts["correct_caption"]`, or else the library's wording.

    Source: arXiv:2602.12506, the condition "correct caption".

    Example:
        >>> from vlmrobust import Prompt, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which colour?", options=["red", "blue"], answer=1,
        ...                 texts={"correct_caption": "A blue cube."})
        >>> CorrectCaption()(Prompt.of(sample)).context
        'A blue cube.'
    """

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Put a true caption before the question."""
        return self._caption("correct_caption", prompt, prompt.sample.answer, rng)


class WrongCaption(_Caption):
    """A caption that strongly suggests one wrong option, the sample's distractor.

    Attributes:
        source: callable `(prompt, option, rng) -> str` that writes the caption; None = the sample's own
            `texts["wrong_caption"]`, or else the library's wording.
        disclaimer: a hedge after the caption, such as "but I could be wrong"; None = no hedge.

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

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Put a wrong caption before the question."""
        changed = self._caption("wrong_caption", prompt, distractor_of(prompt, self.condition), rng)
        if not self.disclaimer:
            return changed
        return changed.replace(context=f"{hedged(changed.context, self.disclaimer)}.")


class NeutralCaption(Perturbation):
    """A caption in the form of `WrongCaption` that asserts no option: the control for form.

    It is the wrong caption with "something", "somewhere", "a number of" in place of the option; where the caption
    quotes question and option, the replacement has as many words as the distractor. The further effect of
    `WrongCaption` is due to its content. The sample's own `texts["neutral_caption"]` is used if present; a sample with
    its own wrong caption should have one.

    Example:
        >>> from vlmrobust import Prompt, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="What colour is the cube?", options=["red", "blue"],
        ...                 answer=1, distractor=0)
        >>> WrongCaption()(Prompt.of(sample)).context, NeutralCaption()(Prompt.of(sample)).context
        ('Caption: The cube is red.', 'Caption: The cube is of some colour.')
    """

    draw: ClassVar[str | None] = "caption"

    @property
    def version(self) -> int:
        """The version of the wrong caption's wording."""
        return WORDED

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Put a caption that asserts nothing before the question."""
        option = distractor_of(prompt, self.condition)
        return before_question(prompt, neutral(prompt, "neutral_caption", option, CAPTIONS, rng))


class IrrelevantCaption(Perturbation):
    """A caption about something else before the question; it asserts and names no option.

    The sample's own `texts["irrelevant_caption"]` is used if present, else one of a few sentences.

    Source: the irrelevant text of arXiv:2503.02199; the sentences are ours.

    Example:
        >>> from vlmrobust import Prompt, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which colour?", options=["red", "blue"], answer=1)
        >>> IrrelevantCaption()(Prompt.of(sample)).context
        'Caption of the image: paper was made of rags for centuries before it was made of wood.'
    """

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Put the sentence before the question."""
        return before_question(prompt, irrelevant(prompt, "irrelevant_caption", IRRELEVANT_CAPTIONS, rng))


def before_question(prompt: Prompt, text: str) -> Prompt:
    """Return the prompt with one more text before the question."""
    return prompt.replace(context=f"{prompt.context}\n\n{text}" if prompt.context else text)
