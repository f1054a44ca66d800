"""How many conditions an answer survives: the share of samples that are right under at least k of K."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..functional import poisson_binomial_tail
from ..functional.intervals import FEWEST_GROUPS, Outcome, mean_intervals
from ..keyed import generator
from ..metrics import Accuracy
from ..types import Responses
from .pairing import Floats, Integers, SampleIndex
from .robustness import chosen_conditions, notes_on
from .summary import too_few

__all__ = ["CurveRow", "robustness_curve"]


@dataclass(frozen=True, slots=True)
class CurveRow:
    """The share of samples that are right under at least k of K conditions.

    Attributes:
        k: how many conditions at least, 0 to K; 0 is 1 by definition.
        value: the share, draws averaged within a sample.
        low, high: its 95 % interval, of this k alone.
        chance: what guessing gives: each answer drawn from the options shown, anew under each condition.
        independent: what the same accuracies give if being right under one condition said nothing of another.
        n: number of samples that are scored under all K.
        conditions: K.
        note: what is left out, and why there is no interval.
    """

    k: int
    value: float
    low: float
    high: float
    chance: float
    independent: float
    n: int
    conditions: int
    note: str


def robustness_curve(responses: Responses, conditions: Sequence[str] | None, seed: int) -> list[CurveRow]:
    """Return a row for each k of 0 to K.

    Args:
        responses: all of a report.
        conditions: the K; None = all that were scored, base among them.
        seed: keys the intervals.

    Raises:
        KeyError: a condition is not in the report.
        ValueError: there is none, or no sample is scored under all.
    """
    scores = Accuracy()(responses).double().numpy()
    names = chosen_conditions(responses, conditions, scores)
    if not names:
        raise ValueError("expected conditions that were scored, got none")
    samples = SampleIndex.of(responses)
    rows = _rows_together(responses, names, scores)
    if not len(rows):
        raise ValueError(f"expected samples that are scored under all of {', '.join(names)}, got none")
    right = torch.from_numpy(scores)[rows]
    asked = {responses.sample_id[row] for row, name in enumerate(responses.condition) if name in names}
    first: Integers = rows[:, 0].numpy()
    counted = len(np.unique(samples.code[first]))
    chance = _averaged(samples, first, poisson_binomial_tail(_of_guessing(responses)[rows]))
    accuracies = torch.from_numpy(_averaged(samples, first, right))
    independent = poisson_binomial_tail(torch.from_numpy(np.nanmean(accuracies.numpy(), axis=0)))
    at_least = right.sum(1, keepdim=True) >= torch.arange(len(names) + 1)
    shares = _averaged(samples, first, at_least.double())
    outcome: Outcome = "share" if len(first) > counted else "rate"
    found = mean_intervals(
        shares[:, 1:].T,
        samples.group,
        outcomes=[outcome] * len(names),
        rng=generator(seed, "bootstrap", "robustness curve"),
    )
    groups = samples.group_count(~np.isnan(shares[:, 0]))
    few = too_few(groups, is_of_samples=groups == counted) if groups < FEWEST_GROUPS else ""
    note = "; ".join(filter(None, [*notes_on(responses, names, len(asked) - counted), few]))
    limits = [(1.0, 1.0, 1.0), *((one.value, one.low, one.high) for one in found)]
    return [
        CurveRow(
            k=k,
            value=value,
            low=low if low < high or k == 0 else math.nan,
            high=high if low < high or k == 0 else math.nan,
            chance=float(np.nanmean(chance[:, k])),
            independent=float(independent[k]),
            n=counted,
            conditions=len(names),
            note=note,
        )
        for k, (value, low, high) in enumerate(limits)
    ]


def _rows_together(responses: Responses, names: Sequence[str], scores: Floats) -> Tensor:
    """Return `(M, K)`, the positions of each sample's and draw's responses where all conditions have a score."""
    places = {name: place for place, name in enumerate(names)}
    found: dict[tuple[str, int], dict[int, int]] = {}
    for row, (sample, draw) in enumerate(zip(responses.sample_id, responses.draw.tolist(), strict=True)):
        place = places.get(responses.condition[row])
        if place is not None and not math.isnan(scores[row]):
            found.setdefault((sample, draw), {})[place] = row
    whole = [[rows[place] for place in range(len(names))] for rows in found.values() if len(rows) == len(names)]
    return torch.tensor(whole, dtype=torch.long).reshape(len(whole), len(names))


def _of_guessing(responses: Responses) -> Tensor:
    """Return `(N,)` float64, the chance that a guess among the options shown is right."""
    chances = [
        (target in order) / len(order) for target, order in zip(responses.target.tolist(), responses.order, strict=True)
    ]
    return torch.tensor(chances, dtype=torch.float64)


def _averaged(samples: SampleIndex, rows: Integers, values: Tensor) -> Floats:
    """Return `(S, …)`, each sample's mean over its draws, NaN for samples that have none among `rows`."""
    code = samples.code[rows]
    sums = np.zeros((len(samples.group), values.shape[1]))
    np.add.at(sums, code, values.numpy())
    counts = np.bincount(code, minlength=len(samples.group)).astype(np.float64)[:, None]
    return np.divide(sums, counts, out=np.full_like(sums, math.nan), where=counts > 0)
