"""Repeated draws: accuracy on average, by majority vote, in any of k; and how far the draws agree."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .. import functional
from ..metrics import Accuracy
from ..types import Responses
from .columns import Column
from .pairing import UNSCORED, SampleIndex, contrasts_with, numbered, units_of
from .summary import SummaryRow, summarised

__all__ = ["draw_rows"]


def draw_rows(responses: Responses, attempts: Sequence[int] | None, seed: int) -> list[SummaryRow]:
    """Return a summary of what the draws of each sample say together.

    Args:
        responses: all of a report.
        attempts: the k of pass@k; None = 1 up to the number of draws.
        seed: keys the bootstrap.

    Raises:
        ValueError: one of `attempts` is below 1 or above the number of draws.
    """
    draws = len(set(responses.draw.tolist()))
    attempts = range(1, draws + 1) if attempts is None else attempts
    for k in attempts:
        if not 1 <= k <= draws:
            raise ValueError(f"field 'attempts': expected numbers from 1 to {draws}, the number of draws; got {k}")
    columns = list(_columns(responses, attempts))
    rows = summarised(responses, columns, contrasts_with("base", responses), seed)
    # Votes and chances are of all draws together, so that there is no other draw to compare them with.
    return [row if row.metric == "accuracy" else replace(row, noise_floor=math.nan) for row in rows]


def _columns(responses: Responses, attempts: Sequence[int]) -> Iterator[Column]:
    """Yield accuracy, then what is one number for the draws of a sample, as the value of each of them."""
    right = Accuracy()(responses).double()
    yield _column("accuracy", right, higher_is_better=True)
    answers, cell, made = _cells(responses)
    count = len(answers)
    draws = torch.zeros(count).double().index_add_(0, cell[made], torch.ones(len(cell)).double()[made])
    correct = torch.zeros(count).double().index_add_(0, cell[made], right[made])
    target = torch.zeros(count).double().index_copy_(0, cell[made], responses.target[made].double())
    together = {"majority_accuracy": functional.majority_correct(answers, target)}
    together |= {f"pass_at_{k}": functional.pass_at_k(correct, draws, k) for k in attempts}
    agreement = {
        "majority_share": functional.majority_share(answers),
        "draw_agreement": functional.draw_agreement(answers),
        "answer_entropy": functional.answer_entropy(answers),
    }
    for name, values in (together | agreement).items():
        scores = torch.where(made, values[cell], math.nan)
        yield _column(name, scores, higher_is_better=True if name in together else None)


def _column(name: str, scores: Tensor, *, higher_is_better: bool | None) -> Column:
    return Column(
        name=name,
        scores=scores.numpy(),
        higher_is_better=higher_is_better,
        is_paired=False,
        reads_letters=False,
        is_mean=True,
        metric=None,
    )


def _cells(responses: Responses) -> tuple[Tensor, Tensor, Tensor]:
    """Return the answers of each sample in each unit, and where in them each response stands.

    Returns:
        `(M, D)` float64, indices of options, -1 = none, NaN = a draw that was not made or failed; `(N,)`, the row of
        each response; `(N,)` mask of the responses that are there.
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
