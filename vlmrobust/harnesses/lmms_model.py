"""Run any model of lmms-eval, which supports about a hundred families and servers, under our conditions."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..models.server.messages import messages_of
from ..prompting import KNOWN_TOKENS
from ..types import Prompt, Response, open_image

__all__ = ["LmmsModel"]

_TASK, _SPLIT = "vlmrobust", "prompts"


class LmmsModel:
    """A model of lmms-eval, chat-style or simple.

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
        return text, _unchanged, settings, number, _TASK, _SPLIT


def _messages(prompt: Prompt) -> list[dict[str, Any]]:
    """Return the turns, with their images, in the format of `lmms_eval.protocol.ChatMessages`."""
    prompt = prompt.with_inert(KNOWN_TOKENS)
    pictures: Any = [open_image(image) for image in prompt.images]
    turns = messages_of(prompt, pictures, prompt.prefill, "user_text")
    return [{**turn, "content": [_part(part) for part in turn["content"]]} for turn in turns]


def _part(part: dict[str, Any]) -> dict[str, Any]:
    return {"type": "image", "url": part["image_url"]["url"]} if part["type"] == "image_url" else part


def _unchanged(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return messages


def _images(messages: list[dict[str, Any]]) -> list[Any]:
    return [part["url"] for turn in messages for part in turn["content"] if part["type"] == "image"]


def _read(prompt: Prompt, text: str, counts: Any) -> Response:
    return Response.parse(
        prompt.replace(prefill=""),
        text,
        carrier="user_text" if prompt.prefill else "assistant_prefill",
        n_tokens=None if counts is None else counts.output_tokens,
    )
