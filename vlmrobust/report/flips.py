"""Two reports side by side: every answer that one has right and the other wrong, with image and both thoughts."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..local_paths import without_local_paths
from ..naming import readable, unit_labels
from ..types import Responses, Sample
from . import sentences
from .browse import response_shown, sample_shown
from .comparison import Pair, pairs_between
from .html import Cell, interval_cell, number_cell, text_cell
from .images import missing_images, samples_by_id
from .pairing import UNSCORED
from .rendering import rendered
from .summary import SummaryRow

__all__ = ["side_by_side"]

_NAMED = 3
_HEADER = ("condition", "pairs", "won", "lost", "both right", "both wrong", "accuracy", "other", "difference", "95 %")


@dataclass(frozen=True, slots=True)
class _Flip:
    """Two answers to one prompt, of which one alone is right, or both are wrong in other ways."""

    pair: Pair
    kind: str


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
    """Return a page of the answers that differ between two reports.

    Args:
        here: the responses of one.
        there: those of the other.
        rows: the reports compared, of which accuracy is shown.
        title: of the page.
        names: how the two are called.
        samples: where the images come from.
        max_flips: how many answers can be looked at; the counts are of all.
    """
    names = (without_local_paths(names[0]), without_local_paths(names[1]))
    pairs = [pair for pair in pairs_between(here, there) if _is_scored(here, there, pair)]
    kinds = [_kind(here, there, pair) for pair in pairs]
    flips = [_Flip(pair, kind) for pair, kind in zip(pairs, kinds, strict=True) if kind in ("won", "lost", "changed")]
    counts: dict[str, Counter[str]] = {}
    for pair, kind in zip(pairs, kinds, strict=True):
        counts.setdefault(pair.label, Counter())[kind] += 1
    labels = unit_labels((row.condition, row.carrier) for row in rows)
    accuracy = {labels[row.condition, row.carrier]: row for row in rows if row.metric == "accuracy"}
    shown = flips[:max_flips]
    found = samples_by_id(here, samples)
    places = {name: place for place, name in enumerate(dict.fromkeys(here.sample_id[one.pair.here] for one in shown))}
    of_sample: dict[str, list[int]] = {name: [] for name in places}
    for row, name in enumerate(here.sample_id):
        if name in places:
            of_sample[name].append(row)
    left_out = f"The first {len(shown)} of {len(flips)} answers that differ can be looked at; counts are of all."
    return rendered(
        "flips.html",
        scripts=("common.js", "flips.js"),
        styles=("page.css",),
        title=title,
        subtitle=f"{names[0]}, and the other: {names[1]} · {len({here.sample_id[pair.here] for pair in pairs})} samples"
        f" · {len(pairs)} pairs of answers",
        names=names,
        headline=list(_headline(names, counts, accuracy)),
        header=_HEADER,
        rows=[("", _cells(label, of_label, accuracy.get(label))) for label, of_label in counts.items()],
        notes=[*([left_out] if len(shown) < len(flips) else []), *_notes(accuracy)],
        missing_images=missing_images(places, found),
        data={
            "names": names,
            "conditions": {flip.pair.label: readable(flip.pair.label) for flip in shown},
            "has_draws": len(set(here.draw.tolist())) > 1,
            "samples": [sample_shown(here, rows, found.get(name)) for name, rows in of_sample.items()],
            "flips": [
                {
                    "sample": places[here.sample_id[flip.pair.here]],
                    "condition": flip.pair.label,
                    "draw": int(here.draw[flip.pair.here]),
                    "kind": flip.kind,
                    "here": response_shown(here, (), flip.pair.here),
                    "there": response_shown(there, (), flip.pair.there),
                }
                for flip in shown
            ],
        },
    )


def _is_scored(here: Responses, there: Responses, pair: Pair) -> bool:
    return here.status[pair.here] not in UNSCORED and there.status[pair.there] not in UNSCORED


def _kind(here: Responses, there: Responses, pair: Pair) -> str:
    one, other, target = int(here.choice[pair.here]), int(there.choice[pair.there]), int(here.target[pair.here])
    if (one == target) != (other == target):
        return "won" if one == target else "lost"
    return "both right" if one == target else "both wrong" if one == other else "changed"


def _headline(
    names: tuple[str, str], counts: Mapping[str, Counter[str]], accuracy: Mapping[str, SummaryRow]
) -> Iterator[str]:
    total: Counter[str] = sum(counts.values(), Counter())
    yield sentences.won_and_lost(names, total["won"], total["lost"], total.total())
    known = [(label, row) for label, row in accuracy.items() if not math.isnan(row.low)]
    told = sorted((one for one in known if one[1].low > 0 or one[1].high < 0), key=lambda one: -abs(one[1].difference))
    for label, row in told[:_NAMED]:
        yield sentences.differs(label, row)
    if known and not told:
        yield sentences.none_differs(len(known))
    elif len(told) > _NAMED:
        yield sentences.others_differ(len(told) - _NAMED)


def _cells(label: str, counts: Counter[str], row: SummaryRow | None) -> list[Cell]:
    pairs, right = counts.total(), counts["both right"]
    wrong = counts["both wrong"] + counts["changed"]
    numbers = [Cell(str(count), count) for count in (pairs, counts["won"], counts["lost"], right, wrong)]
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
