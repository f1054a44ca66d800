"""The base class of perturbations: the author writes `perturb`, the base owns the rest."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, final

import numpy as np
from pydantic import Field, SerializeAsAny

from ..naming import snake_case
from ..seeding import generator
from ..types import Prompt
from ..types.frozen import Frozen

__all__ = ["Compose", "NotApplicable", "Perturbation"]


class NotApplicable(Exception):  # noqa: N818 - not an error: the condition does not fit this sample
    """Raised in `perturb` when a condition does not fit a sample; the report lists it and does not score it.

    Example:
        >>> raise NotApplicable("rotation by 5 needs more than 4 options")
        Traceback (most recent call last):
        vlmrobust.perturbations.base.NotApplicable: rotation by 5 needs more than 4 options
    """


class Perturbation(Frozen, ABC):
    """A change to a prompt. Subclasses write `perturb(prompt, rng)`; calling one gives a prompt under its condition.

    Attributes:
        name: the condition's name in reports; None = the class name in snake case.

    Class attributes:
        draw: what `rng` is keyed by, besides seed and sample. Perturbations that differ in truth, hedge or severity
            alone share it, so that their texts differ in that alone. None = the class name in snake case.
        needs_base: the base condition is answered first, and `prompt.base` is its response.

    Example:
        >>> class Shouted(Perturbation):
        ...     def perturb(self, prompt, rng):
        ...         return prompt.replace(question=prompt.question.upper())
        >>> Shouted().condition
        'shouted'
    """

    name: str | None = Field(default=None, min_length=1)

    draw: ClassVar[str | None] = None
    needs_base: ClassVar[bool] = False

    @property
    def condition(self) -> str:
        """The condition's name in reports."""
        return self.name or snake_case(type(self).__name__)

    @property
    def version(self) -> int:
        """Which prompts these fields stand for: raised when a release words them otherwise.

        It is part of a run's manifest from 2 on, so that a run is not gone on with in other words.
        """
        return 1

    @abstractmethod
    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Return the changed prompt.

        Args:
            prompt: the prompt so far; change it with `prompt.replace(…)`.
            rng: random numbers keyed by seed, sample and `draw`: the same whenever this sample is asked.

        Raises:
            NotApplicable: the condition does not fit this sample.
        """

    @final
    def __call__(self, prompt: Prompt, seed: int = 0) -> Prompt:
        """Return the prompt under this condition.

        Args:
            prompt: the unperturbed prompt, or one that another perturbation has changed.
            seed: the run's seed.

        Raises:
            NotApplicable: the condition does not fit this sample.
            TypeError: `perturb` returned something else than a prompt.
        """
        if prompt.condition != self.condition:
            prompt = prompt.replace(condition=self.condition)  # errors name this condition
        changed = self._perturbed(prompt, seed)
        return changed if changed.condition == self.condition else changed.replace(condition=self.condition)

    def _perturbed(self, prompt: Prompt, seed: int) -> Prompt:
        where = f"sample {prompt.sample.id!r}, condition {self.condition!r}"
        if self.needs_base and prompt.base is None:
            raise ValueError(f"{where}: expected the response under base in 'prompt.base', got none")
        rng = generator(seed, prompt.sample.id, self.draw or snake_case(type(self).__name__))
        changed = self.perturb(prompt, rng)
        if not isinstance(changed, Prompt):
            raise TypeError(f"{where}: expected a Prompt from 'perturb', got {type(changed).__name__}")
        return changed

    def __add__(self, other: "Perturbation") -> "Compose":
        return Compose(self, other)


class Compose(Perturbation):
    """Perturbations applied one after the other; its condition joins their names with `+`.

    Attributes:
        perturbations: applied from the left.

    Example:
        >>> from vlmrobust.perturbations import AbstainOption, WrongCaption
        >>> Compose(WrongCaption(), AbstainOption()).condition
        'wrong_caption+abstain_option'
        >>> (WrongCaption() + AbstainOption()).condition
        'wrong_caption+abstain_option'
    """

    perturbations: tuple[SerializeAsAny[Perturbation], ...] = Field(min_length=1)

    def __init__(self, *perturbations: Perturbation, **fields: Any) -> None:
        parts: list[Perturbation] = []
        for part in perturbations or fields.pop("perturbations", ()):
            parts += part.perturbations if isinstance(part, Compose) and part.name is None else (part,)
        super().__init__(**{"perturbations": tuple(parts)} | fields)

    @property
    def condition(self) -> str:
        """The parts' names joined with `+`, unless a name was given."""
        return self.name or "+".join(part.condition for part in self.perturbations)

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Not used: the parts draw with their own keys."""
        raise NotImplementedError

    def _perturbed(self, prompt: Prompt, seed: int) -> Prompt:
        changed = prompt
        for part in self.perturbations:
            changed = part._perturbed(changed, seed)
        if prompt.base is not None and changed.history != prompt.history and _asked(changed) != _asked(prompt):
            raise NotApplicable(
                f"condition {self.condition!r} replies to the answer under base, and changes what that was asked"
            )
        return changed


def _asked(prompt: Prompt) -> tuple[Any, ...]:
    """Return what the first turn of a prompt asks, images by identity."""
    images = tuple(map(id, prompt.images))
    return images, prompt.style, prompt.context, prompt.question, prompt.options, prompt.order
