"""The paper's conditions, and what every list of conditions has to be."""

from collections.abc import Sequence

import numpy as np

from ..types import Prompt
from .base import Perturbation
from .caption import CorrectCaption, WrongCaption
from .think import CorrectThink, StopThink, WrongThink

__all__ = ["Base", "check_conditions", "paper_conditions"]


class Base(Perturbation):
    """No change: what every other condition is compared with.

    Example:
        >>> Base().condition
        'base'
    """

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Return the prompt as it is."""
        return prompt


def paper_conditions() -> tuple[Perturbation, ...]:
    """Return the eight conditions of arXiv:2602.12506, `base` first; the abstain option composes with any of them.

    Example:
        >>> [condition.condition for condition in paper_conditions()]  # doctest: +NORMALIZE_WHITESPACE
        ['base', 'stop_think', 'wrong_think', 'wrong_think_but', 'wrong_caption', 'wrong_caption_disclaimer',
         'correct_caption', 'correct_think']
    """
    return (
        Base(),
        StopThink(),
        WrongThink(),
        WrongThink(hedge="but I think"),
        WrongCaption(),
        WrongCaption(disclaimer="but I could be wrong"),
        CorrectCaption(),
        CorrectThink(),
    )


def check_conditions(perturbations: Sequence[Perturbation]) -> tuple[Perturbation, ...]:
    """Return the conditions with `base` in front, refusing two of one name.

    Raises:
        TypeError: something else than a perturbation is among them.
        ValueError: two conditions have the same name.
    """
    conditions: dict[str, Perturbation] = {}
    for perturbation in perturbations:
        if not isinstance(perturbation, Perturbation):
            raise TypeError(f"expected perturbations, got {type(perturbation).__name__}: {perturbation!r:.100}")
        if perturbation.condition in conditions:
            raise ValueError(
                f"expected conditions with names that differ, got {perturbation.condition!r} twice; "
                "set 'name' on one of them"
            )
        conditions[perturbation.condition] = perturbation
    base = conditions.pop("base", None) or Base()
    return (base, *conditions.values())
