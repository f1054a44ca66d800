"""Circular scoring: an answer counts as right where it is right whichever option stands first."""

import math
import re
from collections.abc import Sequence

import numpy as np

from .. import functional
from ..types import Responses
from .pairing import UNSCORED, Floats, Integers
from .robustness import against_asked_as_often, without_score
from .summary import SummaryRow

__all__ = ["circular"]

_ROTATED = re.compile(r"rotated_options_\d+")


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
    asked = list(dict.fromkeys(responses.condition))
    if conditions is None:
        conditions = [name for name in asked if name == "base" or _ROTATED.fullmatch(name)]
    for name in conditions:
        if name not in asked:
            raise KeyError(f"expected one of the conditions {', '.join(asked)}; got {name!r}")
    if len(conditions) < 2:
        raise ValueError(
            f"expected conditions that rotate the options, got {', '.join(conditions) or 'none'}; "
            "run the report's conditions with rotations(n)"
        )
    plain = functional.accuracy(responses.choice, responses.target, ~responses.has_status(*UNSCORED)).double().numpy()
    reference = np.array([row for row, name in enumerate(responses.condition) if name == conditions[0]])
    everywhere = _right_everywhere(responses, conditions, reference, plain)
    left_out = without_score(responses, reference, everywhere)
    note = f"{left_out} samples left out: a rotation was not asked or failed" if left_out else ""
    times = len(set(conditions))
    return against_asked_as_often(
        responses, reference, everywhere, times, seed, name="circular", note=note, greedy=greedy
    )


def _right_everywhere(responses: Responses, conditions: Sequence[str], reference: Integers, right: Floats) -> Floats:
    """Return for each response of the reference 1 where all rotations are right, NaN where not all are there."""
    draws = responses.draw.tolist()
    seen: dict[tuple[str, int], list[int]] = {}
    for row, name in enumerate(responses.condition):
        if name in conditions and responses.status[row] != "not_applicable":
            seen.setdefault((responses.sample_id[row], draws[row]), []).append(row)

    def order(row: int) -> tuple[int, ...]:
        return tuple(option for option in responses.order[row] if option is not None)

    found = np.full(len(reference), math.nan)
    for place, row in enumerate(reference.tolist()):
        rows = seen.get((responses.sample_id[row], draws[row]), [])
        first = order(row)
        if {first[by:] + first[:by] for by in range(len(first))} == {order(other) for other in rows}:
            found[place] = right[rows].min()
    return found
