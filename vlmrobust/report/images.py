"""Which of the samples that are given belongs to an id in a report, whatever was put before either."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from ..types import Responses, Sample

__all__ = ["missing_images", "samples_by_id"]

_PREFIX = re.compile(r"(?<![^\W_])(?=[^\W_])")  # where a word begins


def samples_by_id(responses: Responses, samples: Iterable[Sample]) -> dict[str, Sample]:
    """Return the given samples by the ids that a report has for them; ids without one are missing.

    Reports that were put together, and those of other harnesses, have a prefix before their ids, and so may files. An
    id is looked for as it is, then by its end, from the longest on; what is found by its end must ask the same.

    Args:
        responses: of the report.
        samples: where images come from.
    """
    given = list(samples)
    own = {sample.id: sample for sample in given}
    by_end: dict[str, list[Sample]] = {}
    for sample in given:
        for end in _ends(sample.id):
            by_end.setdefault(end, []).append(sample)
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(responses.sample_id):
        rows.setdefault(name, []).append(row)
    found = {name: own.get(name) or _by_end(responses, rows[name], name, by_end) for name in rows}
    return {name: sample for name, sample in found.items() if sample is not None}


def _ends(name: str) -> Iterator[str]:
    """Yield a name's ends that begin with a word, the longest first."""
    for place in _PREFIX.finditer(name):
        yield name[place.start() :]


def _by_end(
    responses: Responses, rows: Sequence[int], name: str, by_end: Mapping[str, Sequence[Sample]]
) -> Sample | None:
    for end in _ends(name):
        alike = [sample for sample in by_end.get(end, ()) if _asks_the_same(responses, rows, sample)]
        if alike:
            return alike[0] if len(alike) == 1 else None
    return None


def _asks_the_same(responses: Responses, rows: Sequence[int], sample: Sample) -> bool:
    row = rows[0]
    if int(responses.target[row]) != sample.answer or int(responses.option_count[row]) != len(sample.options):
        return False
    return any(responses.question[row] == sample.question for row in rows)


def missing_images(names: Collection[str], found: Mapping[str, Sample]) -> str:
    """Return a note on the samples of a page whose images were not found; empty = there is none."""
    missing = [name for name in names if name not in found]
    if not missing:
        return ""
    listed = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
    why = "none of the samples given has their id and question" if found else "samples are needed, which a report lacks"
    return f"Images of {len(missing)} of {len(names)} samples are not on this page ({listed}): {why}."
