"""Prompts → what a processor makes of them, padded on the left, with everything that the processor returned."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..prompting import SpecialTokens, assistant_prefix, chat_turns, render_turns
from ..types import Prompt, Response, open_image
from ..types.prompt import made_of_images

if TYPE_CHECKING:
    from PIL.Image import Image

    from .options import ScoredText

_TOKENS_PER_IMAGE = 1024  # a guess, where the processor does not say

__all__ = ["Encoder", "EncodingError", "Rendered"]


class EncodingError(ValueError):
    """A processor refused a text or an image, for instance one that is too thin."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """One prompt, ready for a processor.

    Attributes:
        prompt: the prompt, its prefill being what stands in the assistant's turn (an opener of the template included).
        turns: the chat template's rendering and the prefill.
        images: decoded.
        forced: where nothing is left to think, what stands between the prefill and the letter, which is then read in
            one forward pass; None = a text is to be decoded.
        written: the response so far, where the model's own text stands in `forced`.
        scored: the option's text that is scored, which stands at the end of `forced`, or follows it where the
            processor takes answers apart; None = a letter is read.
    """

    prompt: Prompt
    turns: str
    images: tuple["Image", ...]
    forced: str | None = None
    written: Response | None = None
    scored: "ScoredText | None" = None

    @property
    def kin(self) -> tuple[Any, ...]:
        """What prompts have in common that may share a beginning: sample and images, or being one prompt's options."""
        which = () if self.scored is None else (self.prompt.condition, self.prompt.draw)
        return (self.prompt.sample.id, *map(id, self.images), *which)

    @property
    def text(self) -> str:
        """All text that the model goes on from."""
        return self.turns + (self.forced or "")


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
        # What an image adds to the text may also hold a line break, say; its placeholders are added tokens.
        added = frozenset(tokenizer.get_added_vocab().values())
        self.image_tokens = added & (frozenset(self.tokens(with_image)) - frozenset(self.tokens(without)))
        self._marks_per_image = self.image_marks(with_image)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        # PaliGemma sees a prompt both ways and its answer one way; its processor ends the prompt, and tells them apart.
        self.special = SpecialTokens.of(processor)
        self.takes_answers = "suffix" in inspect.signature(processor.__call__).parameters

    def render(self, prompt: Prompt, opened: dict[Any, "Image"]) -> Rendered:
        """Decode a prompt's images and render its text.

        Args:
            prompt: the prompt.
            opened: images that other prompts have decoded; what is decoded here is added.

        Raises:
            OSError: an image is missing or cannot be decoded; the message names sample and image.
            ValueError: the template drops the text.
        """
        images = made_of_images(prompt, open_image, opened)
        prompt = prompt.with_inert(self.special)
        rendered, _ = render_turns(self.template, prompt.messages())
        text, prefix = assistant_prefix(rendered, prompt.prefill, prompt.style.think_tags[0])
        marks, expected = self.image_marks(text), self._marks_per_image * len(images)
        if marks != expected:
            raise ValueError(
                f"sample {prompt.sample.id!r}, condition {prompt.condition!r}: expected {expected} image placeholders "
                f"in the rendered text, got {marks}; a text must not hold the model's own placeholder"
            )
        changed = prompt if prefix == prompt.prefill else prompt.replace(prefill=prefix)
        return Rendered(changed, text, tuple(images))

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of a rendered text, image placeholders not yet expanded."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def image_marks(self, text: str) -> int:
        """Return how many of the tokens that stand for an image are in a text."""
        return sum(token in self.image_tokens for token in self.tokens(text))

    def holds_control_tokens(self, text: str, allowed: Sequence[str]) -> bool:
        """Return whether a text that a model wrote holds added tokens, such as its own image placeholder.

        A processor would take them for images that are not there.

        Args:
            text: what the model wrote.
            allowed: tags, which may be added tokens themselves.
        """
        permitted = {token for tag in allowed for token in self.tokens(tag)}
        return not permitted.issuperset(set(self.tokens(text)) & set(self.tokenizer.get_added_vocab().values()))

    def image_length(self, images: Sequence["Image"]) -> int:
        """Return about how many tokens a prompt's images take, for planning batches."""
        count = getattr(self.processor, "_get_num_multimodal_tokens", None)
        if count is None or not images:
            return _TOKENS_PER_IMAGE * len(images)
        try:
            return sum(count(image_sizes=[(image.height, image.width) for image in images])["num_image_tokens"])
        except ValueError:  # an image that the processor will refuse
            return _TOKENS_PER_IMAGE * len(images)

    def encode(
        self, texts: Sequence[str], images: Sequence[Sequence["Image"]], answers: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Return the model's inputs for a batch, padded on the left.

        The rendered text has its special tokens, so none are added; all that the processor returns is handed on, since
        several families go silently wrong without their extra inputs.

        Args:
            texts: rendered prompts.
            images: those of each prompt; every prompt of a batch has the same number.
            answers: what follows each text, for a processor that takes answers apart (`takes_answers`).

        Raises:
            EncodingError: the processor refused one of the prompts.
            ValueError: the processor padded on the right all the same.
        """
        counts = {len(shown) for shown in images}
        assert len(counts) == 1, "prompts of a batch have equally many images"
        given: dict[str, Any] = {"images": [list(shown) for shown in images]} if counts != {0} else {}
        if any(answers):
            given["suffix"] = list(answers)
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
