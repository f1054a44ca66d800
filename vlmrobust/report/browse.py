"""Find the samples of a report, and convert them, their responses and images to JSON values for the page."""

import io
import math
import re
from base64 import b64encode
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import torch

from .. import functional
from ..text import readable, without_local_paths
from ..types import Responses, Sample
from ..types.image import ImageLike, open_image
from .files import ReportData
from .labels import Drawn, draw_thoughts
from .metric_columns import Column
from .pairing import UNSCORED

__all__ = ["FLAGS", "browser_data", "missing_images", "response_data", "sample_data", "samples_by_id"]


_WORD_START = re.compile(r"(?<![^\W_])(?=[^\W_])")  # where a word begins


def samples_by_id(responses: Responses, samples: Iterable[Sample]) -> dict[str, Sample]:
    """Return the given samples by their ids in a report; ids without a sample are missing.

    Concatenated reports, those of other harnesses, and files may prefix their ids. An id is looked up as it is, then by
    its suffixes, longest first; a sample found by a suffix must have the same question.

    Args:
        responses: of the report.
        samples: with the images.
    """
    given = list(samples)
    own = {sample.id: sample for sample in given}
    by_suffix: dict[str, list[Sample]] = {}
    for sample in given:
        for end in _suffixes(sample.id):
            by_suffix.setdefault(end, []).append(sample)
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(responses.sample_id):
        rows.setdefault(name, []).append(row)
    found = {name: own.get(name) or _find_by_suffix(responses, rows[name], name, by_suffix) for name in rows}
    return {name: sample for name, sample in found.items() if sample is not None}


def _suffixes(name: str) -> Iterator[str]:
    """Yield the suffixes of a name that begin with a word, longest first."""
    for place in _WORD_START.finditer(name):
        yield name[place.start() :]


def _find_by_suffix(
    responses: Responses, rows: Sequence[int], name: str, by_suffix: Mapping[str, Sequence[Sample]]
) -> Sample | None:
    for end in _suffixes(name):
        matching = [sample for sample in by_suffix.get(end, ()) if _is_same_question(responses, rows, sample)]
        if matching:
            return matching[0] if len(matching) == 1 else None
    return None


def _is_same_question(responses: Responses, rows: Sequence[int], sample: Sample) -> bool:
    row = rows[0]
    if int(responses.target[row]) != sample.answer or int(responses.option_count[row]) != len(sample.options):
        return False
    return any(responses.question[row] == sample.question for row in rows)


def missing_images(names: Collection[str], found: Mapping[str, Sample]) -> str:
    """Return a note on the samples of a page whose images were not found, or an empty string."""
    missing = [name for name in names if name not in found]
    if not missing:
        return ""
    listed = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
    why = "none of the samples given has their id and question" if found else "samples are needed, which a report lacks"
    return f"Images of {len(missing)} of {len(names)} samples are not on this page ({listed}): {why}."


FLAGS = {
    "harmed": "right under base, wrong here",
    "helped": "wrong under base, right here",
    "followed": "answers with the wrong option that the injected text asserts",
    "inconsistent": "the thought concludes something else than the answer",
    "no answer": "no clear answer in the text, or cut off",
    "error": "the call failed, or the condition does not fit the sample",
}
"""The filters for responses, each with its meaning."""

_THUMBNAIL_SIZE = 360


def browser_data(report: ReportData, samples: Iterable[Sample], max_samples: int, labels: int = 0) -> dict[str, Any]:
    """Return the data of the page's sample browser and labelling mode, as JSON values without NaN.

    Args:
        report: to show; its seed is that of the draw for labelling.
        samples: with the images; samples that are not in the report are ignored.
        max_samples: the maximum number of samples, in the report's order.
        labels: number of thoughts per condition to draw for labelling.
    """
    responses, columns = report.responses, report.columns
    kept = dict.fromkeys(islice(dict.fromkeys(responses.sample_id), max_samples))
    rows: dict[str, list[int]] = {}
    for row, sample_id in enumerate(responses.sample_id):
        if sample_id in kept:
            rows.setdefault(sample_id, []).append(row)
    given = samples_by_id(responses, samples)
    flags = _flags(responses, columns, list(chain.from_iterable(rows.values())))
    return {
        "conditions": {name: readable(name) for name in dict.fromkeys(responses.condition)},
        "flags": FLAGS,
        "metrics": [readable(column.name) for column in columns],
        "missing_images": missing_images(kept, given) if given else "",
        "labelling": {
            "seed": str(report.seed),  # as text: JavaScript has no integers beyond 2**53
            "thoughts": [_label_task(one) for one in draw_thoughts(responses, labels, None, report.seed)],
        }
        if labels
        else None,
        "samples": [
            sample_data(responses, rows[sample_id], given.get(sample_id))
            | {"responses": [response_data(responses, columns, row) | {"flags": flags[row]} for row in rows[sample_id]]}
            for sample_id in kept
        ],
    }


def _label_task(one: Drawn) -> dict[str, Any]:
    """Return a thought to label; an added option cannot be its conclusion."""
    shown = zip(one.letters, one.options, one.order, strict=True)
    return {
        "sample_id": one.sample_id,
        "condition": one.condition,
        "draw": one.draw,
        "digest": one.digest,
        "question": one.question,
        "options": [{"letter": letter, "text": text, "index": index} for letter, text, index in shown],
        "thought": one.thought,
    }


def sample_data(responses: Responses, rows: Sequence[int], given: Sample | None) -> dict[str, Any]:
    """Return a sample from the rows of its responses, with its images if the sample is given."""
    first = rows[0]
    shown = [
        (index, text) for row in rows for index, text in zip(responses.order[row], responses.options[row], strict=True)
    ]
    own = {index: text for index, text in reversed(shown) if index is not None}
    distractors = [index for index in responses.distractor[list(rows)].tolist() if index >= 0]
    return {
        "id": responses.sample_id[first],
        "metadata": without_local_paths({str(name): str(value) for name, value in responses.metadata[first].items()}),
        "question": responses.question[first],
        "options": [own.get(index, "") for index in range(int(responses.option_count[first]))],
        "target": int(responses.target[first]),
        "distractor": distractors[0] if distractors else None,
        "images": [] if given is None else [_thumbnail(image) for image in given.images],
    }


def response_data(responses: Responses, columns: Sequence[Column], row: int) -> dict[str, Any]:
    """Return the prompt, the answer and the metrics' values of one response."""
    choice = int(responses.choice[row])
    values = {column.name: float(column.scores[row]) for column in columns}
    return {
        "condition": responses.condition[row],
        "draw": int(responses.draw[row]),
        "status": responses.status[row],
        "error": without_local_paths(responses.error[row]),
        "carrier": responses.carrier[row],
        "readout": None if responses.readout[row] is None else readable(responses.readout[row] or ""),
        "correct": None if responses.status[row] in UNSCORED else choice == int(responses.target[row]),
        "answer": choice if choice >= 0 else None,
        "context": responses.context[row],
        "question": responses.question[row],
        "history": [{"role": role, "text": text} for role, text in responses.history[row]],
        "prefill": responses.prefill[row],
        "text": responses.text[row],
        "options": _options(responses, row),
        "scores": [None if math.isnan(value) else round(value, 4) for value in values.values()],
    }


def _options(responses: Responses, row: int) -> list[dict[str, Any]]:
    """Return the options as shown: letter, text, index among the sample's own, probability.

    Probabilities of the sample's own options are renormalised over them, as in `correct_probability`; that of an added
    option is its letter's over the vocabulary.
    """
    own = functional.letter_probabilities(responses.option_logprobs[row]).tolist()
    added = iter(responses.added_logprobs[row].exp().tolist())
    shown = zip(responses.letters[row], responses.options[row], responses.order[row], strict=False)
    listed = []
    for letter, text, index in shown:
        probability = next(added, math.nan) if index is None else own[index]
        known = None if math.isnan(probability) else round(probability, 4)
        listed.append({"letter": letter, "text": text, "index": index, "probability": known})
    return listed


def _flags(responses: Responses, columns: Sequence[Column], rows: Sequence[int]) -> dict[int, list[str]]:
    """Return by position the names in `FLAGS` that hold for each response; `rows` are whole samples."""
    consistency = next((column.scores[rows] for column in columns if column.name == "consistency"), None)
    responses = responses.select(rows)
    scored = ~responses.has_status(*UNSCORED)
    correct = functional.accuracy(responses.choice, responses.target, scored)
    before = _base_values(responses, correct)
    misled = torch.where(responses.asserted == responses.target, -1, responses.asserted)
    held = {
        "harmed": (before == 1) & (correct == 0),
        "helped": (before == 0) & (correct == 1),
        "followed": functional.follow(responses.choice, misled, scored) == 1,
        "inconsistent": torch.zeros_like(scored) if consistency is None else torch.from_numpy(consistency == 0),
        "no answer": responses.has_status("unparsed", "truncated"),
        "error": ~scored,
    }
    masks = {name: mask.tolist() for name, mask in held.items()}
    return {row: [name for name in FLAGS if masks[name][place]] for place, row in enumerate(rows)}


def _base_values(responses: Responses, values: torch.Tensor) -> torch.Tensor:
    """Return for each response the value of its sample and draw under base, NaN where there is none."""
    keys = list(zip(responses.sample_id, responses.draw.tolist(), strict=True))
    pairs = zip(keys, responses.condition, values.tolist(), strict=True)
    base: Mapping[tuple[str, int], float] = {key: value for key, condition, value in pairs if condition == "base"}
    return torch.tensor([base.get(key, math.nan) for key in keys])


def _thumbnail(image: ImageLike) -> dict[str, str]:
    """Return a thumbnail of an image as a data URI, or why the image cannot be read."""
    try:
        small = open_image(image)
    except OSError as error:
        return {"error": without_local_paths(str(error))}
    small.thumbnail((_THUMBNAIL_SIZE, _THUMBNAIL_SIZE))
    encoded = []
    for kind in ("PNG", "JPEG"):
        out = io.BytesIO()
        small.save(out, kind, quality=85)
        encoded.append((len(out.getvalue()), kind.lower(), out.getvalue()))
    _, kind, content = min(encoded)  # drawings are smaller as PNG, photographs as JPEG
    return {"src": f"data:image/{kind};base64,{b64encode(content).decode()}"}
