"""What spans more than two conditions: right under all of them, and how much of a drop a hedge brings back."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..functional.limits import percentile_limits
from ..functional.resampling import columns_by_group, replicate_means
from ..functional.statistics import wilson_interval
from ..keyed import generator
from ..metrics import Accuracy
from ..types import Responses
from .columns import Column
from .pairing import Contrast, Floats, Integers, SampleIndex, Unit, units_of

__all__ = ["HedgeRow", "accuracy_twice", "hedge_recovery", "robust_accuracy"]

_HEDGED = {"wrong_think_but": "wrong_think", "wrong_caption_disclaimer": "wrong_caption"}
_METRICS = ("accuracy", "consistency")
_REPLICATES = 10_000
_LEVEL = 0.95


def robust_accuracy(
    responses: Responses, conditions: Sequence[str] | None
) -> tuple[Responses, list[Column], list[Contrast]]:
    """Return accuracy over all conditions together as what a summary takes: base twice, with either accuracy.

    Args:
        responses: all of a report.
        conditions: those that an answer must survive, base beside them; None = all that were scored.

    Raises:
        KeyError: a condition is not in the report.
        ValueError: there is none but base.
    """
    scores = Accuracy()(responses).double().numpy()
    asked = list(dict.fromkeys(responses.condition))
    scored = {responses.condition[row] for row in np.flatnonzero(~np.isnan(scores)).tolist()}
    wanted = [name for name in asked if name in scored] if conditions is None else list(conditions)
    for name in ("base", *wanted):
        if name not in asked:
            raise KeyError(f"expected one of the conditions {', '.join(asked)}; got {name!r}")
    names = [name for name in dict.fromkeys(wanted) if name != "base"]
    if not names:
        raise ValueError("expected conditions beside 'base', got none")
    base = np.flatnonzero(np.array(responses.condition) == "base")
    together = _lowest(responses, ["base", *names], base, scores)
    left_out = len({responses.sample_id[row] for row in base[np.isnan(together)].tolist()})
    notes = [f"{left_out} samples left out: a condition was not asked, failed or does not fit"] if left_out else []
    carriers = [unit.condition for unit in units_of(responses)]
    notes += [f"{name} was carried in several ways" for name in names if carriers.count(name) > 1]
    return accuracy_twice(responses, base, together, name=" & ".join(names), note="; ".join(notes))


def accuracy_twice(
    responses: Responses, reference: Integers, scores: Floats, *, name: str, note: str
) -> tuple[Responses, list[Column], list[Contrast]]:
    """Return a stricter accuracy of one condition's responses against their plain one, as what a summary takes.

    Args:
        responses: all of a report.
        reference: positions of the condition's responses.
        scores: the stricter accuracy of these, NaN = undefined.
        name: how that is called in the column `condition`.
        note: what there is to say.
    """
    shown = responses.select(reference.tolist())
    renamed = replace(shown, condition=(name,) * len(shown))
    column = Column(
        name="accuracy",
        scores=np.concatenate([scores, Accuracy()(shown).double().numpy()]),
        higher_is_better=True,
        is_paired=False,
        reads_letters=False,
        is_mean=True,
        metric=Accuracy(),
    )
    unit = Unit(name, shown.carrier[0], np.arange(len(shown)))
    contrast = Contrast(unit, np.arange(len(shown), 2 * len(shown)), f"under {shown.condition[0]}", note=note)
    return Responses.joined(renamed, shown), [column], [contrast]


def _lowest(responses: Responses, names: Sequence[str], base: Integers, scores: Floats) -> Floats:
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
        reference: the same one without its hedge.
        metric: its name.
        base_value, reference_value, value: under base, without and with the hedge.
        drop: base_value − reference_value, what the misleading text costs.
        recovered: value − reference_value, what the hedge brings back.
        share: recovered / drop; NaN where there is no drop.
        low, high: 95 % bootstrap interval of the share; NaN where the drop is not set apart from 0.
        n: number of samples (draws averaged) defined under all three.
        carrier: how the condition was carried.
        note: why something is undefined.
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


def hedge_recovery(responses: Responses, columns: Sequence[Column], seed: int) -> list[HedgeRow]:
    """Return a row per hedged condition, whose plain one was asked too, and metric (accuracy, consistency).

    Args:
        responses: all of them.
        columns: the metrics' values; those of other metrics are passed over.
        seed: keys the bootstrap.
    """
    samples = SampleIndex.of(responses)
    base = np.flatnonzero(np.array(responses.condition, dtype=np.str_) == "base")
    wanted = [column for column in columns if column.name in _METRICS and column.is_mean]
    rows = []
    for unit, reference in _hedged_units(units_of(responses)):
        for column in wanted:
            sides = [samples.means(column.scores, side) for side in (base, reference.rows, unit.rows)]
            chosen = ~np.isnan(sides).any(0)
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
            )
            rng = generator(seed, "bootstrap", "hedge", column.name, unit.condition)
            rows.append(_with_share(row, hedged - plain, before - plain, samples.group[chosen], rng))
    return rows


def _hedged_units(units: Sequence[Unit]) -> Iterator[tuple[Unit, Unit]]:
    """Yield each hedged condition, composed ones included, with the same one without its hedge."""
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
    shares = np.divide(gains, drops, out=np.full(len(gains), math.nan), where=drops > 0)
    low, high = percentile_limits(shares, columns[0].groups, _LEVEL)
    if low == high == share and share in (0, 1):
        # All of the drop comes back, or nothing, in every resample: a rate of the groups that dropped.
        dropped = int(np.count_nonzero(columns[1].sums))
        low, high = wilson_interval(share * dropped, dropped, _LEVEL)
    return replace(row, share=share, low=low, high=high)


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan
