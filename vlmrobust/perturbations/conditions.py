"""The paper's conditions, and samples × conditions → prompts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import overload

import numpy as np

from ..keyed import generator
from ..types import Prompt, Response, Sample, Style, check_samples
from .base import Perturbation
from .caption import CorrectCaption, WrongCaption
from .think import CorrectThink, StopThink, WrongThink

__all__ = ["Base", "Prompts", "check_conditions", "draw_distractor", "expand", "paper_conditions"]


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


class Prompts(Sequence[Prompt]):
    """The prompts of samples × conditions × draws, made when they are asked for; see `expand`."""

    def __init__(
        self,
        samples: Sequence[Sample],
        perturbations: Sequence[Perturbation],
        *,
        seed: int,
        style: Style | None,
        draws: int,
        base: Mapping[str, Response] | None,
    ) -> None:
        self.samples = check_samples(samples)
        self.conditions = check_conditions(perturbations)
        self.seed, self.style, self.draws = seed, style, draws
        self._base = base or {}

    def __len__(self) -> int:
        return len(self.samples) * len(self.conditions) * self.draws

    @overload
    def __getitem__(self, index: int) -> Prompt: ...
    @overload
    def __getitem__(self, index: slice) -> list[Prompt]: ...
    def __getitem__(self, index: int | slice) -> Prompt | list[Prompt]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        position, draw = divmod(position, self.draws)
        sample, condition = divmod(position, len(self.conditions))
        return self.make(self.samples[sample], self.conditions[condition], draw)

    def __iter__(self) -> Iterator[Prompt]:
        return (self[index] for index in range(len(self)))

    def make(self, sample: Sample, condition: Perturbation, draw: int = 0, base: Response | None = None) -> Prompt:
        """Return the prompt of one sample under one condition.

        Raises:
            NotApplicable: the condition does not fit the sample.
        """
        unperturbed = Prompt.of(
            sample,
            style=self.style,
            draw=draw,
            distractor=draw_distractor(sample, self.seed),
            base=base or self._base.get(sample.id),
        )
        return condition(unperturbed, self.seed)


def expand(
    samples: Sequence[Sample],
    perturbations: Sequence[Perturbation],
    *,
    seed: int = 0,
    style: Style | None = None,
    draws: int = 1,
    base: Sequence[Response] | None = None,
) -> Prompts:
    """Return the prompts of samples × conditions, all conditions of a sample together; each is made when asked for.

    Args:
        samples: with ids that differ.
        perturbations: the conditions; `Base()` is put in front if it is not among them.
        seed: keys every random draw, together with the sample's id.
        style: how questions are put; None = the default style.
        draws: how often each prompt is repeated.
        base: responses to the base condition, for conditions that need them.

    Raises:
        ValueError: two samples of one id, or two conditions of one name.

    Example:
        >>> sample = Sample(id="q1", images=["x.png"], question="Which?", options=["red", "blue"], answer=1)
        >>> prompts = expand([sample], paper_conditions(), seed=0)
        >>> len(prompts), prompts[2].condition, prompts[2].asserted
        (8, 'wrong_think', 0)
    """
    answered = {response.sample_id: response for response in base or () if response.condition == "base"}
    return Prompts(samples, perturbations, seed=seed, style=style, draws=draws, base=answered)
