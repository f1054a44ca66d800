"""Two reports on the same samples, of two models or checkpoints: what of one is compared with what of the other."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..naming import unit_labels
from ..types import Responses
from .columns import Column
from .pairing import Contrast, Floats, Integers, Mask, Unit, numbered, units_of

__all__ = ["Pair", "between", "pairs_between"]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two responses to one prompt.

    Attributes:
        label: how their condition is called.
        here: the position of this report's response.
        there: that of the other's.
    """

    label: str
    here: int
    there: int


def between(
    here: Responses, columns: Sequence[Column], there: Responses, other_columns: Sequence[Column]
) -> tuple[Responses, list[Column], list[Contrast]]:
    """Return the responses of two reports as one, their metrics' values, and each condition here with that there.

    Raises:
        ValueError: the two have nothing in common, or do not mean the same by it.
    """
    _check_common("samples", dict.fromkeys(here.sample_id), dict.fromkeys(there.sample_id))
    _check_common("conditions", dict.fromkeys(here.condition), dict.fromkeys(there.condition))
    _check_common("metrics", [column.name for column in columns], [column.name for column in other_columns])
    _check_samples(here, there)
    return (
        Responses.joined(here, there),
        list(_joined_columns(columns, other_columns, len(here), len(there))),
        list(_contrasts(here, there)),
    )


def pairs_between(here: Responses, there: Responses) -> Iterator[Pair]:
    """Yield the responses that `between` pairs, one by one: by condition, sample, and place among the draws."""
    units = units_of(here)
    labels = unit_labels((unit.condition, unit.carrier) for unit in units)
    for contrast in _contrasts(here, there):
        others: dict[str, list[int]] = {}
        for row in sorted((contrast.base - len(here)).tolist(), key=lambda row: int(there.draw[row])):
            others.setdefault(there.sample_id[row], []).append(row)
        for row in sorted(contrast.unit.rows.tolist(), key=lambda row: int(here.draw[row])):
            if waiting := others.get(here.sample_id[row]):
                label = labels[contrast.unit.condition, contrast.unit.carrier]
                yield Pair(label, row, waiting.pop(0))


def _check_common(what: str, here: Collection[str], there: Collection[str]) -> None:
    if not set(here) & set(there):
        raise ValueError(
            f"expected reports with {what} in common; this one has {_listed(here)}, the other {_listed(there)}"
        )


def _check_samples(here: Responses, there: Responses) -> None:
    """Refuse two samples of one id."""
    first = {sample: row for row, sample in reversed(list(enumerate(there.sample_id)))}
    for field in ("target", "option_count"):
        one, other = (getattr(side, field).tolist() for side in (here, there))
        for row, sample in enumerate(here.sample_id):
            if sample in first and one[row] != other[first[sample]]:
                raise ValueError(
                    f"sample {sample!r}, field {field!r}: expected the same in both reports, got {one[row]} here and "
                    f"{other[first[sample]]} in the other"
                )


def _joined_columns(columns: Sequence[Column], others: Sequence[Column], n_here: int, n_there: int) -> Iterator[Column]:
    """Yield every metric's values in both reports, NaN where it was not measured."""
    here, there = ({column.name: column for column in side} for side in (columns, others))
    for name in dict.fromkeys([*here, *there]):
        one, other = here.get(name), there.get(name)
        known = [column for column in (one, other) if column is not None]
        metrics = [column.metric for column in known if column.metric is not None]
        if len(metrics) == 2 and metrics[0] != metrics[1]:
            raise ValueError(
                f"metric {name!r}: expected the same in both reports, got {metrics[0]!r} here and {metrics[1]!r} in "
                "the other; score one of them with the metrics of the other"
            )
        scores = np.concatenate([_scores(one, n_here), _scores(other, n_there)])
        yield replace(known[0], scores=scores, metric=metrics[0] if metrics else None)


def _scores(column: Column | None, n: int) -> Floats:
    return np.full(n, np.nan) if column is None else column.scores


def _contrasts(here: Responses, there: Responses) -> Iterator[Contrast]:
    """Yield each condition with the one of the same name and carrier there, then those that are there alone."""
    others: dict[str, list[Unit]] = {}
    for unit in units_of(there):
        others.setdefault(unit.condition, []).append(unit)
    where, none = "in the other report", np.empty(0, dtype=np.int64)
    for unit in units_of(here):
        candidates = others.get(unit.condition, [])
        alike = [
            other for other in candidates if other.carrier == unit.carrier or None in (other.carrier, unit.carrier)
        ]
        if alike:
            yield _contrast(unit, alike[0], here, there, where)
        elif candidates:
            carriers = " and ".join(str(other.carrier) for other in candidates)
            yield Contrast(unit, none, where, note=f"carriers differ ({carriers} {where}, {unit.carrier} here)")
        else:
            yield Contrast(unit, none, where)
    for condition in dict.fromkeys(there.condition):
        if condition not in here.condition:
            for other in others[condition]:
                rows = other.rows + len(here)
                yield Contrast(Unit(condition, other.carrier, none), rows, where, note="no responses in this report")


def _contrast(unit: Unit, other: Unit, here: Responses, there: Responses, where: str) -> Contrast:
    """Pair two units by sample, with as many draws of it on both sides; what that leaves out is counted."""
    one, two = (
        {
            side.sample_id[row]: asserted
            for row, asserted in zip(rows.tolist(), side.asserted[rows].tolist(), strict=True)
        }
        for side, rows in ((here, unit.rows), (there, other.rows))
    )
    differing = {sample for sample, asserted in one.items() if two.get(sample, asserted) != asserted}
    notes = []
    if alone := len(one.keys() - two.keys()):
        notes.append(f"{alone} samples in this report only")
    if alone := len(two.keys() - one.keys()):
        notes.append(f"{alone} samples in the other report only")
    here_kept, there_kept = _as_many_draws(here, unit.rows, there, other.rows)
    if not (here_kept.all() and there_kept.all()):
        notes.append("draws differ in number: as many are compared as both reports have of a sample, the first ones")
    rows = other.rows[there_kept]
    if differing:
        notes.append(f"{len(differing)} samples left out: the other report asserts another option")
        rows = rows[[there.sample_id[row] not in differing for row in rows.tolist()]]
    return Contrast(replace(unit, rows=unit.rows[here_kept]), rows + len(here), where, note="; ".join(notes))


def _as_many_draws(here: Responses, rows: Integers, there: Responses, other_rows: Integers) -> tuple[Mask, Mask]:
    """Return which rows to keep so that a sample of both sides has as many draws on one as on the other.

    A mean over four draws moves in quarters and one over a single draw in ones: where rates are near 0 or 1, their
    differences lean to one side although nothing has changed, which no test that flips signs allows for.
    """
    sides = [(here, rows), (there, other_rows)]
    names, sample = numbered([side.sample_id[row] for side, own in sides for row in own.tolist()])
    draw = np.concatenate([side.draw.numpy()[own] for side, own in sides])
    is_other = np.arange(len(sample)) >= len(rows)
    order = np.lexsort((draw, sample, is_other))
    group = sample[order] + len(names) * is_other[order]
    place = np.empty(len(sample), dtype=np.int64)
    place[order] = np.arange(len(sample)) - np.searchsorted(group, group)
    counts = np.stack([np.bincount(sample[is_other == side], minlength=len(names)) for side in (False, True)])
    # A sample of one side alone has no pair, and keeps its draws.
    common = np.where(counts.min(0) > 0, counts.min(0), counts.max(0))
    kept = place < common[sample]
    return kept[: len(rows)], kept[len(rows) :]


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:3])
    return f"{shown}, … ({len(names)} in all)" if len(names) > 3 else shown or "none"
