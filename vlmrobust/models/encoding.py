"""Render prompts as the model reads them, and encode batches of them with a processor."""

import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor

from ..prompting import SpecialTokens, chat_turns, check_template_arguments, render_turns
from ..types import Prompt, Response, open_image
from ..types.prompt import begun, made_of_images
from .base import UnfitError
from .processing import FAULTS, Processing, last_tokens

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Encoder", "EncodingError", "Rendered", "ScoredText"]


@dataclass(frozen=True, slots=True)
class ScoredText:
    """The tokens at the end of a text whose log-probability is read.

    Attributes:
        tokens: the tokens.
        rest: number of further tokens of the text, which are not scored.
        ends: tokens of which any one must follow; empty = no condition.
        answer: the option's text with its end, if the processor takes answers separately; else empty.
    """

    tokens: tuple[int, ...]
    rest: int
    ends: tuple[int, ...]
    answer: str = ""

    @property
    def count(self) -> int:
        """The number of tokens over which the log-probability is summed."""
        return len(self.tokens) + bool(self.ends)

    def stands_in(self, tokens: Sequence[int]) -> bool:
        """Return whether a whole text's tokens have these at the expected position."""
        start = len(tokens) - len(self.tokens) - self.rest
        return tuple(tokens[start : start + len(self.tokens)]) == self.tokens

    @property
    def places(self) -> int:
        """The number of positions read at the end of the text."""
        return len(self.tokens) + self.rest + 1

    @property
    def used(self) -> int:
        """The number of these, from the first, whose logits are needed."""
        return self.count

    def read(self, logits: Tensor) -> list[float]:
        """Return the tokens' log-probability (nats) and the first position's log-normaliser.

        The options of a prompt share that position, so that its normaliser is the same for all of them, unless the
        model attends to later tokens.

        Args:
            logits: `(used, V)` float32, next-token logits before each of the tokens, and after the last.
        """
        normalisers = logits.logsumexp(-1)
        count = len(self.tokens)
        chosen = logits[torch.arange(count), list(self.tokens)] - normalisers[:count]
        total = chosen.double().sum()
        if self.ends:
            total = total + logits[count, list(self.ends)].logsumexp(-1) - normalisers[count]
        return [float(total), float(normalisers[0])]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt ready for a processor.

    Attributes:
        prompt: the prompt; its prefill includes an opener from the template.
        turns: the chat template's rendering and the prefill.
        images: the decoded images.
        forced: the text between the prefill and the letter, which is then read in one forward pass; None = a text is
            to be decoded.
        written: the response so far, if `forced` contains the model's own text.
        scored: the option's text to score, at the end of `forced`, or after it if the processor takes answers
            separately; None = a letter is read.
    """

    prompt: Prompt
    turns: str
    images: tuple["Image", ...]
    forced: str | None = None
    written: Response | None = None
    scored: ScoredText | None = None

    @property
    def kin(self) -> tuple[Any, ...]:
        """The key of prompts that may share a prefix: the same sample and images, or options of one prompt."""
        which = () if self.scored is None else (self.prompt.condition, self.prompt.draw)
        return (self.prompt.sample.id, *map(id, self.images), *which)

    @property
    def text(self) -> str:
        """The whole text that the model continues."""
        return self.turns + (self.forced or "")


_TOKENS_PER_IMAGE = 1024  # a guess for processors that do not report it


class EncodingError(ValueError):
    """A processor refused a text or an image, for instance an image that is too thin."""


class Encoder:
    """Renders prompts and encodes batches of them.

    Args:
        processor: a Hugging Face processor with a tokenizer and a chat template.
        arguments: for the chat template, such as `enable_thinking`.
        accepted: the inputs that the model takes; a processor that returns some of them only on request is asked to.

    Raises:
        ValueError: the processor has no tokenizer, no chat template, or a template without a place for images, or it
            replaces the rendered text.
    """

    def __init__(
        self, processor: Any, arguments: Mapping[str, Any] | None = None, accepted: Collection[str] = ()
    ) -> None:
        tokenizer = getattr(processor, "tokenizer", None)
        if tokenizer is None:
            raise ValueError(f"expected a processor with a tokenizer, got {type(processor).__name__} without one")
        self.processor = processor
        self.tokenizer = tokenizer
        self.arguments = dict(arguments or {})
        self.special = SpecialTokens.of(processor)
        check_template_arguments(processor, self.arguments)
        self._tokens = lru_cache(maxsize=4096)(self._tokens_of)
        self._tokens_of_sizes = lru_cache(maxsize=4096)(self._counted)
        with_image, without = self.turns("x"), self.turns("x", images=0)
        if with_image == without:
            raise ValueError(
                f"expected the chat template of {type(processor).__name__} to give an image a place, "
                "got the same text with and without an image"
            )
        # An image may also add a line break to the text; only its placeholders are added tokens.
        self.added_tokens = frozenset(tokenizer.get_added_vocab().values())
        self.image_tokens = self.added_tokens & (frozenset(self.tokens(with_image)) - frozenset(self.tokens(without)))
        self._marks_per_image = self.image_marks(with_image)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        # PaliGemma attends in both directions in the prompt but not in the answer: its processor ends the prompt itself
        # and takes the answer separately.
        self.takes_answers = "suffix" in inspect.signature(processor.__call__).parameters
        self._keeps_ends = not (self.takes_answers or _accepts_suffix(processor))
        probe_text = with_image + "It is red"
        self._processing = Processing.of(
            processor,
            probe_text,
            self.tokens(probe_text),
            self.image_tokens,
            accepted,
            ends_prompts=not self._keeps_ends,
        )

    def check_inputs(self, model: str) -> None:
        """Refuse a processor that omits promised inputs, such as token types: models go silently wrong without them.

        Args:
            model: the class name of the model that takes these inputs.

        Raises:
            UnfitError: an input is missing.
        """
        if missing := self._processing.missing:
            raise UnfitError(
                f"expected {type(self.processor).__name__} to return {', '.join(map(repr, missing))}, listed in its "
                f"model_input_names and accepted by {model}, got inputs without; another version of transformers or of "
                "the processor's own code may return it (self_check=False skips this check)"
            )

    def turns(self, text: str, *, images: int = 1) -> str:
        """Return a user's text and images, rendered up to the beginning of the assistant's turn."""
        return render_turns(self.processor, chat_turns(text, images), **self.arguments)[0]

    def rendered(self, prompt: Prompt) -> str:
        """Return a prompt's rendered text, without opening its images."""
        return begun(prompt, self.processor, **self.arguments)[1]

    def render(self, prompt: Prompt, opened: dict[Any, "Image"]) -> Rendered:
        """Decode a prompt's images and render its text.

        Args:
            prompt: the prompt.
            opened: cache of decoded images, which is extended.

        Raises:
            OSError: an image is missing or cannot be decoded; the message names sample and image.
            ValueError: the template drops the text.
        """
        images = made_of_images(prompt, open_image, opened)
        shown, text = begun(prompt, self.processor, **self.arguments)
        marks, expected = self.image_marks(text), self._marks_per_image * len(images)
        if marks != expected:
            raise ValueError(
                f"sample {prompt.sample.id!r}, condition {prompt.condition!r}: expected {expected} image placeholders "
                f"in the rendered text, got {marks}; a text must not contain the model's own placeholder"
            )
        return Rendered(shown, text, tuple(images))

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of a rendered text, image placeholders not yet expanded."""
        return list(self._tokens(text))

    def _tokens_of(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def image_marks(self, text: str) -> int:
        """Return the number of image tokens in a text."""
        return sum(token in self.image_tokens for token in self.tokens(text))

    def holds_control_tokens(self, text: str, allowed: Sequence[str]) -> bool:
        """Return whether generated text contains added tokens, such as the model's image placeholder.

        A processor would take placeholders for missing images.

        Args:
            text: the generated text.
            allowed: tags, which may be added tokens themselves.
        """
        permitted = {token for tag in allowed for token in self.tokens(tag)}
        return not permitted.issuperset(self.added_tokens.intersection(self.tokens(text)))

    def image_length(self, images: Sequence["Image"]) -> int:
        """Return the approximate number of tokens of a prompt's images, for planning batches."""
        counted = self._image_tokens(images)
        return _TOKENS_PER_IMAGE * len(images) if counted is None else counted

    def _image_tokens(self, images: Sequence["Image"]) -> int | None:
        """Return the number of tokens of images; None = the processor does not report it."""
        return self._tokens_of_sizes(tuple((image.height, image.width) for image in images))

    def _counted(self, sizes: tuple[tuple[int, int], ...]) -> int | None:
        """Return the processor's token count for images of some (height, width), which it computes without them."""
        count = getattr(self.processor, "_get_num_multimodal_tokens", None)
        if count is None or not sizes:
            return None if sizes else 0
        try:
            return int(sum(count(image_sizes=list(sizes))["num_image_tokens"]))
        except FAULTS:  # an image that the processor will refuse, or a count method for other images
            return None

    def length(self, item: Rendered) -> int:
        """Return the number of tokens of a prompt, with its images if the processor reports theirs."""
        text, images = self.tokens(item.text), self._image_tokens(item.images)
        if images is None:
            return len(text)
        placeholder = getattr(self.processor, "image_token_id", None)  # tokens around it, such as ends, stay
        return len(text) + images - (len(item.images) if placeholder is None else text.count(placeholder))

    def encode(
        self, texts: Sequence[str], images: Sequence[Sequence["Image"]], answers: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Return the model's inputs for a batch, padded on the left.

        The rendered text has its special tokens, so none are added. All inputs from the processor are kept, since
        several families go silently wrong without their extra inputs.

        Args:
            texts: rendered prompts.
            images: the images of each prompt; all prompts of a batch have equally many.
            answers: the text after each prompt, for a processor that takes answers separately (`takes_answers`).

        Raises:
            EncodingError: the processor refused one of the prompts.
            ValueError: the processor padded on the right nevertheless.
        """
        counts = {len(shown) for shown in images}
        assert len(counts) == 1, "prompts of a batch have equally many images"
        self.tokenizer.padding_side = "left"  # lost when a processor is saved and loaded
        name = type(self.processor).__name__
        try:
            inputs = self._processing.call(texts, images, **({"suffix": list(answers)} if any(answers) else {}))
        except FAULTS as error:
            raise EncodingError(f"{name} refused text or image: {error}") from error
        inputs.pop("labels", None)  # PaliGemma's, which would make the model compute a loss
        mask = inputs.get("attention_mask")
        if mask is None:
            raise ValueError(f"expected {name} to return an attention mask, got {', '.join(inputs)}")
        if not bool(mask[:, -1].all()):
            raise ValueError(f"expected {name} to pad on the left, got padding at the end")
        inputs = _without_last(inputs, self._processing.appended)
        if self._keeps_ends:
            self._check_ends(texts, inputs["input_ids"])
        return inputs

    def _check_ends(self, texts: Sequence[str], rows: torch.Tensor) -> None:
        """Refuse prompts whose end the processor has changed, since letters would be read at another position."""
        for text, row in zip(texts, rows.tolist(), strict=True):
            wanted = last_tokens(self.tokens(text), self.image_tokens)
            got = tuple(row[len(row) - len(wanted) :])
            if got != wanted:
                raise EncodingError(
                    f"expected {type(self.processor).__name__} to end the prompt with the text's own tokens, "
                    f"{self.tokenizer.decode(wanted)!r}, got {self.tokenizer.decode(got)!r}"
                )

    @staticmethod
    def to_device(inputs: dict[str, Any], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        """Move a batch to the model's device, floating inputs to its dtype."""
        return {
            name: value.to(device, dtype if value.is_floating_point() else value.dtype)
            if isinstance(value, torch.Tensor)
            else value
            for name, value in inputs.items()
        }


def _accepts_suffix(processor: Any) -> bool:
    """Return whether a processor of transformers 4, where text options have `suffix`, takes answers separately."""
    options = inspect.signature(processor.__call__).parameters.get("kwargs")
    kinds = get_args(getattr(options, "annotation", None))
    texts = [getattr(kind, "__annotations__", {}).get("text_kwargs") for kind in kinds]
    return any("suffix" in getattr(text_options, "__annotations__", {}) for text_options in texts)


def _without_last(inputs: dict[str, Any], count: int) -> dict[str, Any]:
    """Remove the last tokens of all rows, also from inputs with a value per token."""
    if not count:
        return inputs
    shape = inputs["input_ids"].shape
    return {
        name: value[:, :-count] if isinstance(value, torch.Tensor) and value.shape[:2] == shape else value
        for name, value in inputs.items()
    }
