"""Expand samples × conditions to prompts; list the paper's conditions and check lists of conditions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args, overload

import numpy as np

from ..types import Prompt, Response, Sample, Style, check_samples
from .base import Compose, NotApplicable, Perturbation
from .caption import CAPTION_HEDGE, CorrectCaption, WrongCaption
from .think import THINK_HEDGE, CorrectThink, StopThink, WrongThink
from .wordings import Distractor, draw_distractor, runner_up

__all__ = ["Base", "BaseResponses", "Prompts", "check_conditions", "expand", "in_place_of_one", "paper_conditions"]


class Base(Perturbation):
    """No change: the baseline for all other conditions.

    Example:
        >>> Base().condition
        'base'
    """

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Return the prompt unchanged."""
        return prompt


def paper_conditions() -> tuple[Perturbation, ...]:
    """Return the eight conditions of arXiv:2602.12506, `base` first; each can be composed with the abstain option.

    Example:
        >>> [condition.condition for condition in paper_conditions()]  # doctest: +NORMALIZE_WHITESPACE
        ['base', 'stop_think', 'wrong_think', 'wrong_think_but', 'wrong_caption', 'wrong_caption_disclaimer',
         'correct_caption', 'correct_think']
    """
    return (
        Base(),
        StopThink(),
        WrongThink(),
        WrongThink(hedge=THINK_HEDGE),
        WrongCaption(),
        WrongCaption(disclaimer=CAPTION_HEDGE),
        CorrectCaption(),
        CorrectThink(),
    )


def check_conditions(perturbations: Sequence[Perturbation]) -> tuple[Perturbation, ...]:
    """Return the conditions with `base` first, after checking that their names are unique.

    Raises:
        TypeError: it is not a list, or an item is not a perturbation.
        ValueError: two conditions have the same name.
    """
    # Iterating over a perturbation yields its fields.
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
    """Describe, for an error message, a value that is not a perturbation, with a correction if possible."""
    if isinstance(value, type) and issubclass(value, Perturbation):
        return f"the class {value.__name__}: write {value.__name__}()"
    hint = "; names are for the command line: write an instance, such as vlmrobust.perturbations.WrongThink()"
    return f"{type(value).__name__}: {value!r:.100}{hint if isinstance(value, str) else ''}"


BaseResponses = Mapping[tuple[str, int], Response]
"""The responses under base, by sample id and draw."""


class Prompts(Sequence[Prompt]):
    """The prompts of samples × conditions × draws, created on access; see `expand`.

    Conditions that do not apply to a sample are left out; `not_applicable` lists them. Finding these takes creating the
    prompts: an index creates those before it, `len` and `list` create all.

    Args:
        samples: see `expand`.
        perturbations: see `expand`.
        seed: see `expand`.
        style: see `expand`.
        draws: see `expand`.
        distractor: see `expand`.
        base: the responses under base.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        perturbations: Sequence[Perturbation],
        *,
        seed: int,
        style: Style | None,
        draws: int,
        base: BaseResponses | None = None,
        distractor: Distractor = "random",
    ) -> None:
        if distractor not in get_args(Distractor):
            raise ValueError(f"field 'distractor': expected 'random' or 'runner_up', got {distractor!r}")
        self.samples = check_samples(samples)
        self.conditions = check_conditions(perturbations)
        self.seed, self.style, self.draws = seed, style, draws
        self.distractor: Distractor = distractor
        self._base = base or {}
        self._fitting: list[int] = []
        self._reasons: dict[int, str] = {}
        # Caches for the latest sample, shared by its conditions: the drawn distractor and the unperturbed prompts.
        self._drawn: tuple[Sample | None, int] = (None, 0)
        self._made: tuple[Sample | None, dict[int, Prompt]] = (None, {})

    @property
    def planned(self) -> int:
        """The number of samples × conditions × draws, applicable or not."""
        return len(self.samples) * len(self.conditions) * self.draws

    @property
    def not_applicable(self) -> list[tuple[Prompt, Response]]:
        """A placeholder prompt and a response of that status for each condition that does not apply to a sample.

        Pass both to `Report.from_responses` with the others, so that the report lists them.
        """
        self._try_all()
        prompts = (self.stand_in(*self._coordinates(position)) for position in self._reasons)
        pairs = zip(prompts, self._reasons.values(), strict=True)
        return [(prompt, Response.failed(prompt, reason, "not_applicable")) for prompt, reason in pairs]

    def first_of_each(self, show: Callable[[Prompt], str]) -> dict[str, str]:
        """Return the text of each condition's first prompt by condition, or in brackets why there is none.

        Args:
            show: converts a prompt to text.
        """
        return {condition.condition: self._first(condition, show) for condition in self.conditions}

    def _first(self, condition: Perturbation, show: Callable[[Prompt], str]) -> str:
        if self.needs_base(condition):
            return "(made of the model's own answer under base)"
        reason = "no samples"
        for sample in self.samples:
            try:
                return show(self.make(sample, condition))
            except NotApplicable as error:
                reason = str(error)
        return f"(not applicable to any sample: {reason})"

    def __repr__(self) -> str:
        counts = {"sample": len(self.samples), "condition": len(self.conditions), "draw": self.draws}
        planned = " × ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items())
        return f"{type(self).__name__}({planned})"

    def __len__(self) -> int:
        self._try_all()
        return len(self._fitting)

    @overload
    def __getitem__(self, index: int) -> Prompt: ...
    @overload
    def __getitem__(self, index: slice) -> list[Prompt]: ...
    def __getitem__(self, index: int | slice) -> Prompt | list[Prompt]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index] if index < 0 else index
        prompt = None
        while number >= len(self._fitting):
            if self._tried == self.planned:
                raise IndexError(f"expected an index below {len(self._fitting)}, got {index}")
            prompt = self._try_next()
        return self.make(*self._coordinates(self._fitting[number])) if prompt is None else prompt

    @property
    def _tried(self) -> int:
        return len(self._fitting) + len(self._reasons)

    def _try_all(self) -> None:
        while self._tried < self.planned:
            self._try_next()

    def _try_next(self) -> Prompt | None:
        """Create the next untried prompt; return None if its condition does not apply."""
        position = self._tried
        try:
            prompt = self.make(*self._coordinates(position))
        except NotApplicable as reason:
            self._reasons[position] = str(reason)
            return None
        self._fitting.append(position)
        return prompt

    def _coordinates(self, position: int) -> tuple[Sample, Perturbation, int]:
        position, draw = divmod(position, self.draws)
        sample, condition = divmod(position, len(self.conditions))
        return self.samples[sample], self.conditions[condition], draw

    def needs_base(self, condition: Perturbation) -> bool:
        """Return whether a condition needs the response under base, for itself or for the distractor."""
        return _needs_base(condition) or (self.distractor == "runner_up" and condition.condition != "base")

    def make(self, sample: Sample, condition: Perturbation, draw: int = 0, base: BaseResponses | None = None) -> Prompt:
        """Return the prompt of one sample under one condition.

        Args:
            sample: one of the samples.
            condition: one of the conditions.
            draw: the index of the draw.
            base: the responses under base; None = those passed to the constructor.

        Raises:
            NotApplicable: the condition does not apply to the sample.
            ValueError: the condition needs the response under base, which is missing or failed.
        """
        base = self._base if base is None else base
        own = base.get((sample.id, draw)) or base.get((sample.id, 0))
        if self.needs_base(condition):
            where = f"sample {sample.id!r}, condition {condition.condition!r}"
            for response in (own, base.get((sample.id, 0)) if self.distractor == "runner_up" else own):
                if response is None:
                    raise ValueError(f"{where}: expected the response under base, got none; pass 'base'")
                if response.status in ("error", "not_applicable"):
                    raise ValueError(
                        f"{where}: expected a response under base, got status {response.status!r} ({response.error})"
                    )
        return condition(self._unperturbed(sample, draw, own, base), self.seed)

    def stand_in(
        self, sample: Sample, condition: Perturbation, draw: int = 0, base: BaseResponses | None = None
    ) -> Prompt:
        """Return a placeholder for a prompt that cannot be created: the unperturbed one under the condition's name."""
        unperturbed = self._unperturbed(sample, draw, None, self._base if base is None else base)
        return unperturbed.replace(condition=condition.condition)

    def _unperturbed(self, sample: Sample, draw: int, own: Response | None, base: BaseResponses) -> Prompt:
        distractor = self.distractor_of(sample, base)
        owner, by_draw = self._made
        if owner is not sample:
            by_draw = {}
            self._made = sample, by_draw
        prompt = by_draw.get(draw)
        if prompt is None or prompt.base is not own or prompt.distractor != distractor:
            prompt = by_draw[draw] = Prompt.of(sample, style=self.style, draw=draw, distractor=distractor, base=own)
        return prompt

    def distractor_of(self, sample: Sample, base: BaseResponses) -> int | None:
        """Return the wrong option that all conditions and draws of a sample assert.

        The runner-up is that of draw 0; None if no letters were read under base, or base is not answered yet.
        """
        if self.distractor == "random" or sample.distractor is not None:
            owner, drawn = self._drawn
            if owner is not sample:
                drawn = draw_distractor(sample, self.seed)
                self._drawn = sample, drawn
            return drawn
        first = base.get((sample.id, 0))
        return None if first is None else runner_up(sample, first)


def _needs_base(condition: Perturbation) -> bool:
    parts = condition.perturbations if isinstance(condition, Compose) else ()
    return condition.needs_base or any(map(_needs_base, parts))


def expand(
    samples: Sequence[Sample],
    perturbations: Sequence[Perturbation],
    *,
    seed: int = 0,
    style: Style | None = None,
    draws: int = 1,
    base: Sequence[Response] | None = None,
    distractor: Distractor = "random",
) -> Prompts:
    """Return the prompts of samples × conditions, grouped by sample; each is created on access.

    Conditions that do not apply to a sample are left out of the sequence. `expand(…).not_applicable` lists them as
    pairs of a prompt and a response of that status; pass these to a report to list them.

    Args:
        samples: samples with unique ids.
        perturbations: the conditions; `Base()` is put first if it is not among them.
        seed: keys every random draw, together with the sample's id.
        style: the style of the prompts; None = the default style.
        draws: the number of draws per prompt.
        base: responses to the base condition, for conditions that need them; draw 0 is used for missing draws.
        distractor: the wrong option that all conditions of a sample assert, unless the sample has its own: "random", or
            the "runner_up" under base, which needs `base`.

    Raises:
        ValueError: two samples have the same id, or two conditions the same name; on access, `base` is missing.

    Example:
        >>> from vlmrobust.perturbations import paper_conditions, rotations
        >>> sample = Sample(id="q1", images=["x.png"], question="Which?", options=["red", "blue"], answer=1)
        >>> prompts = expand([sample], paper_conditions(), seed=0)
        >>> len(prompts), prompts[2].condition, prompts[2].asserted
        (8, 'wrong_think', 0)
        >>> prompts = expand([sample], rotations(3))
        >>> [prompt.condition for prompt in prompts]
        ['base', 'rotated_options_1']
        >>> [(response.condition, response.error) for _, response in prompts.not_applicable]
        [('rotated_options_2', 'a rotation by 2 needs more than 2 options')]
    """
    base_responses = {
        (response.sample_id, response.draw): response for response in base or () if response.condition == "base"
    }
    return Prompts(
        samples, perturbations, seed=seed, style=style, draws=draws, base=base_responses, distractor=distractor
    )
