"""Exchange with lmms-eval: read its logs and those of lm-eval, and run any of its models under our conditions."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.fields import index_of, is_missing, options_of
from ..models.server.messages import messages_of
from ..prompting import KNOWN_TOKENS, LETTERS
from ..types import Prompt, Response, Sample, Style, open_image
from .imported import Imported, LogRows, Pair, check_reader, one_file, sample_of, split_options, value_of, with_opener

__all__ = ["LmmsModel", "read_lmms_eval"]


# Columns that lmms-eval itself writes; the others are the task's results.
_HARNESS_COLUMNS = frozenset({
    "doc_id", "doc", "target", "arguments", "filtered_resps", "resps", "input", "token_counts", "doc_hash",
    "input_media", "filter", "metrics", "prompt_hash", "target_hash",
})  # fmt: skip
_TEMPLATE = re.compile(r"<\|[^<>|]{1,40}\|>(?:(?:user|assistant|system)\b)?|</?s>|</?(?:start|end)_of_turn>|\[/?INST\]")
_EXTRACTED = ("parsed_pred", "pred", "extracted_answer")
_TASK, _SPLIT = "vlmrobust", "prompts"


def read_lmms_eval(
    path: str | Path,
    *,
    samples: Sequence[Sample] | None = None,
    style: Style | None = None,
    condition: str = "base",
    opener: str = "",
) -> Imported:
    r"""Read a log of lmms-eval, `<date>_samples_<task>.jsonl`, or of lm-eval, `samples_<task>_<date>.jsonl`.

    `--log_samples` writes them. A log has no images, and that of lmms-eval not even the document: question and options
    come from the shown text, by `split_options`, from the document, or from `samples`. A sample's id is its `doc_id`.
    Several answers to one question are draws; the results of several filters for one answer are one answer. Tasks that
    score options by likelihood have no text to parse, and are refused. `token_counts` are ignored, since they include
    the padding of a batch.

    Args:
        path: the file, or a folder with one such file.
        samples: the dataset's samples in its order, for tasks whose text does not show the options: `doc_id` counts
            them from 0. They provide images and metadata too.
        style: the style used to parse answers; None = `Style()`.
        condition: the name of the run's condition; `base` = unperturbed.
        opener: the text that the chat template writes at the beginning of the assistant's turn, such as `<think>\n`, if
            the model's texts lack it; a text that repeats it is parsed the same.

    Returns:
        The prompts, with the task's own columns in `sample.metadata`, and the responses as our parser reads them.

    Raises:
        FileNotFoundError: there is no log.
        ValueError: no line could be read, or a `doc_id` occurs twice.

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
    log_rows, seen = LogRows(), dict[Any, tuple[list[str], Any]]()
    with log.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                log_rows.add(f"{log.name}, line {number}", _pairs, line, samples, style, condition, opener, seen)
    return log_rows.imported(log.name)


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
    texts_before, filtered_before = seen.setdefault(row.get("doc_id"), (texts, None))
    if texts_before == texts and filtered_before not in (None, filtered):
        return  # the same answer after another filter of the task
    seen[row.get("doc_id")] = texts, filtered
    sample = _logged_sample(place, row) if samples is None else _own_sample(row, samples)
    for draw, text in enumerate(texts):
        prompt = Prompt.of(sample, style=style, draw=draw).replace(condition=condition)
        yield prompt, Response.parse(with_opener(prompt, opener), text)
        # The task's results are those of the first answer.
        sample = sample.replace(
            metadata={name: value for name, value in sample.metadata.items() if name != "harness_answer"}
        )


def _texts(row: Mapping[str, Any]) -> list[str]:
    """Return the responses; the log omits `resps` if the filters changed nothing.

    lm-eval, and lmms-eval before 0.7, have a list of answers for each of a question's requests.
    """
    responses = row["resps"] if "resps" in row else value_of(row, "filtered_resps")
    texts = [responses] if isinstance(responses, str) else responses
    if isinstance(texts, list) and len(texts) == 1 and isinstance(texts[0], list):
        texts = texts[0]
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"field 'resps': expected generated text, got {responses!r:.80}; a likelihood task?")
    return texts


def _logged_sample(place: str, row: Mapping[str, Any]) -> Sample:
    values = {
        "id": str(value_of(row, "doc_id")),
        **_question(row),
        "answer": value_of(row, "target"),
        "metadata": _metadata(row),
    }
    return sample_of(place, values)


def _question(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return question and options as shown to the model; if the document has the same options, with its question.

    The shown text may begin with examples and contain the special tokens of a chat template.
    """
    doc = _document_question(row.get("doc"))
    shown = _first_text(row["arguments"]) if "input" not in row and row.get("arguments") else value_of(row, "input")
    try:
        if not isinstance(shown, str):
            raise ValueError(f"field 'input': expected the text of the prompt, got {shown!r:.80}; give 'samples'")
        lettered = split_options(_TEMPLATE.sub("\n", shown))
    except ValueError:
        if doc is None:
            raise
        return {"question": doc[0], "options": doc[1]}
    # Letters refer to the shown text, in which a task may have reordered the options.
    is_of_document = doc is not None and sorted(doc[1]) == sorted(lettered.options)
    question = doc[0] if doc is not None and is_of_document else lettered.question
    return {"question": question, "options": list(lettered.options)}


def _document_question(doc: Any) -> tuple[str, list[str]] | None:
    """Return the question and options of a document that has them under common names."""
    if not isinstance(doc, Mapping) or not isinstance(doc.get("question"), str):
        return None
    lettered = {name: doc[name] for name in LETTERS if not is_missing(doc.get(name))}
    options = doc.get("options") or doc.get("choices") or lettered
    try:
        return doc["question"], list(options_of(options))
    except ValueError:
        return None


def _first_text(arguments: Any) -> Any:
    """Return the text among the arguments of a question's first request: the context shown by lm-eval."""
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
    """Return the task's results: its columns, and the entries of those that are mappings."""
    metadata: dict[str, Any] = {}
    for name, value in row.items():
        if name not in _HARNESS_COLUMNS:
            metadata |= {**value, **metadata} if isinstance(value, Mapping) else {name: value}
    extracted = next((metadata[name] for name in _EXTRACTED if name in metadata), None)
    filtered = row.get("filtered_resps")
    if isinstance(filtered, list) and len(filtered) == len(texts := _texts(row)) == 1 and filtered != texts:
        [filtered] = filtered
    if extracted is None and "resps" in row and isinstance(filtered, str):
        extracted = filtered
    return metadata if extracted is None else {**metadata, "harness_answer": extracted}


class LmmsModel:
    """A model of lmms-eval, which supports about a hundred families and servers, chat-style or simple.

    It cannot continue an assistant turn: a prefilled thought goes into the user's text, as for servers without prefill,
    and is reported separately (`carrier` is `user_text`). It returns no log-probabilities: letter metrics are NaN.
    `HFModel` supports both for models that Hugging Face transformers can load.

    Args:
        lmms: an instance of a subclass of `lmms_eval.api.model.lmms`.
        generation: its `gen_kwargs`, such as `{"max_new_tokens": 512}`; None = greedy, up to 1,024 tokens.

    Example:
        >>> from vlmrobust.models import Model
        >>> isinstance(LmmsModel(object()), Model)
        True
    """

    def __init__(self, lmms: Any, generation: Mapping[str, Any] | None = None) -> None:
        self.lmms = lmms
        defaults = {"max_new_tokens": 1024, "temperature": 0, "do_sample": False, "until": []}
        self.generation = {**defaults, **(generation or {})}

    def identity(self) -> dict[str, Any]:
        """Return what is known to determine the responses: class, checkpoint, settings."""
        kind = type(self.lmms)
        name = getattr(getattr(self.lmms, "config", None), "_name_or_path", None)
        return {"class": f"{kind.__module__}.{kind.__qualname__}", "name": name, "generation": self.generation}

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Answer prompts in one call of `generate_until`; see `Model.respond`.

        A prompt fails on its own if an image cannot be opened, or if it has earlier turns and the model is a simple
        one, which takes a single text. Exceptions of the model are raised.
        """
        from lmms_eval.api.instance import Instance, unwrap_generation_output

        shown: dict[int, list[dict[str, Any]]] = {}
        failed: dict[int, Response] = {}
        for number, prompt in enumerate(prompts):
            if prompt.history and self.lmms.is_simple:
                failed[number] = Response.failed(
                    prompt,
                    f"sample {prompt.sample.id!r}, condition {prompt.condition!r}: expected a chat-style model for a "
                    f"prompt with earlier turns, got {type(self.lmms).__name__}, which takes one text",
                )
                continue
            try:
                shown[number] = _messages(prompt)
            except OSError as error:
                failed[number] = Response.failed(prompt, error)
        self.lmms.task_dict[_TASK] = {_SPLIT: shown}
        requests = [
            Instance(
                request_type="generate_until",
                arguments=self._arguments(number, messages),
                idx=0,
                metadata={"task": _TASK, "doc_id": number, "repeats": 1},
            )
            for number, messages in shown.items()
        ]
        outputs = self.lmms.generate_until(requests) if requests else []
        if len(outputs) != len(requests):
            raise ValueError(f"expected {len(requests)} outputs of {type(self.lmms).__name__}, got {len(outputs)}")
        answers = dict(zip(shown, map(unwrap_generation_output, outputs), strict=True))
        return [failed.get(number) or _read(prompt, *answers[number]) for number, prompt in enumerate(prompts)]

    def _arguments(self, number: int, messages: list[dict[str, Any]]) -> tuple[Any, ...]:
        text = "".join(part["text"] for turn in messages for part in turn["content"] if part["type"] == "text")
        settings = dict(self.generation)  # adapters remove entries from it
        if self.lmms.is_simple:
            return text, settings, _images, number, _TASK, _SPLIT
        return text, lambda messages: messages, settings, number, _TASK, _SPLIT


def _messages(prompt: Prompt) -> list[dict[str, Any]]:
    """Return the turns, with their images, in the format of `lmms_eval.protocol.ChatMessages`."""
    prompt = prompt.with_inert(KNOWN_TOKENS)
    pictures: Any = [open_image(image) for image in prompt.images]
    turns = messages_of(prompt, pictures, prompt.prefill, "user_text")
    return [{**turn, "content": [_part(part) for part in turn["content"]]} for turn in turns]


def _part(part: dict[str, Any]) -> dict[str, Any]:
    return {"type": "image", "url": part["image_url"]["url"]} if part["type"] == "image_url" else part


def _images(messages: list[dict[str, Any]]) -> list[Any]:
    return [part["url"] for turn in messages for part in turn["content"] if part["type"] == "image"]


def _read(prompt: Prompt, text: str, counts: Any) -> Response:
    return Response.parse(
        prompt.replace(prefill=""),
        text,
        carrier="user_text" if prompt.prefill else "assistant_prefill",
        n_tokens=None if counts is None else counts.output_tokens,
    )
