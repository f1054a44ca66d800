"""Summarise repeated draws: average accuracy, majority vote, pass@k, and agreement between draws."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .. import functional
from ..functional.paired_tests import Outcome
from ..metrics import Accuracy
from ..types import Responses
from .metric_columns import Column, derived_column
from .pairing import UNSCORED, Contrast, SampleIndex, contrasts_with, is_one_of, numbered, units_of
from .summary import SummaryRow, summarise

__all__ = ["draw_rows"]

# Metrics whose expected value depends on the number of draws.
_DEPENDS_ON_DRAWS = ("majority_accuracy", "majority_share", "answer_entropy")


def draw_rows(responses: Responses, attempts: Sequence[int] | None, seed: int) -> list[SummaryRow]:
    """Return the rows of `Report.draws`."""
    draws = len(set(responses.draw.tolist()))
    attempts = range(1, draws + 1) if attempts is None else attempts
    for k in attempts:
        if not 1 <= k <= draws:
            raise ValueError(f"field 'attempts': expected numbers from 1 to {draws}, the number of draws; got {k}")
    contrasts = contrasts_with("base", responses)
    columns = list(_columns(responses, attempts))
    rows = [
        *summarise(responses, [one for one in columns if one.name not in _DEPENDS_ON_DRAWS], contrasts, seed),
        *summarise(
            responses,
            [one for one in columns if one.name in _DEPENDS_ON_DRAWS],
            list(_with_equal_draws(responses, contrasts)),
            seed,
        ),
    ]
    units = [(contrast.unit.condition, contrast.unit.carrier) for contrast in contrasts]
    names = [column.name for column in columns]
    rows.sort(key=lambda row: (units.index((row.condition, row.carrier)), names.index(row.metric)))
    # The other metrics use all draws, so there is no other draw to compare with.
    return [row if row.metric == "accuracy" else replace(row, noise_floor=math.nan) for row in rows]


def _with_equal_draws(responses: Responses, contrasts: Sequence[Contrast]) -> Iterator[Contrast]:
    """Yield each contrast without the base samples that have another number of draws in the unit."""
    samples = SampleIndex.of(responses)
    scored = ~is_one_of(responses.status, *UNSCORED)
    for contrast in contrasts:
        here, there = (
            np.bincount(samples.code[rows[scored[rows]]], minlength=len(samples.group))
            for rows in (contrast.unit.rows, contrast.base)
        )
        unequal = (here > 0) & (there > 0) & (here != there)
        if contrast.is_reference or not unequal.any():
            yield contrast
            continue
        note = f"{int(unequal.sum())} pairs left out: numbers of draws differ"
        yield replace(contrast, base=contrast.base[~unequal[samples.code[contrast.base]]], note=note)


def _columns(responses: Responses, attempts: Sequence[int]) -> Iterator[Column]:
    """Yield accuracy, then metrics with one value per sample, repeated for each of its draws."""
    right = Accuracy()(responses).double()
    yield derived_column("accuracy", right.numpy(), "share")
    answers, cell, made = _cells(responses)
    count = len(answers)
    draws = torch.zeros(count).double().index_add_(0, cell[made], torch.ones(len(cell)).double()[made])
    correct = torch.zeros(count).double().index_add_(0, cell[made], right[made])
    target = torch.zeros(count).double().index_copy_(0, cell[made], responses.target[made].double())
    joint = {"majority_accuracy": functional.majority_correct(answers, target)}
    joint |= {f"pass_at_{k}": functional.pass_at_k(correct, draws, k) for k in attempts}
    agreement = {
        "majority_share": functional.majority_share(answers),
        "draw_agreement": functional.draw_agreement(answers),
        "answer_entropy": functional.answer_entropy(answers),
    }
    for name, values in (joint | agreement).items():
        scores = torch.where(made, values[cell], math.nan).numpy()
        outcome: Outcome = "mean" if name == "answer_entropy" else "share"
        yield derived_column(name, scores, outcome, higher_is_better=True if name in joint else None)


def _cells(responses: Responses) -> tuple[Tensor, Tensor, Tensor]:
    """Arrange the answers by unit, sample and draw.

    Returns:
        `(M, D)` float64, indices of options, -1 = none, NaN = a missing or failed draw; `(N,)`, the row of each
        response; `(N,)` mask of the scored responses.
    """
    samples = SampleIndex.of(responses)
    draws, draw = numbered(responses.draw.tolist())
    units = units_of(responses)
    count = len(samples.group)
    cell = torch.zeros(len(responses), dtype=torch.long)
    for number, unit in enumerate(units):
        cell[unit.rows] = torch.from_numpy(number * count + samples.code[unit.rows])
    made = ~responses.has_status(*UNSCORED)
    answers = torch.full((len(units) * count, len(draws)), math.nan, dtype=torch.float64)
    answers[cell[made], torch.from_numpy(draw)[made]] = responses.choice[made].double()
    return answers, cell, made
