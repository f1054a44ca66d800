"""Define the base class of perturbations; subclasses implement `perturb`."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, final

import numpy as np
from pydantic import Field, SerializeAsAny

from ..seeding import generator
from ..text import snake_case
from ..types import Prompt
from ..types.frozen import Frozen

__all__ = ["Compose", "NotApplicable", "Perturbation"]


class NotApplicable(Exception):  # noqa: N818 - not an error: the condition does not apply to this sample
    """Raised in `perturb` if a condition does not apply to a sample; the report lists the row but does not score it.

    Example:
        >>> raise NotApplicable("rotation by 5 needs more than 4 options")
        Traceback (most recent call last):
        vlmrobust.perturbations.base.NotApplicable: rotation by 5 needs more than 4 options
    """


class Perturbation(Frozen, ABC):
    """A change to a prompt. Subclasses implement `perturb(prompt, rng)`; calling one returns the changed prompt.

    Attributes:
        name: the condition's name in reports; None = the class name in snake case.

    Class attributes:
        draw: the key of `rng`, besides seed and sample. Perturbations that differ only in truth, hedge or severity
            share it, so that their texts differ only in that. None = the class name in snake case.
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
        """The version of the prompts, raised when a release changes their wording.

        From 2 on it is part of a run's manifest, so that a run cannot be resumed with another wording.
        """
        return 1

    @abstractmethod
    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Return the changed prompt.

        Args:
            prompt: the prompt so far; change it with `prompt.replace(…)`.
            rng: random numbers keyed by seed, sample and `draw`, so that they are the same for every call.

        Raises:
            NotApplicable: the condition does not apply to this sample.
        """

    @final
    def __call__(self, prompt: Prompt, seed: int = 0) -> Prompt:
        """Return the prompt under this condition.

        Args:
            prompt: the unperturbed prompt, or one changed by another perturbation.
            seed: the run's seed.

        Raises:
            NotApplicable: the condition does not apply to this sample.
            TypeError: `perturb` did not return a prompt.
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
    """Perturbations applied in sequence; the condition's name joins theirs with `+`.

    Attributes:
        perturbations: applied from left to right.

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
        """Unused, since the parts have their own random keys."""
        raise NotImplementedError

    def _perturbed(self, prompt: Prompt, seed: int) -> Prompt:
        changed = prompt
        for part in self.perturbations:
            changed = part._perturbed(changed, seed)
        if (
            prompt.base is not None
            and changed.history != prompt.history
            and _first_turn(changed) != _first_turn(prompt)
        ):
            raise NotApplicable(
                f"condition {self.condition!r} replies to the answer under base, and changes what that was asked"
            )
        return changed


def _first_turn(prompt: Prompt) -> tuple[Any, ...]:
    """Return the content of a prompt's first turn, with images by identity."""
    images = tuple(map(id, prompt.images))
    return images, prompt.style, prompt.context, prompt.question, prompt.options, prompt.order
