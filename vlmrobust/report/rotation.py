"""Score all rotations of the options together: circular accuracy, averaged probabilities, position bias."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from .. import functional
from ..functional.paired_tests import Outcome, mean_intervals
from ..seeding import generator
from ..types import Responses
from .metric_columns import derived_column
from .pairing import UNSCORED, Contrast, Floats, SampleIndex, Unit, check_conditions
from .robustness import compare_with_repeats, count_unscored
from .summary import SummaryRow, summarise, too_few

__all__ = ["PositionRow", "circular", "position_bias", "rotating_conditions", "rotation_average", "rotations_of"]


_ROTATED = re.compile(r"rotated_options_\d+")
_LEFT_OUT = "samples left out: a rotation was not asked or failed, or its letters were not read where the others' were"


@dataclass(frozen=True, slots=True)
class PositionRow:
    """One position among the options, over samples with that number of options and all rotations.

    Attributes:
        options: number of options of the samples.
        position: from 0.
        letter: at this position; several if styles differ.
        probability: of that letter among the options', averaged over rotations and samples. Each option is in each
            position once, so that a model without a position bias has `expected` here, whatever it knows.
        low, high: its 95 % interval.
        expected: 1 / options.
        recall: the share of samples that are answered correctly when the correct option is in this position.
        recall_low, recall_high: its 95 % interval.
        n: number of samples, draws averaged.
        note: what is left out, and why something is undefined.
    """

    options: int
    position: int
    letter: str
    probability: float
    low: float
    high: float
    expected: float
    recall: float
    recall_low: float
    recall_high: float
    n: int
    note: str


def rotating_conditions(responses: Responses, conditions: Sequence[str] | None) -> list[str]:
    """Return the conditions that together show every rotation; None = `base` and `rotated_options_…`."""
    if conditions is None:
        known = dict.fromkeys(responses.condition)
        conditions = [name for name in known if name == "base" or _ROTATED.fullmatch(name)]
    check_conditions(responses, conditions)
    if len(conditions) < 2:
        raise ValueError(
            f"expected conditions that rotate the options, got {', '.join(conditions) or 'none'}; "
            "run the report's conditions with rotations(n)"
        )
    return list(conditions)


def rotations_of(responses: Responses, conditions: Sequence[str]) -> dict[int, list[int] | None]:
    """Map each response under the first condition to the responses under all its rotations, itself included.

    None if a rotation is missing.
    """
    draws = responses.draw.tolist()
    seen: dict[tuple[str, int], list[int]] = {}
    for row, name in enumerate(responses.condition):
        if name in conditions and responses.status[row] != "not_applicable":
            seen.setdefault((responses.sample_id[row], draws[row]), []).append(row)
    found: dict[int, list[int] | None] = {}
    for row, name in enumerate(responses.condition):
        if name != conditions[0]:
            continue
        rows = seen.get((responses.sample_id[row], draws[row]), [])
        first = _own_order(responses, row)
        wanted = {first[by:] + first[:by] for by in range(len(first))}
        found[row] = rows if wanted == {_own_order(responses, other) for other in rows} else None
    return found


def _own_order(responses: Responses, row: int) -> tuple[int, ...]:
    return tuple(option for option in responses.order[row] if option is not None)


def rotation_average(
    responses: Responses, conditions: Sequence[str] | None, seed: int, *, greedy: bool
) -> list[SummaryRow]:
    """Return the rows of `Report.rotation_average`; `greedy` says whether decoding is known to be greedy."""
    names = rotating_conditions(responses, conditions)
    distinct = {row: rows and _one_per_order(responses, rows) for row, rows in rotations_of(responses, names).items()}
    usable = {row: rows if rows and _share_readout(responses, rows) else None for row, rows in distinct.items()}
    reference = np.array(list(usable), dtype=np.int64)
    shown = responses.select(reference.tolist())
    probabilities = functional.letter_probabilities(responses.option_logprobs.double())
    blank = torch.full((probabilities.shape[1],), math.nan, dtype=torch.float64)
    averaged = torch.stack([*(blank if rows is None else probabilities[rows].mean(0) for rows in usable.values())])
    target = shown.target[:, None]
    chance = averaged.gather(1, target)[:, 0]
    leads = averaged == averaged.amax(1, keepdim=True)
    right = torch.where(chance.isnan(), math.nan, leads.gather(1, target)[:, 0] / leads.sum(1))
    plain = functional.accuracy(shown.choice, shown.target, ~shown.has_status(*UNSCORED)).double()
    base = functional.correct_probability(shown.option_logprobs, shown.target).double()
    notes = []
    if left_out := count_unscored(responses, reference, right.numpy()):
        notes.append(f"{left_out} {_LEFT_OUT}")
    if not greedy:
        notes.append("the other side is one answer; a model that samples gains by averaging alone")
    columns = [
        derived_column(
            "accuracy", torch.cat([right, plain]).numpy(), "share" if bool((right.frac() > 0).any()) else "rate"
        ),
        derived_column("correct_probability", torch.cat([chance, base]).numpy(), "mean"),
    ]
    name = "rotation_average"
    unit = Unit(name, shown.carrier[0] if len(shown) else None, np.arange(len(shown)))
    contrast = Contrast(unit, np.arange(len(shown), 2 * len(shown)), f"under {names[0]}", note="; ".join(notes))
    renamed = replace(shown, condition=(name,) * len(shown))
    return summarise(Responses.joined(renamed, shown), columns, [contrast], seed)


def _one_per_order(responses: Responses, rows: Sequence[int]) -> list[int]:
    """Return one response, the first, per order of the options."""
    first: dict[tuple[int, ...], int] = {}
    for row in rows:
        first.setdefault(_own_order(responses, row), row)
    return list(first.values())


def _share_readout(responses: Responses, rows: Sequence[int]) -> bool:
    """Return whether all responses have letters, from one read-out."""
    is_one = len({responses.readout[row] for row in rows}) == 1
    return is_one and not bool(responses.option_logprobs[list(rows)].isnan().any())


def position_bias(responses: Responses, conditions: Sequence[str] | None, seed: int) -> list[PositionRow]:
    """Return the rows of `Report.position_bias`."""
    names = rotating_conditions(responses, conditions)
    found = rotations_of(responses, names).items()
    complete = {row: _one_per_order(responses, rows) for row, rows in found if rows is not None}
    known_samples = {responses.sample_id[row] for row, name in enumerate(responses.condition) if name == names[0]}
    left_out = len(known_samples) - len({responses.sample_id[row] for row in complete})
    note = f"{left_out} samples left out: a rotation was not asked or failed" if left_out else ""
    counts = sorted({len(rows) for rows in complete.values()})
    return [
        row
        for count in counts
        for row in _position_rows(
            responses, [rows for rows in complete.values() if len(rows) == count], count, seed, note
        )
    ]


def _position_rows(
    responses: Responses, rotations: Sequence[Sequence[int]], count: int, seed: int, note: str
) -> list[PositionRow]:
    samples = SampleIndex.of(responses)
    rows = np.array(rotations, dtype=np.int64)
    orders = torch.tensor([_own_order(responses, row) for row in rows.ravel().tolist()])
    letters = functional.letter_probabilities(responses.option_logprobs[rows.ravel()].double())
    at_place = letters.gather(1, orders).reshape(*rows.shape, count)
    same_readout = torch.tensor([_share_readout(responses, own) for own in rotations])
    probability = torch.where(same_readout[:, None], at_place.mean(1), math.nan).numpy()
    scored = ~responses.has_status(*UNSCORED)
    right = functional.accuracy(responses.choice, responses.target, scored)[rows.ravel()].double()
    is_there = orders == responses.target[rows.ravel()][:, None]
    recall = torch.where(is_there, right[:, None], 0.0).reshape(*rows.shape, count).sum(1).numpy()
    estimates = []
    measured: tuple[tuple[Floats, Outcome], ...] = ((probability, "mean"), (recall, "share"))
    for values, outcome in measured:
        means = [samples.row_means(values[:, place], rows[:, 0]) for place in range(count)]
        rng = generator(seed, "bootstrap", "position bias", str(count))
        estimates.append(mean_intervals(means, samples.group, outcomes=[outcome] * count, rng=rng))
    chosen = np.isin(np.arange(len(samples.group)), samples.code[rows[:, 0]])
    groups, counted = samples.group_count(chosen), int(chosen.sum())
    few = too_few(groups, is_of_samples=groups == counted)
    unread = int((~same_readout).sum())
    unread_note = f"{unread} responses without letters, or with letters read at several places" if unread else ""
    found = []
    for place, (of_letters, of_answers) in enumerate(zip(*estimates, strict=True)):
        low, high = _interval(of_letters.low, of_letters.high)
        recall_low, recall_high = _interval(of_answers.low, of_answers.high)
        row = PositionRow(
            options=count,
            position=place,
            letter=", ".join(dict.fromkeys(responses.letters[row][place] for row in rows.ravel().tolist())),
            probability=of_letters.value,
            low=low,
            high=high,
            expected=1 / count,
            recall=of_answers.value,
            recall_low=recall_low,
            recall_high=recall_high,
            n=counted,
            note="; ".join(filter(None, (note, unread_note, few))),
        )
        found.append(row)
    return found


def _interval(low: float, high: float) -> tuple[float, float]:
    return (low, high) if low < high else (math.nan, math.nan)


def circular(responses: Responses, conditions: Sequence[str] | None, seed: int, *, greedy: bool) -> SummaryRow:
    """Return the row of `Report.circular`; `greedy` says whether decoding is known to be greedy."""
    conditions = rotating_conditions(responses, conditions)
    right = functional.accuracy(responses.choice, responses.target, ~responses.has_status(*UNSCORED)).double().numpy()
    rotations = rotations_of(responses, conditions)
    reference = np.array(list(rotations), dtype=np.int64)
    everywhere = np.array([math.nan if rows is None else right[rows].min() for rows in rotations.values()])
    left_out = count_unscored(responses, reference, everywhere)
    note = f"{left_out} samples left out: a rotation was not asked or failed" if left_out else ""
    times = len(set(conditions))
    return compare_with_repeats(
        responses, reference, everywhere, times, seed, name="circular", note=note, greedy=greedy
    )
