"""Combine the responses to one question, over its draws and over rotations of its options; measure position bias."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .. import functional
from ..functional.intervals import Outcome, mean_intervals
from ..metrics import Accuracy
from ..seeding import generator
from ..types import Responses
from .metric_columns import Column, derived_column
from .pairing import (
    UNSCORED,
    Contrast,
    Floats,
    SampleIndex,
    check_conditions,
    contrasts_with,
    is_one_of,
    numbered,
    units_of,
)
from .robustness import compare_combined, compare_with_repeats, count_unscored
from .summary import SummaryRow, summarise, too_few

__all__ = ["PositionRow", "circular", "draw_rows", "position_bias", "rotation_average"]

# Metrics whose expected value depends on the number of draws.
_DEPENDS_ON_DRAWS = ("majority_accuracy", "majority_share", "answer_entropy")
_ROTATED = re.compile(r"rotated_options_\d+")


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


def _rotating_conditions(responses: Responses, conditions: Sequence[str] | None) -> list[str]:
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


def _rotations_of(responses: Responses, conditions: Sequence[str]) -> dict[int, list[int] | None]:
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
    names = _rotating_conditions(responses, conditions)
    distinct = {row: rows and _one_per_order(responses, rows) for row, rows in _rotations_of(responses, names).items()}
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
    plain = Accuracy()(shown).double()
    base = functional.correct_probability(shown.option_logprobs, shown.target).double()
    notes = []
    if left_out := count_unscored(responses, reference, right.numpy()):
        why = "a rotation was not asked or failed, or its letters were not read where the others' were"
        notes.append(f"{left_out} samples left out: {why}")
    if not greedy:
        notes.append("the other side is one answer; a model that samples gains by averaging alone")
    columns = [
        derived_column(
            "accuracy", torch.cat([right, plain]).numpy(), "share" if bool((right.frac() > 0).any()) else "rate"
        ),
        derived_column("correct_probability", torch.cat([chance, base]).numpy(), "mean"),
    ]
    return compare_combined(shown, columns, seed, name="rotation_average", note="; ".join(notes))


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
    names = _rotating_conditions(responses, conditions)
    found = _rotations_of(responses, names).items()
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
    right = Accuracy()(responses)[rows.ravel()].double()
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
    conditions = _rotating_conditions(responses, conditions)
    right = Accuracy()(responses).double().numpy()
    rotations = _rotations_of(responses, conditions)
    reference = np.array(list(rotations), dtype=np.int64)
    everywhere = np.array([math.nan if rows is None else right[rows].min() for rows in rotations.values()])
    left_out = count_unscored(responses, reference, everywhere)
    note = f"{left_out} samples left out: a rotation was not asked or failed" if left_out else ""
    times = len(set(conditions))
    return compare_with_repeats(
        responses, reference, everywhere, times, seed, name="circular", note=note, greedy=greedy
    )
