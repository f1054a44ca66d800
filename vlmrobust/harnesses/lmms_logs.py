"""The per-sample logs of lmms-eval and of lm-eval, from which it comes (`--log_samples`)."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.fields import index_of, is_missing, options_of
from ..prompting import LETTERS
from ..types import Prompt, Response, Sample, Style
from .imported import Collected, Imported, Pair, check_reader, one_file, opened, sample_of, split_options, value_of

__all__ = ["read_lmms_eval"]

# What lmms-eval itself writes in a line; the rest is what the task made of the answer.
_OWN = frozenset({
    "doc_id", "doc", "target", "arguments", "filtered_resps", "resps", "input", "token_counts", "doc_hash",
    "input_media", "filter", "metrics", "prompt_hash", "target_hash",
})  # fmt: skip
_TEMPLATE = re.compile(r"<\|[^<>|]{1,40}\|>(?:(?:user|assistant|system)\b)?|</?s>|</?(?:start|end)_of_turn>|\[/?INST\]")
_EXTRACTED = ("parsed_pred", "pred", "extracted_answer")


def read_lmms_eval(
    path: str | Path,
    *,
    samples: Sequence[Sample] | None = None,
    style: Style | None = None,
    condition: str = "base",
    opener: str = "",
) -> Imported:
    r"""Read a log of lmms-eval, `<date>_samples_<task>.jsonl`, or of lm-eval, `samples_<task>_<date>.jsonl`.

    `--log_samples` writes them. A log has no images, and lmms-eval's not even the document: question and options are
    taken from the text that was shown, by `split_options`, from the document's own, or from `samples`. A sample's id is
    its `doc_id`. Several answers to one question are its draws; what several filters have made of one answer is one
    answer. Tasks that score options by likelihood have no text to read, and are refused. `token_counts` are not read:
    they count the padding of a batch as well.

    Args:
        path: the file, or a folder that holds one such file.
        samples: the dataset's samples in its order, for tasks whose text does not show the options: `doc_id` counts
            them from 0. They bring images and metadata along.
        style: how the answers are read; None = `Style()`.
        condition: the name of what the run changed; `base` = nothing.
        opener: what the chat template has written where the assistant begins, such as `<think>\n`, where the model's
            texts lack it; one that does repeat it is read the same.

    Returns:
        The prompts, with the task's own columns in `sample.metadata`, and the responses as our parser reads them.

    Raises:
        FileNotFoundError: there is no log.
        ValueError: not one line could be read, or `doc_id` occurs twice.

    Example:
        >>> import tempfile
        >>> line = {"doc_id": 7, "target": "B", "filtered_resps": "<think>It is blue.</think><answer>B</answer>",
        ...         "input": "Which colour?\nA. red\nB. blue", "exact_match": 1.0}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = Path(folder, "20261125_samples_colours.jsonl")
        ...     _ = log.write_text(json.dumps(line) + "\n")
        ...     read = read_lmms_eval(log)
        >>> read.responses[0].answer, read.prompts[0].sample.metadata["exact_match"]
        (1, 1.0)
    """
    log = one_file(path, "*samples_*.jsonl")
    check_reader(log, "read_lmms_eval")
    collected, seen = Collected(), dict[Any, tuple[list[str], Any]]()
    with log.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                collected.add(f"{log.name}, line {number}", _pairs, line, samples, style, condition, opener, seen)
    return collected.imported(log.name)


def _pairs(
    place: str,
    line: bytes,
    samples: Sequence[Sample] | None,
    style: Style | None,
    condition: str,
    opener: str,
    seen: dict[Any, tuple[list[str], Any]],
) -> Iterator[Pair]:
    row = json.loads(line)
    if not isinstance(row, Mapping):
        raise ValueError(f"expected one JSON object, got {type(row).__name__}")
    texts, filtered = _texts(row), (row.get("filter"), row.get("filtered_resps"))
    said_before, filtered_before = seen.setdefault(row.get("doc_id"), (texts, None))
    if said_before == texts and filtered_before not in (None, filtered):
        return  # the same answer once more, as another filter of the task has left it
    seen[row.get("doc_id")] = texts, filtered
    sample = _logged_sample(place, row) if samples is None else _own_sample(row, samples)
    for draw, text in enumerate(texts):
        prompt = Prompt.of(sample, style=style, draw=draw).replace(condition=condition)
        yield prompt, Response.parse(opened(prompt, opener), text)
        # What the task has made of an answer, it has made of the first one.
        sample = sample.replace(
            metadata={name: value for name, value in sample.metadata.items() if name != "harness_answer"}
        )


def _texts(row: Mapping[str, Any]) -> list[str]:
    """Return what the model wrote; `resps` is left out of the log where the filters changed nothing.

    lm-eval, and lmms-eval before 0.7, have a list of answers for each of a question's requests.
    """
    said = row["resps"] if "resps" in row else value_of(row, "filtered_resps")
    texts = [said] if isinstance(said, str) else said
    if isinstance(texts, list) and len(texts) == 1 and isinstance(texts[0], list):
        texts = texts[0]
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"field 'resps': expected generated text, got {said!r:.80}; is it a task of likelihoods?")
    return texts


def _logged_sample(place: str, row: Mapping[str, Any]) -> Sample:
    values = {
        "id": str(value_of(row, "doc_id")),
        **_asked(row),
        "answer": value_of(row, "target"),
        "metadata": _metadata(row),
    }
    return sample_of(place, values)


def _asked(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return question and options as they were shown; where the document has the same ones, its question.

    What was shown may begin with examples, and stand between the marks of a chat template.
    """
    doc = _of_document(row.get("doc"))
    shown = _first_text(row["arguments"]) if "input" not in row and row.get("arguments") else value_of(row, "input")
    try:
        if not isinstance(shown, str):
            raise ValueError(f"field 'input': expected the text that was shown, got {shown!r:.80}; give 'samples'")
        lettered = split_options(_TEMPLATE.sub("\n", shown))
    except ValueError:
        if doc is None:
            raise
        return {"question": doc[0], "options": doc[1]}
    # The letters are those of what was shown, in whose order a task may have put the options.
    is_of_document = doc is not None and sorted(doc[1]) == sorted(lettered.options)
    question = doc[0] if doc is not None and is_of_document else lettered.question
    return {"question": question, "options": list(lettered.options)}


def _of_document(doc: Any) -> tuple[str, list[str]] | None:
    """Return the question and the options of a document that has them under names that are usual."""
    if not isinstance(doc, Mapping) or not isinstance(doc.get("question"), str):
        return None
    lettered = {name: doc[name] for name in LETTERS if not is_missing(doc.get(name))}
    options = doc.get("options") or doc.get("choices") or lettered
    try:
        return doc["question"], list(options_of(options))
    except ValueError:
        return None


def _first_text(arguments: Any) -> Any:
    """Return the text among the arguments of a question's first request: the context that lm-eval has shown."""
    while isinstance(arguments, Mapping | list) and arguments:
        arguments = next(iter(arguments.values() if isinstance(arguments, Mapping) else arguments))
    return arguments


def _own_sample(row: Mapping[str, Any], samples: Sequence[Sample]) -> Sample:
    number = value_of(row, "doc_id")
    if not isinstance(number, int) or not 0 <= number < len(samples):
        raise ValueError(f"field 'doc_id': expected a number below {len(samples)}, one per sample, got {number!r}")
    sample = samples[number]
    target = index_of(value_of(row, "target"), sample.options)
    if target != sample.answer:
        raise ValueError(
            f"field 'target': expected {sample.options[sample.answer]!r}, the answer of sample {sample.id!r}, "
            f"got {sample.options[target]!r}; are the samples in the dataset's order?"
        )
    return sample.replace(metadata={**sample.metadata, **_metadata(row)})


def _metadata(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the task made of the answer: its columns, and the entries of those that are mappings."""
    metadata: dict[str, Any] = {}
    for name, value in row.items():
        if name not in _OWN:
            metadata |= {**value, **metadata} if isinstance(value, Mapping) else {name: value}
    extracted = next((metadata[name] for name in _EXTRACTED if name in metadata), None)
    filtered = row.get("filtered_resps")
    if isinstance(filtered, list) and len(filtered) == len(said := _texts(row)) == 1 and filtered != said:
        [filtered] = filtered
    if extracted is None and "resps" in row and isinstance(filtered, str):
        extracted = filtered
    return metadata if extracted is None else {**metadata, "harness_answer": extracted}
