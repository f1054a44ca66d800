"""Circular scoring: an answer counts as right where it is right whichever option stands first."""

import math
from collections.abc import Sequence

import numpy as np

from .. import functional
from ..types import Responses
from .pairing import UNSCORED
from .robustness import against_asked_as_often, without_score
from .rotation import rotating_conditions, rotations_of
from .summary import SummaryRow

__all__ = ["circular"]


def circular(responses: Responses, conditions: Sequence[str] | None, seed: int, *, greedy: bool) -> SummaryRow:
    """Return circular accuracy, against the reference asked as often.

    Args:
        responses: all of a report.
        conditions: those that together show every rotation, the reference first; None = `base` and `rotated_options_…`.
        seed: keys the interval.
        greedy: whether the model is known to be decoded greedily.

    Raises:
        KeyError: a condition is not in the report.
        ValueError: there are fewer than two.
    """
    conditions = rotating_conditions(responses, conditions)
    right = functional.accuracy(responses.choice, responses.target, ~responses.has_status(*UNSCORED)).double().numpy()
    rotations = rotations_of(responses, conditions)
    reference = np.array(list(rotations), dtype=np.int64)
    everywhere = np.array([math.nan if rows is None else right[rows].min() for rows in rotations.values()])
    left_out = without_score(responses, reference, everywhere)
    note = f"{left_out} samples left out: a rotation was not asked or failed" if left_out else ""
    times = len(set(conditions))
    return against_asked_as_often(
        responses, reference, everywhere, times, seed, name="circular", note=note, greedy=greedy
    )
