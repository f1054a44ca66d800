"""Prompts → what a processor makes of them, padded on the left, with everything that the processor returned."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..prompting import assistant_prefix, chat_turns, render_turns
from ..types import Prompt, Response, open_image

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Encoder", "EncodingError", "Readable", "Rendered"]


class EncodingError(ValueError):
    """A processor refused a text or an image, for instance one that is too thin."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """One prompt, ready for a processor.

    Attributes:
        prompt: the prompt, its prefill being what stands in the assistant's turn (an opener of the template included).
        text: the chat template's rendering and the prefill.
        images: decoded.
    """

    prompt: Prompt
    text: str
    images: tuple["Image", ...]


@dataclass(frozen=True, slots=True)
class Readable:
    """A prompt whose thought is complete: only the letter is to be read.

    Attributes:
        rendered: the prompt.
        completion: what stands between the prefill and the letter.
        written: the response so far, where the model's own text came first.
    """

    rendered: Rendered
    completion: str
    written: Response | None = None

    @property
    def text(self) -> str:
        """All text before the letter."""
        return self.rendered.text + self.completion

    @property
    def images(self) -> tuple["Image", ...]:
        """The prompt's images."""
        return self.rendered.images

    @property
    def prompt(self) -> Prompt:
        """The prompt."""
        return self.rendered.prompt


class Encoder:
    """Renders prompts and encodes batches of them.

    Args:
        processor: a Hugging Face processor with a tokenizer and a chat template.

    Raises:
        ValueError: the processor has no tokenizer, no chat template, or a template without a place for images.
    """

    def __init__(self, processor: Any) -> None:
        tokenizer = getattr(processor, "tokenizer", None)
        if tokenizer is None:
            raise ValueError(f"expected a processor with a tokenizer, got {type(processor).__name__} without one")
        self.processor = processor
        self.tokenizer = tokenizer
        on_tokenizer = not getattr(processor, "chat_template", None) and getattr(tokenizer, "chat_template", None)
        self.template = tokenizer if on_tokenizer else processor
        with_image, _ = render_turns(self.template, chat_turns("x", 1))
        without, _ = render_turns(self.template, chat_turns("x", 0))
        if with_image == without:
            raise ValueError(
                f"expected the chat template of {type(processor).__name__} to give an image a place, "
                "got the same text with and without an image"
            )
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token

    def render(self, prompt: Prompt, opened: dict[Any, "Image"]) -> Rendered:
        """Decode a prompt's images and render its text.

        Args:
            prompt: the prompt.
            opened: images that other prompts have decoded; what is decoded here is added.

        Raises:
            OSError: an image is missing or cannot be decoded; the message names sample and image.
            ValueError: the template drops the text.
        """
        images = []
        for position, image in enumerate(prompt.images):
            try:
                key = image if isinstance(image, str | Path | bytes) else id(image)
                if key not in opened:
                    opened[key] = open_image(image)
                images.append(opened[key])
            except OSError as error:
                raise type(error)(f"sample {prompt.sample.id!r}, field 'images.{position}': {error}") from error
        rendered, _ = render_turns(self.template, prompt.messages())
        text, prefix = assistant_prefix(rendered, prompt.prefill, prompt.style.think_tags[0])
        changed = prompt if prefix == prompt.prefill else prompt.replace(prefill=prefix)
        return Rendered(changed, text, tuple(images))

    def encode(self, texts: Sequence[str], images: Sequence[Sequence["Image"]]) -> dict[str, Any]:
        """Return the model's inputs for a batch, padded on the left.

        The rendered text has its special tokens, so none are added; all that the processor returns is handed on, since
        several families go silently wrong without their extra inputs.

        Args:
            texts: rendered prompts.
            images: those of each prompt; every prompt of a batch has the same number.

        Raises:
            EncodingError: the processor refused one of the prompts.
            ValueError: the processor padded on the right all the same.
        """
        counts = {len(shown) for shown in images}
        assert len(counts) == 1, "prompts of a batch have equally many images"
        given = {"images": [list(shown) for shown in images]} if counts != {0} else {}
        self.tokenizer.padding_side = "left"  # lost when a processor is saved and loaded
        padded = {"return_tensors": "pt", "padding": True, "padding_side": "left", "add_special_tokens": False}
        try:
            inputs = self.processor(text=list(texts), **padded, **given)
        except ValueError as error:
            raise EncodingError(f"{type(self.processor).__name__} refused text or image: {error}") from error
        inputs.pop("labels", None)  # PaliGemma's; a loss would be computed
        mask = inputs.get("attention_mask")
        if mask is not None and not bool(mask[:, -1].all()):
            raise ValueError(f"expected {type(self.processor).__name__} to pad on the left, got padding at the end")
        return dict(inputs)

    @staticmethod
    def to_device(inputs: dict[str, Any], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        """Move a batch to the model's device, floating inputs to its dtype."""
        return {
            name: value.to(device, dtype if value.is_floating_point() else value.dtype)
            if isinstance(value, torch.Tensor)
            else value
            for name, value in inputs.items()
        }
