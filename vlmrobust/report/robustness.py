"""Combine more than two conditions: accuracy under all of them, and how much of a drop a hedge recovers."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..functional import pass_at_k
from ..functional.bootstrap import percentile_limits
from ..functional.closed_form import wilson_interval
from ..functional.resampling import columns_by_group, replicate_means
from ..metrics import Accuracy
from ..seeding import generator
from ..types import Responses
from .metric_columns import Column, derived_column
from .pairing import (
    UNSCORED,
    Contrast,
    Floats,
    Integers,
    Mask,
    SampleIndex,
    Unit,
    check_conditions,
    is_one_of,
    units_of,
)
from .summary import SummaryRow, summarise, too_few

__all__ = [
    "HedgeRow",
    "chosen_conditions",
    "compare_combined",
    "compare_with_repeats",
    "condition_notes",
    "count_unscored",
    "decodes_greedily",
    "hedge_recovery",
    "robust_accuracy",
]

_HEDGED = {"wrong_think_but": "wrong_think", "wrong_caption_disclaimer": "wrong_caption"}
_METRICS = ("accuracy", "consistency")
_REPLICATES = 10_000
_LEVEL = 0.95


def decodes_greedily(manifest: Mapping[str, Any]) -> bool:
    """Return whether a run's manifest says that its model was decoded greedily."""
    generation = manifest.get("model", {}).get("generation")
    if not isinstance(generation, Mapping):
        return False
    return generation["temperature"] == 0 if "temperature" in generation else generation.get("do_sample") is False


def robust_accuracy(responses: Responses, conditions: Sequence[str] | None, seed: int, *, greedy: bool) -> SummaryRow:
    """Return the row of `Report.robust_accuracy`; `greedy` says whether decoding is known to be greedy."""
    scores = Accuracy()(responses).double().numpy()
    wanted = chosen_conditions(responses, conditions, scores)
    check_conditions(responses, ["base"])
    names = [name for name in wanted if name != "base"]
    if not names:
        raise ValueError("expected conditions other than 'base', got none")
    base = np.flatnonzero(np.array(responses.condition) == "base")
    together = _lowest_scores(responses, ["base", *names], base, scores)
    left_out = count_unscored(responses, base, together)
    notes = condition_notes(responses, names, left_out)
    return compare_with_repeats(
        responses, base, together, len(names) + 1, seed, name=" & ".join(names), note="; ".join(notes), greedy=greedy
    )


def chosen_conditions(responses: Responses, conditions: Sequence[str] | None, scores: Floats) -> list[str]:
    """Return the conditions to combine, without duplicates; None = all that have a score."""
    if conditions is None:
        scored = {responses.condition[row] for row in np.flatnonzero(~np.isnan(scores)).tolist()}
        return [name for name in dict.fromkeys(responses.condition) if name in scored]
    check_conditions(responses, conditions)
    return list(dict.fromkeys(conditions))


def condition_notes(responses: Responses, names: Sequence[str], left_out: int) -> list[str]:
    """Return notes on combined conditions; `left_out` samples are not scored under all of them."""
    notes = [f"{left_out} samples left out: a condition was not asked, failed or does not fit"] if left_out else []
    carriers = [unit.condition for unit in units_of(responses)]
    return notes + [f"{name} was carried in several ways" for name in names if carriers.count(name) > 1]


def count_unscored(responses: Responses, rows: Integers, scores: Floats) -> int:
    """Return how many of the samples of `rows` have no score; `scores[i]` is the score of `rows[i]`."""
    samples = [responses.sample_id[row] for row in rows.tolist()]
    known = {sample for sample, score in zip(samples, scores.tolist(), strict=True) if not math.isnan(score)}
    return len(set(samples) - known)


def compare_with_repeats(
    responses: Responses,
    reference: Integers,
    scores: Floats,
    times: int,
    seed: int,
    *,
    name: str,
    note: str,
    greedy: bool,
) -> SummaryRow:
    """Compare the share of samples that are right under several conditions with as many repeats of one of them.

    With sampling, five answers contain an error more often than one, whatever the conditions do; the comparison
    accounts for that. If r of a sample's D draws are right, `times` answers are all right with probability C(r, times)
    / C(D, times). Under greedy decoding, that is the single answer's score.

    Args:
        responses: all of a report.
        reference: positions of the responses under the reference condition.
        scores: for each of these, whether all conditions are right, NaN = undefined.
        times: number of conditions.
        seed: keys the interval.
        name: of the combination, in the column `condition`.
        note: on the combination.
        greedy: whether decoding is known to be greedy, so that one draw is enough. Equal draws do not show this: those
            of a model that is nearly always right are mostly equal.
    """
    shown = responses.select(reference.tolist())
    plain, errors, why = _repeat_accuracy(shown, times, greedy=greedy)
    kept = ~np.isnan(scores) & ~np.isnan(plain)
    known, samples = errors[kept], len({shown.sample_id[row] for row in np.flatnonzero(kept).tolist()})
    floor = math.sqrt(4 / math.pi * float(known.sum())) / samples if samples and not np.isnan(known).any() else math.nan
    no_floor = f"no noise floor: it needs {2 * times} draws under base" if samples and math.isnan(floor) else ""
    note = "; ".join(filter(None, (note, why, no_floor)))
    column = derived_column("accuracy", np.concatenate([scores, plain]), "rate")
    [row] = compare_combined(shown, [column], seed, name=name, note=note)
    return replace(row, noise_floor=floor)


def compare_combined(
    shown: Responses, columns: Sequence[Column], seed: int, *, name: str, note: str
) -> list[SummaryRow]:
    """Compare what several responses have together with the responses of one of the conditions.

    Args:
        shown: the responses under that condition.
        columns: values of the combinations, in the order of `shown`, followed by those of `shown`.
        seed: keys the intervals.
        name: of the combination, in the column `condition`.
        note: on the combination.
    """
    unit = Unit(name, shown.carrier[0], np.arange(len(shown)))
    contrast = Contrast(unit, np.arange(len(shown), 2 * len(shown)), f"under {shown.condition[0]}", note=note)
    renamed = replace(shown, condition=(name,) * len(shown))
    return summarise(Responses.joined(renamed, shown), columns, [contrast], seed)


def _repeat_accuracy(shown: Responses, times: int, *, greedy: bool) -> tuple[Floats, Floats, str]:
    """Estimate for each response the chance that `times` draws of its sample are all right.

    Returns:
        The chances; each response's part of the squared standard error of its sample's mean over its draws, NaN with
        fewer than 2 · `times` draws, which an unbiased estimate needs; and a note.
    """
    right = Accuracy()(shown).double().numpy()
    if greedy:
        return right, np.zeros(len(right)), ""
    samples = SampleIndex.of(shown)
    scored = np.flatnonzero(~np.isnan(right))
    count = len(samples.group)
    draws: Integers = np.bincount(samples.code[scored], minlength=count)
    hits = np.bincount(samples.code[scored], weights=right[scored], minlength=count)
    every, twice = (_chance_all_right(hits, draws, count) for count in (times, 2 * times))
    # q − q² is the variance of one outcome; a sample's parts add up to the variance of their mean.
    error = np.maximum(0.0, every - twice) / np.maximum(draws, 1) ** 2
    short = int(((draws > 0) & (draws < times)).sum())
    needs = f"{short} samples without {times} draws under base, which the comparison needs unless greedy=True"
    note = needs if short else ""
    plain = np.where(np.isnan(right), math.nan, every[samples.code])
    return plain, error[samples.code], note


def _chance_all_right(hits: Floats | Integers, draws: Integers, times: int) -> Floats:
    """Return the chance that `times` draws of a sample are all right, NaN if there are fewer draws."""
    chance = pass_at_k(torch.from_numpy(draws - hits), torch.from_numpy(draws).double(), times)
    found: Floats = 1 - chance.numpy()  # the chance that none is wrong
    return found


def _lowest_scores(responses: Responses, names: Sequence[str], base: Integers, scores: Floats) -> Floats:
    """Return for each base response the lowest score of its sample and draw, NaN where one is missing."""
    keys = list(zip(responses.sample_id, responses.draw.tolist(), responses.condition, strict=True))
    row_of = {key: row for row, key in enumerate(keys)}
    found = np.full(len(base), math.nan)
    for place, (sample, draw, _) in enumerate(keys[row] for row in base.tolist()):
        rows = [row_of.get((sample, draw, name)) for name in names]
        known = [scores[row] for row in rows if row is not None]
        if len(known) == len(names):
            found[place] = np.min(known)  # NaN if one is
    return found


@dataclass(frozen=True, slots=True)
class HedgeRow:
    """One hedged condition × metric, all values on the same `n` samples.

    Attributes:
        condition: the hedged condition.
        reference: the same condition without the hedge.
        metric: its name.
        base_value, reference_value, value: under base, without and with the hedge.
        drop: base_value − reference_value, the effect of the misleading text.
        recovered: value − reference_value, the effect of the hedge.
        share: recovered / drop; NaN without a drop.
        low, high: 95 % bootstrap interval of the share; NaN, with a note, if the drop is not distinguishable from 0,
            fewer than 6 groups (or samples) change, or all samples that drop recover the same share.
        n: number of samples (draws averaged) defined under all three.
        carrier: how the condition was carried.
        note: why something is undefined.
        unanswered: the share of samples without an answer (abstained, cut off, unreadable) under one of the three; for
            accuracy, no other number of this row includes them.
    """

    condition: str
    reference: str
    metric: str
    base_value: float
    reference_value: float
    value: float
    drop: float
    recovered: float
    share: float
    low: float
    high: float
    n: int
    carrier: str | None
    note: str
    unanswered: float


def hedge_recovery(responses: Responses, columns: Sequence[Column], seed: int) -> list[HedgeRow]:
    """Return the rows of `Report.hedge_recovery`; metrics other than accuracy and consistency are ignored."""
    samples = SampleIndex.of(responses)
    base = np.flatnonzero(np.array(responses.condition, dtype=np.str_) == "base")
    wanted = [column for column in columns if column.name in _METRICS and column.is_mean]
    answered, scored = is_one_of(responses.status, "answered"), ~is_one_of(responses.status, *UNSCORED)
    rows = []
    for unit, reference in _hedged_units(units_of(responses)):
        for column in wanted:
            # A hedge cannot recover an answer that abstains or was cut off.
            scores = np.where(answered, column.scores, math.nan) if column.name == "accuracy" else column.scores
            sides = [samples.means(scores, side) for side in (base, reference.rows, unit.rows)]
            chosen = np.logical_and.reduce([~np.isnan(side) for side in sides])
            before, plain, hedged = (side[chosen] for side in sides)
            row = HedgeRow(
                condition=unit.condition,
                reference=reference.condition,
                metric=column.name,
                base_value=_mean(before),
                reference_value=_mean(plain),
                value=_mean(hedged),
                drop=_mean(before - plain),
                recovered=_mean(hedged - plain),
                share=math.nan,
                low=math.nan,
                high=math.nan,
                n=len(before),
                carrier=unit.carrier,
                note="",
                unanswered=_unanswered(samples, answered, scored, (base, reference.rows, unit.rows)),
            )
            rng = generator(seed, "bootstrap", "hedge", column.name, unit.condition)
            rows.append(_with_share(row, hedged - plain, before - plain, samples.group[chosen], rng))
    return rows


def _hedged_units(units: Sequence[Unit]) -> Iterator[tuple[Unit, Unit]]:
    """Yield each hedged condition, including composed ones, with its unhedged version."""
    for unit in units:
        parts = unit.condition.split("+")
        plain = "+".join(_HEDGED.get(part, part) for part in parts)
        for other in units:
            if other.condition == plain != unit.condition and other.carrier == unit.carrier:
                yield unit, other


def _with_share(row: HedgeRow, gain: Floats, drop: Floats, groups: Integers, rng: np.random.Generator) -> HedgeRow:
    if not row.drop > 0:
        return replace(row, note="defined for no sample" if not row.n else f"no drop under {row.reference}")
    share = row.recovered / row.drop
    columns = columns_by_group([gain, drop], groups, rng)
    gains, drops = replicate_means(columns, _REPLICATES, rng)
    if np.mean(drops <= 0) > (1 - _LEVEL) / 2:
        return replace(row, share=share, note=f"the drop under {row.reference} is not set apart from 0")
    # Groups without a change carry no information about its share.
    changed = int(np.count_nonzero((columns[0].sums != 0) | (columns[1].sums != 0)))
    if why := too_few(changed, is_of_samples=columns[0].groups == row.n):
        return replace(row, share=share, note=f"{why} with a change")
    shares = np.divide(gains, drops, out=np.full(len(gains), math.nan), where=drops > 0)
    low, high = percentile_limits(shares, columns[0].groups, _LEVEL)
    if low == high == share and share in (0, 1):
        # Every resample recovers all or nothing of the drop: a rate over the changed groups.
        low, high = wilson_interval(share * changed, changed, _LEVEL)
    if not low < high:
        return replace(row, share=share, note="no interval: all that drop get the same share back")
    return replace(row, share=share, low=low, high=high)


def _unanswered(samples: SampleIndex, answered: Mask, scored: Mask, sides: Sequence[Integers]) -> float:
    """Return the share of the samples scored on all sides that have no answer on one of them."""
    missing = np.where(scored, (~answered).astype(np.float64), math.nan)
    shares = [samples.means(missing, side) for side in sides]
    known = np.logical_and.reduce([~np.isnan(share) for share in shares])
    return float(np.max([share[known] for share in shares], axis=0).mean()) if known.any() else math.nan


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan
