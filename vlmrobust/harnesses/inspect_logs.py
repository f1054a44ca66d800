"""The logs of inspect_ai, and what its tasks leave in them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.fields import images_of
from ..models.server.replies import Reply, response_of
from ..models.server.steps import Steps
from ..types import Prompt, Response, Sample, Style
from .imported import Collected, Imported, LoggedImage, Pair, check_reader, one_file, opened, sample_of, split_options

__all__ = ["RECORD", "Answered", "asked", "read_inspect", "recorded", "said"]

RECORD = "vlmrobust"
"""The key in a sample's store under which `inspect_task.perturbed` keeps what it asked, and that in its metadata under
which it may have `texts`, `distractor` and `group`, as rows of data have them."""

_FINISH_REASONS = {"max_tokens": "length", "model_length": "length"}


def read_inspect(
    path: str | Path, *, style: Style | None = None, condition: str | None = None, opener: str = ""
) -> Imported:
    r"""Read a log of inspect_ai, `.eval` or `.json`, of a task whose samples have choices.

    Needs `pip install vlmrobust[harnesses]`. Epochs are draws. Reasoning that a provider returns apart is put back in
    the thought's tags, and log-probabilities become letters where the answer was written. A sample that failed is an
    error. What `inspect_task.perturbed` has asked is read back as it was; of changed images the sample keeps its own.

    Args:
        path: the file, or a folder that holds one `.eval` file.
        style: how the answers are read; None = as `perturbed` has recorded, or else `Style()`.
        condition: the name of what the run changed; None = as `perturbed` has recorded, or else `base`.
        opener: what the chat template has written where the assistant begins, such as `<think>\n`, where the model's
            texts lack it; one that does repeat it is read the same.

    Returns:
        The prompts, with the samples' metadata, and the responses as our parser reads them. What the first
        scorer that has read or judged an answer says of it is `harness_answer` and `harness_correct` in
        `sample.metadata`.

    Raises:
        FileNotFoundError: there is no log.
        ValueError: it has no samples, or none that can be read.
    """
    log = one_file(path, "*.eval")
    check_reader(log, "read_inspect")
    try:
        from inspect_ai.log import read_eval_log
    except ImportError as error:
        raise ImportError("reading logs of inspect needs inspect_ai: pip install vlmrobust[harnesses]") from error
    collected = Collected()
    samples = read_eval_log(log, resolve_attachments="full").samples or []
    for logged in samples:
        place = f"{log.name}, sample {logged.id!r}, epoch {logged.epoch}"
        collected.add(place, _pairs, logged, style, condition, opener)
    return collected.imported(log.name)


@dataclass(frozen=True, slots=True)
class Answered:
    """A sample of inspect with what a model said, out of a log or out of a task that runs.

    Attributes:
        id, epoch, input, choices, target, metadata, store: as inspect has them.
        output: the model's, or None where the sample failed before.
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
        """For messages."""
        return f"sample {self.id!r}, epoch {self.epoch}"


def _pairs(place: str, logged: Any, style: Style | None, condition: str | None, opener: str) -> Iterator[Pair]:
    answered = Answered(
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
    prompt = recorded(answered, style)
    if condition is not None:
        prompt = prompt.replace(condition=condition)
    yield prompt, said(opened(prompt, opener), answered)


def _verdict(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the first scorer that has read or judged an answer says of it."""
    for score in scores.values():
        answer = {} if score.answer is None else {"harness_answer": score.answer}
        judged = {"harness_correct": score.value in ("C", 1)} if score.value in ("C", "I", "N", 1, 0) else {}
        if answer or judged:
            return {**answer, **judged}
    return {}


def asked(answered: Answered) -> Sample:
    """Return the sample, with its choices or else the lettered options in its text.

    Raises:
        ValueError: it has neither, or not one target.
    """
    if len(answered.target) != 1:
        raise ValueError(f"field 'target': expected one correct option, got {list(answered.target)!r:.80}")
    text, images = _shown(answered.input)
    question, options = (text, tuple(answered.choices)) if answered.choices else split_options(text)[:2]
    values = {
        "id": str(answered.id),
        "images": images,
        "question": question,
        "options": list(options),
        "answer": answered.target[0],
        "metadata": {name: value for name, value in answered.metadata.items() if name != RECORD},
    }
    return sample_of(answered.place, {**answered.metadata.get(RECORD, {}), **values})


def _shown(given: Any) -> tuple[str, list[Any]]:
    """Return the last user message's text, and the images of all messages."""
    if isinstance(given, str):
        return given, []
    contents = [message.content for message in given if message.role == "user"]
    parts = [part for content in contents if not isinstance(content, str) for part in content]
    text = next((message.text for message in reversed(given) if message.role == "user"), "")
    return text, [_image(part.image) for part in parts if part.type == "image"]


def _image(address: str) -> Any:
    return images_of(address, None)[0] if address.startswith("data:") else LoggedImage(source=address)


def recorded(answered: Answered, style: Style | None = None) -> Prompt:
    """Return the prompt that `perturbed` has recorded, or the unperturbed one of the sample.

    Args:
        answered: the sample.
        style: in place of the recorded one.
    """
    sample = asked(answered)
    record = answered.store.get(RECORD)
    if record is None:
        return Prompt.of(sample, style=style, draw=answered.epoch - 1)
    fields = {**record["prompt"], "sample": sample, "images": sample.images}
    return Prompt(**(fields if style is None else {**fields, "style": style}))


def said(prompt: Prompt, answered: Answered) -> Response:
    """Return the response, letters included where the log has log-probabilities."""
    record = answered.store.get(RECORD) or {}
    if "not_applicable" in record:
        return Response.failed(prompt, record["not_applicable"], "not_applicable")
    if answered.error is not None:
        return Response.failed(prompt, answered.error)
    if answered.output is None or not answered.output.choices:
        return Response.failed(prompt, "the log has no output of a model")
    return response_of(prompt, _reply(answered.output))


def _reply(output: Any) -> Reply:
    choice, usage = output.choices[0], output.usage
    content = choice.message.content
    parts = [] if isinstance(content, str) else content
    reasoning = "".join(part.reasoning for part in parts if part.type == "reasoning" and not part.redacted)
    return Reply(
        content=choice.message.text,
        reasoning=reasoning or None,
        finish_reason=_FINISH_REASONS.get(choice.stop_reason, choice.stop_reason),
        steps=Steps(getattr(choice.logprobs, "content", None) or ()),
        prompt_tokens=getattr(usage, "input_tokens", None),
        cached_tokens=getattr(usage, "input_tokens_cache_read", None),
        completion_tokens=getattr(usage, "output_tokens", None),
    )
