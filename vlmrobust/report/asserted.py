"""What a text asserts, as what both sides of a comparison are measured by."""

from dataclasses import replace

import torch

from ..metrics import Metric
from ..types import Responses
from .columns import Column
from .pairing import Contrast, Integers

__all__ = ["by_one_option"]


def by_one_option(responses: Responses, column: Column, contrast: Contrast) -> Column | None:
    """Return a column with a contrast's two sides measured by the same wrong option, that which a text asserts.

    A side whose text asserts nothing wrong, such as base, is measured by what the other side asserts to the same
    sample, in the same draw if there is one. A text that asserts the distractor changes nothing: that is what a side
    without one is measured by anyhow.

    Args:
        responses: all of them.
        column: a metric that reads what the text asserts.
        contrast: two of its sides.

    Returns:
        None where the column was loaded without its metric, and a text asserts another option than the distractor.
    """
    misled = responses.is_misled()
    is_other = misled & (responses.asserted != responses.distractor)
    sides = contrast.unit.rows, contrast.base
    if not any(bool(is_other[rows].any()) for rows in sides):
        return column
    if not isinstance(column.metric, Metric):
        return None
    scores = column.scores.copy()
    for own, others in (sides, sides[::-1]):
        rows = torch.from_numpy(own[~misled[own].numpy()])
        asserted = _asserted(responses, rows.tolist(), others[misled[others].numpy()])
        rows = rows[asserted >= 0]
        measured = replace(responses.select(rows.tolist()), asserted=asserted[asserted >= 0])
        scores[rows.numpy()] = column.metric(measured).double().numpy()
    return replace(column, scores=scores)


def _asserted(responses: Responses, rows: list[int], others: Integers) -> torch.Tensor:
    """Return what is asserted among `others` to the sample of each of `rows`, -1 = nothing."""
    draws = responses.draw.tolist()
    of_draw = {(responses.sample_id[row], draws[row]): row for row in others.tolist()}
    of_sample = {responses.sample_id[row]: row for row in reversed(others.tolist())}
    found = [
        of_draw.get((responses.sample_id[row], draws[row]), of_sample.get(responses.sample_id[row], -1)) for row in rows
    ]
    beside = torch.tensor(found, dtype=torch.int64)
    return torch.where(beside < 0, -1, responses.asserted[beside])
