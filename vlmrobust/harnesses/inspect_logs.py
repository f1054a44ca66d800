"""Read the logs of inspect_ai, including what `inspect_task` records in them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.row import images_of
from ..models.server.replies import FINISH_REASONS, Reply, response_of
from ..models.server.tokens import Steps
from ..types import Prompt, Response, Sample, Style
from .imported import (
    Imported,
    LoggedImage,
    LogRows,
    Pair,
    check_reader,
    one_file,
    sample_of,
    split_options,
    with_opener,
)

__all__ = ["RECORD", "InspectSample", "prompt_of", "read_inspect", "response_of_log", "sample_from"]

RECORD = "vlmrobust"
"""The key of the prompt that `inspect_task.perturbed` records in a sample's store, and the key in a sample's metadata
of its `texts`, `distractor` and `group`."""


def read_inspect(
    path: str | Path, *, style: Style | None = None, condition: str | None = None, opener: str = ""
) -> Imported:
    r"""Read a log of inspect_ai, `.eval` or `.json`, of a task whose samples have choices.

    Needs `pip install vlmrobust[harnesses]`. Epochs become draws. Reasoning that a provider returns separately is put
    back into the thought's tags, and log-probabilities at the answer become letter probabilities. A failed sample is an
    error. Prompts of `inspect_task.perturbed` are restored as recorded, but samples keep their original images.

    Args:
        path: the file, or a folder with one `.eval` file.
        style: the style used to parse answers; None = as recorded by `perturbed`, else `Style()`.
        condition: the name of the run's condition; None = as recorded by `perturbed`, else `base`.
        opener: the text that the chat template writes at the beginning of the assistant's turn, such as `<think>\n`, if
            the model's texts lack it; a text that repeats it is parsed the same.

    Returns:
        The prompts, with the samples' metadata, and the responses as our parser reads them. `harness_answer` and
        `harness_correct` in `sample.metadata` are of the first scorer that has read or judged an answer.

    Raises:
        FileNotFoundError: there is no log.
        ValueError: it has no readable samples.
    """
    log = one_file(path, "*.eval")
    check_reader(log, "read_inspect")
    try:
        from inspect_ai.log import read_eval_log
    except ImportError as error:
        raise ImportError("reading logs of inspect needs inspect_ai: pip install vlmrobust[harnesses]") from error
    log_rows = LogRows()
    samples = read_eval_log(log, resolve_attachments="full").samples or []
    for logged in samples:
        place = f"{log.name}, sample {logged.id!r}, epoch {logged.epoch}"
        log_rows.add(place, _pairs, logged, style, condition, opener)
    return log_rows.imported(log.name)


@dataclass(frozen=True, slots=True)
class InspectSample:
    """A sample of inspect with the model's output, from a log or from a running task.

    Attributes:
        id, epoch, input, choices, target, metadata, store: as in inspect.
        output: the model's output; None if the sample failed before.
        error: why it failed.
    """

    id: int | str
    epoch: int
    input: Any
    choices: Sequence[str]
    target: Sequence[str]
    metadata: Mapping[str, Any]
    store: Mapping[str, Any]
    output: Any = None
    error: str | None = None

    @property
    def place(self) -> str:
        """The sample's place, for messages."""
        return f"sample {self.id!r}, epoch {self.epoch}"


def _pairs(place: str, logged: Any, style: Style | None, condition: str | None, opener: str) -> Iterator[Pair]:
    sample = InspectSample(
        id=logged.id,
        epoch=logged.epoch,
        input=logged.input,
        choices=logged.choices or (),
        target=[logged.target] if isinstance(logged.target, str) else logged.target,
        metadata={**logged.metadata, **_verdict(logged.scores or {})},
        store=logged.store,
        output=logged.output,
        error=None if logged.error is None else logged.error.message,
    )
    prompt = prompt_of(sample, style)
    if condition is not None:
        prompt = prompt.replace(condition=condition)
    yield prompt, response_of_log(with_opener(prompt, opener), sample)


def _verdict(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Return the verdict of the first scorer that has read or judged an answer."""
    for score in scores.values():
        answer = {} if score.answer is None else {"harness_answer": score.answer}
        judged = {"harness_correct": score.value in ("C", 1)} if score.value in ("C", "I", "N", 1, 0) else {}
        if answer or judged:
            return {**answer, **judged}
    return {}


def sample_from(logged: InspectSample) -> Sample:
    """Convert a sample of inspect, with its choices or else the lettered options in its text.

    Raises:
        ValueError: it has neither, or not exactly one target.
    """
    if len(logged.target) != 1:
        raise ValueError(f"field 'target': expected one correct option, got {list(logged.target)!r:.80}")
    text, images = _text_and_images(logged.input)
    question, options = (text, tuple(logged.choices)) if logged.choices else split_options(text)[:2]
    values = {
        "id": str(logged.id),
        "images": images,
        "question": question,
        "options": list(options),
        "answer": logged.target[0],
        "metadata": {name: value for name, value in logged.metadata.items() if name != RECORD},
    }
    return sample_of(logged.place, {**logged.metadata.get(RECORD, {}), **values}, lettered=bool(logged.choices))


def _text_and_images(messages: Any) -> tuple[str, list[Any]]:
    """Return the text of the last user message, and the images of all user messages."""
    if isinstance(messages, str):
        return messages, []
    contents = [message.content for message in messages if message.role == "user"]
    parts = [part for content in contents if not isinstance(content, str) for part in content]
    text = next((message.text for message in reversed(messages) if message.role == "user"), "")
    addresses = [part.image for part in parts if part.type == "image"]
    return text, [images_of(to, None)[0] if to.startswith("data:") else LoggedImage(source=to) for to in addresses]


def prompt_of(logged: InspectSample, style: Style | None = None) -> Prompt:
    """Return the prompt recorded by `perturbed`, or else the sample's unperturbed prompt.

    Args:
        logged: the sample.
        style: replaces the recorded style.
    """
    sample = sample_from(logged)
    record = logged.store.get(RECORD)
    if record is None:
        return Prompt.of(sample, style=style, draw=logged.epoch - 1)
    fields = {**record["prompt"], "sample": sample, "images": sample.images}
    return Prompt(**(fields if style is None else {**fields, "style": style}))


def response_of_log(prompt: Prompt, logged: InspectSample) -> Response:
    """Return the response, with letter probabilities if the log has log-probabilities."""
    record = logged.store.get(RECORD) or {}
    if "not_applicable" in record:
        return Response.failed(prompt, record["not_applicable"], "not_applicable")
    if logged.error is not None:
        return Response.failed(prompt, logged.error)
    if logged.output is None or not logged.output.choices:
        return Response.failed(prompt, "the log has no output of a model")
    return response_of(prompt, _reply(logged.output))


def _reply(output: Any) -> Reply:
    choice, usage = output.choices[0], output.usage
    content = choice.message.content
    parts = [] if isinstance(content, str) else content
    reasoning = "".join(part.reasoning for part in parts if part.type == "reasoning" and not part.redacted)
    return Reply(
        content=choice.message.text,
        reasoning=reasoning or None,
        finish_reason=FINISH_REASONS.get(choice.stop_reason, choice.stop_reason),
        steps=Steps(getattr(choice.logprobs, "content", None) or ()),
        prompt_tokens=getattr(usage, "input_tokens", None),
        cached_tokens=getattr(usage, "input_tokens_cache_read", None),
        completion_tokens=getattr(usage, "output_tokens", None),
    )
