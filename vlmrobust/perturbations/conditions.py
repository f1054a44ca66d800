"""The paper's conditions, and what every list of conditions has to be."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..types import Prompt
from .base import Perturbation
from .caption import CorrectCaption, WrongCaption
from .think import CorrectThink, StopThink, WrongThink

__all__ = ["Base", "check_conditions", "in_place_of_one", "paper_conditions"]


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
        TypeError: it is no list, or something else than a perturbation is among them.
        ValueError: two conditions have the same name.
    """
    # A perturbation can be iterated over too: it gives its fields.
    if isinstance(perturbations, Perturbation):
        arguments = "…" if perturbations.model_fields_set else ""
        raise TypeError(
            f"expected a list of perturbations, got one: write [{type(perturbations).__name__}({arguments})]"
        )
    if isinstance(perturbations, str | type):
        raise TypeError(f"expected a list of perturbations, got {in_place_of_one(perturbations)}")
    conditions: dict[str, Perturbation] = {}
    for perturbation in perturbations:
        if not isinstance(perturbation, Perturbation):
            raise TypeError(f"expected perturbations, got {in_place_of_one(perturbation)}")
        if perturbation.condition in conditions:
            raise ValueError(
                f"expected conditions with names that differ, got {perturbation.condition!r} twice; "
                "set 'name' on one of them"
            )
        conditions[perturbation.condition] = perturbation
    base = conditions.pop("base", None) or Base()
    return (base, *conditions.values())


def in_place_of_one(value: Any) -> str:
    """Return for an error what came in place of a perturbation, and what to write where that can be told."""
    if isinstance(value, type) and issubclass(value, Perturbation):
        return f"the class {value.__name__}: write {value.__name__}()"
    came = f"{type(value).__name__}: {value!r:.100}"
    if isinstance(value, str):
        return (
            f"{came}; names are for the command line: write an instance, such as vlmrobust.perturbations.WrongThink()"
        )
    return came
