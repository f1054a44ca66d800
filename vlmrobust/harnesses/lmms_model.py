"""Any model of lmms-eval as a model here: its adapters for some hundred families and servers, under our conditions."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..models.server.messages import messages_of
from ..prompting import KNOWN_TOKENS
from ..types import Prompt, Response, open_image

__all__ = ["LmmsModel"]

_TASK, _SPLIT = "vlmrobust", "prompts"


class LmmsModel:
    """A model of lmms-eval that answers prompts, chat-style or simple.

    It has no way to continue a begun turn: a prefilled thought is put into the user's text, as for servers without
    prefill, and stands apart in the report (`carrier` is `user_text`). It returns no log-probabilities: letter metrics
    are NaN. `HFModel` reads both for what Hugging Face transformers can load.

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
        """Return what decides the answers as far as it can be seen from here: class, checkpoint, settings."""
        kind = type(self.lmms)
        name = getattr(getattr(self.lmms, "config", None), "_name_or_path", None)
        return {"class": f"{kind.__module__}.{kind.__qualname__}", "name": name, "generation": self.generation}

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Answer prompts in one call of `generate_until`; see `Model.respond`.

        An image that cannot be opened fails its own prompt, and so do earlier turns where the model is a simple one,
        which takes one text. What the model raises is raised.
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
        settings = dict(self.generation)  # adapters take what they know out of it
        if self.lmms.is_simple:
            return text, settings, _images, number, _TASK, _SPLIT
        return text, _as_they_are, settings, number, _TASK, _SPLIT


def _messages(prompt: Prompt) -> list[dict[str, Any]]:
    """Return the turns with the images in them, as `lmms_eval.protocol.ChatMessages` takes them."""
    prompt = prompt.with_inert(KNOWN_TOKENS)
    pictures: Any = [open_image(image) for image in prompt.images]
    turns = messages_of(prompt, pictures, prompt.prefill, "user_text")
    return [{**turn, "content": [_part(part) for part in turn["content"]]} for turn in turns]


def _part(part: dict[str, Any]) -> dict[str, Any]:
    return {"type": "image", "url": part["image_url"]["url"]} if part["type"] == "image_url" else part


def _as_they_are(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
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
