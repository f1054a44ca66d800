"""Compare two reports on the same samples: differences, and each answer that only one of them has right.

`join_for_comparison` joins the two, and `side_by_side` makes the page.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..text import readable, unit_labels, without_local_paths
from ..types import Responses, Sample
from . import finding_texts
from .browse import missing_images, response_data, sample_data, samples_by_id
from .html import TableCell, interval_cell, number_cell, render_page, text_cell
from .metric_columns import Column
from .pairing import UNSCORED, Contrast, Floats, Integers, Mask, Unit, is_one_of, numbered, units_of
from .summary import SummaryRow

__all__ = ["ResponsePair", "join_for_comparison", "response_pairs", "side_by_side"]


class ResponsePair(NamedTuple):
    """Two responses to one prompt: the label of its condition, and their positions in this report and the other."""

    label: str
    here: int
    there: int


def join_for_comparison(
    here: Responses, columns: Sequence[Column], there: Responses, other_columns: Sequence[Column]
) -> tuple[Responses, list[Column], list[Contrast]]:
    """Join the responses and metrics of two reports, and pair their conditions; refuse reports that do not fit."""
    _check_common("samples", dict.fromkeys(here.sample_id), dict.fromkeys(there.sample_id))
    _check_common("conditions", dict.fromkeys(here.condition), dict.fromkeys(there.condition))
    _check_common("metrics", [column.name for column in columns], [column.name for column in other_columns])
    _check_samples(here, there)
    return (
        Responses.joined(here, there),
        list(_joined_columns(columns, other_columns, len(here), len(there))),
        list(_contrasts(here, there)),
    )


def response_pairs(here: Responses, there: Responses) -> Iterator[ResponsePair]:
    """Yield the responses that `join_for_comparison` pairs: by condition, sample, and rank among the scored draws."""
    units = units_of(here)
    labels = unit_labels((unit.condition, unit.carrier) for unit in units)

    def scored_by_draw(side: Responses, rows: Integers) -> list[int]:
        return sorted(rows[_is_scored(side, rows)].tolist(), key=lambda row: int(side.draw[row]))

    for contrast in _contrasts(here, there):
        others: dict[str, list[int]] = {}
        for row in scored_by_draw(there, contrast.base - len(here)):
            others.setdefault(there.sample_id[row], []).append(row)
        for row in scored_by_draw(here, contrast.unit.rows):
            if waiting := others.get(here.sample_id[row]):
                label = labels[contrast.unit.condition, contrast.unit.carrier]
                yield ResponsePair(label, row, waiting.pop(0))


def _check_common(what: str, here: Collection[str], there: Collection[str]) -> None:
    if not set(here) & set(there):
        raise ValueError(
            f"expected reports with {what} in common; this one has {_listed(here)}, the other {_listed(there)}"
        )


def _check_samples(here: Responses, there: Responses) -> None:
    """Raise if two samples share an id."""
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
    """Yield each condition with the other report's of the same name and carrier, then those of the other alone."""
    others: dict[str, list[Unit]] = {}
    for unit in units_of(there):
        others.setdefault(unit.condition, []).append(unit)
    where, no_rows = "in the other report", np.empty(0, dtype=np.int64)
    for unit in units_of(here):
        candidates = others.get(unit.condition, [])
        matching = [
            other for other in candidates if other.carrier == unit.carrier or None in (other.carrier, unit.carrier)
        ]
        if matching:
            yield _contrast(unit, matching[0], here, there, where)
        elif candidates:
            carriers = " and ".join(str(other.carrier) for other in candidates)
            yield Contrast(unit, no_rows, where, note=f"carriers differ ({carriers} {where}, {unit.carrier} here)")
        else:
            yield Contrast(unit, no_rows, where)
    for condition in dict.fromkeys(there.condition):
        if condition not in here.condition:
            for other in others[condition]:
                rows = other.rows + len(here)
                yield Contrast(Unit(condition, other.carrier, no_rows), rows, where, note="no responses in this report")


def _contrast(unit: Unit, other: Unit, here: Responses, there: Responses, where: str) -> Contrast:
    """Pair two units by sample, with equally many draws of each sample; the note counts what is left out."""
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
    here_kept, there_kept = _equalise_draws(here, unit.rows, there, other.rows)
    if not (here_kept.all() and there_kept.all()):
        notes.append(
            "draws differ in number: as many are compared as both reports have of a sample, the first that did not fail"
        )
    rows = other.rows[there_kept]
    if differing:
        notes.append(f"{len(differing)} samples left out: the other report asserts another option")
        rows = rows[[there.sample_id[row] not in differing for row in rows.tolist()]]
    return Contrast(replace(unit, rows=unit.rows[here_kept]), rows + len(here), where, note="; ".join(notes))


def _equalise_draws(here: Responses, rows: Integers, there: Responses, other_rows: Integers) -> tuple[Mask, Mask]:
    """Return which rows to keep so that each common sample has equally many scored draws on both sides.

    A mean over four draws has steps of a quarter, one over a single draw steps of one. If rates are near 0 or 1, their
    differences are skewed even without a change, which sign-flip tests do not account for.
    """
    scored = np.concatenate([_is_scored(here, rows), _is_scored(there, other_rows)])
    sides = [(here, rows[scored[: len(rows)]]), (there, other_rows[scored[len(rows) :]])]
    names, sample = numbered([side.sample_id[row] for side, own in sides for row in own.tolist()])
    draw = np.concatenate([side.draw.numpy()[own] for side, own in sides])
    is_other = np.arange(len(sample)) >= len(sides[0][1])
    order = np.lexsort((draw, sample, is_other))
    group = sample[order] + len(names) * is_other[order]
    place = np.empty(len(sample), dtype=np.int64)
    place[order] = np.arange(len(sample)) - np.searchsorted(group, group)
    counts = np.stack([np.bincount(sample[is_other == side], minlength=len(names)) for side in (False, True)])
    # A sample on one side only has no pair, and keeps its draws.
    common = np.where(counts.min(0) > 0, counts.min(0), counts.max(0))
    kept = ~scored  # failed rows have no score to equalise, and stay to be counted as failed
    kept[scored] = place < common[sample]
    return kept[: len(rows)], kept[len(rows) :]


def _is_scored(responses: Responses, rows: Integers) -> Mask:
    return ~is_one_of([responses.status[row] for row in rows.tolist()], *UNSCORED)


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:3])
    return f"{shown}, … ({len(names)} in all)" if len(names) > 3 else shown or "none"


_MAX_NAMED = 3
_HEADER = ("condition", "pairs", "won", "lost", "both right", "both wrong", "accuracy", "other", "difference", "95 %")


def side_by_side(
    here: Responses,
    there: Responses,
    rows: Sequence[SummaryRow],
    *,
    title: str,
    names: tuple[str, str],
    samples: Iterable[Sample],
    max_flips: int,
) -> str:
    """Return the page of `Report.side_by_side`; `rows` are the comparison of the two reports."""
    names = (without_local_paths(names[0]), without_local_paths(names[1]))
    pairs = [(pair, _kind(here, there, pair)) for pair in response_pairs(here, there)]
    flips = [(pair, kind) for pair, kind in pairs if kind in ("won", "lost", "changed")]
    counts: dict[str, Counter[str]] = {}
    for pair, kind in pairs:
        counts.setdefault(pair.label, Counter())[kind] += 1
    labels = unit_labels((row.condition, row.carrier) for row in rows)
    accuracy = {labels[row.condition, row.carrier]: row for row in rows if row.metric == "accuracy"}
    shown = flips[:max_flips]
    found = samples_by_id(here, samples)
    places = {name: place for place, name in enumerate(dict.fromkeys(here.sample_id[pair.here] for pair, _ in shown))}
    of_sample: dict[str, list[int]] = {name: [] for name in places}
    for row, name in enumerate(here.sample_id):
        if name in places:
            of_sample[name].append(row)
    left_out = f"The first {len(shown)} of {len(flips)} answers that differ can be looked at; counts are of all."
    return render_page(
        "flips.html",
        scripts=("common.js", "flips.js"),
        styles=("page.css",),
        title=title,
        subtitle=f"{names[0]}, and the other: {names[1]}"
        f" · {len({here.sample_id[pair.here] for pair, _ in pairs})} samples · {len(pairs)} pairs of answers",
        names=names,
        headline=list(_headline(names, counts, accuracy)),
        header=_HEADER,
        rows=[("", _cells(label, of_label, accuracy.get(label))) for label, of_label in counts.items()],
        notes=[*([left_out] if len(shown) < len(flips) else []), *_notes(accuracy)],
        missing_images=missing_images(places, found),
        data={
            "names": names,
            "conditions": {pair.label: readable(pair.label) for pair, _ in shown},
            "has_draws": len(set(here.draw.tolist())) > 1,
            "samples": [sample_data(here, rows, found.get(name)) for name, rows in of_sample.items()],
            "flips": [
                {
                    "sample": places[here.sample_id[pair.here]],
                    "condition": pair.label,
                    "draw": int(here.draw[pair.here]),
                    "kind": kind,
                    "here": response_data(here, (), pair.here),
                    "there": response_data(there, (), pair.there),
                }
                for pair, kind in shown
            ],
        },
    )


def _kind(here: Responses, there: Responses, pair: ResponsePair) -> str:
    """Return which of two answers is right."""
    one, other, target = int(here.choice[pair.here]), int(there.choice[pair.there]), int(here.target[pair.here])
    if (one == target) != (other == target):
        return "won" if one == target else "lost"
    return "both right" if one == target else "both wrong" if one == other else "changed"


def _headline(
    names: tuple[str, str], counts: Mapping[str, Counter[str]], accuracy: Mapping[str, SummaryRow]
) -> Iterator[str]:
    total: Counter[str] = sum(counts.values(), Counter())
    yield finding_texts.won_and_lost(names, total["won"], total["lost"], total.total())
    known = [(label, row) for label, row in accuracy.items() if not math.isnan(row.low)]
    decisive = sorted(
        (one for one in known if one[1].low > 0 or one[1].high < 0), key=lambda one: -abs(one[1].difference)
    )
    for label, row in decisive[:_MAX_NAMED]:
        yield finding_texts.accuracy_differs(label, row)
    if known and not decisive:
        yield finding_texts.no_accuracy_differs(len(known))
    elif len(decisive) > _MAX_NAMED:
        yield finding_texts.more_accuracies_differ(len(decisive) - _MAX_NAMED)


def _cells(label: str, counts: Counter[str], row: SummaryRow | None) -> list[TableCell]:
    pairs, right = counts.total(), counts["both right"]
    wrong = counts["both wrong"] + counts["changed"]
    numbers = [TableCell(str(count), count) for count in (pairs, counts["won"], counts["lost"], right, wrong)]
    values = (math.nan,) * 5 if row is None else (row.paired_value, row.base_value, row.difference, row.low, row.high)
    value, other, difference, low, high = values
    is_quiet = low <= 0 <= high
    return [
        text_cell(label),
        *numbers,
        number_cell(value),
        number_cell(other),
        number_cell(difference, "+")._replace(is_quiet=is_quiet),
        interval_cell(low, high, "+")._replace(is_quiet=is_quiet),
    ]


def _notes(accuracy: Mapping[str, SummaryRow]) -> Iterator[str]:
    for label, row in accuracy.items():
        if row.note:
            yield f"{label}: {row.note}"
