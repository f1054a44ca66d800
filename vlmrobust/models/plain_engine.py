"""Run prompts, and tokens after them, through a model; read whole prompts in padded batches.

The plain path works for every architecture that Hugging Face's `generate` supports. Faster paths are compared with it.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from .base import UnfitError
from .caches import Branches, CachedPrompts, Forward, seen_positions
from .encoding import Encoder, EncodingError, Rendered
from .generation import DecodedText, Decoding
from .letter_tokens import LetterVocabulary, letter_logprobs
from .offloading import device_of
from .probe import Capture, DecodingLog, GenerationProbe, Head, captured, largest_difference, tolerance
from .processing import FAULTS

__all__ = ["ModelRunner", "PlainEngine", "PrefilledPrompts", "Reading", "T", "last_rows"]


class ModelRunner:
    """Runs prompts, and tokens after them, through a model.

    Args:
        model: a Hugging Face model.
        encoder: renders and encodes its prompts.
        head: its LM head.
        decoding: how texts are decoded.
        vocabulary: the letters' tokens.

    Attributes:
        letter_tokens: `(V,)` bool, tokens that read as an option letter.
        forward: appends tokens to caches.
    """

    def __init__(
        self, model: Any, encoder: Encoder, head: Head, decoding: Decoding, vocabulary: LetterVocabulary
    ) -> None:
        self.model = model
        self.encoder = encoder
        self.head = head
        self.decoding = decoding
        self.vocabulary = vocabulary
        self.letter_tokens = vocabulary.reads_as_letter(head.vocabulary_size()).to(device_of(model))
        self.forward = Forward(model)

    @property
    def device(self) -> torch.device:
        """The device of its inputs."""
        return device_of(self.model)

    @property
    def config(self) -> Any:
        """The language model's config."""
        return self.model.config.get_text_config()

    @property
    def tolerance(self) -> float:
        """How far log-probabilities (nats) that should be equal may differ."""
        return tolerance(self.model)

    def letters(self, rows: Tensor) -> Tensor:
        """Return the letters' log-probabilities (nats) from rows for `Head.logits`."""
        return letter_logprobs(self.head.logits(rows), self.vocabulary.families)

    def difference(self, compute: Callable[[], Tensor], expected: Tensor, message: str) -> str | None:
        """Return why computed rows for `Head.logits` are not the expected ones; None = letters differ by rounding only.

        Args:
            compute: returns the rows; if it raises, the error is the reason.
            expected: the same rows, computed in another way.
            message: the reason if letters differ, with a place for the difference (nats).
        """
        try:
            rows = compute()
        except torch.OutOfMemoryError:
            raise
        except FAULTS as error:
            return f"{type(error).__name__}: {error}"
        difference = largest_difference(self.letters(rows), self.letters(expected))
        return None if difference <= self.tolerance else message.format(difference)

    def inputs(self, items: Sequence[Rendered]) -> dict[str, Any]:
        """Return the model's inputs for a batch of prompts with equally many images."""
        answers = ["" if item.scored is None else item.scored.answer for item in items]
        encoded = self.encoder.encode([item.text for item in items], [item.images for item in items], answers)
        return self.encoder.to_device(encoded, self.device, self.model.dtype)

    def prefill(
        self, inputs: Mapping[str, Any], places: int = 1, **arguments: Any
    ) -> tuple[Tensor, Tensor, Branches | None]:
        """Run prompts through `generate`, which prepares each architecture's positions, masks and kind of cache.

        Args:
            inputs: the model's inputs.
            places: number of positions at the end of a prompt to return.
            **arguments: further arguments for `generate`.

        Returns:
            The LM head's inputs `(B, places, D)`, the logits `(B, places, V)`, and the cache; None = `generate` returns
            no cache to continue from.
        """
        with (
            captured(self.model, self.head) as seen,
            seen_positions(self.model) as positions,
            self.decoding.prefilling() as config,
        ):
            output = self.model.generate(**inputs, **arguments, generation_config=config)
        return *seen.last(places), self.forward.branches(output, inputs, positions)

    def append(
        self,
        branches: Branches,
        tokens: Tensor,
        mask: Tensor | None = None,
        *,
        places: int = 1,
        wanted: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Append `(B, L)` tokens to branches; return the LM head's inputs `(B, places, D)` and the logits.

        Args:
            branches: the branches to extend.
            tokens: the tokens to append.
            mask: 1 where there is a token; None = everywhere.
            places: number of positions to return.
            wanted: `(B, places)`, these positions; None = the last.
        """
        with captured(self.model, self.head, wanted) as seen:
            self.forward(branches, tokens, torch.ones_like(tokens) if mask is None else mask)
        return seen.last(places)


T = TypeVar("T")
# Makes results by position from prompts, their `(R, places, …)` rows for `Head.logits`, and their cache.
Reading = Callable[[Mapping[int, Rendered], Tensor, CachedPrompts | None], dict[int, T]]


def last_rows(items: Mapping[int, Rendered], rows: Tensor, reached: CachedPrompts | None) -> dict[int, Tensor]:
    """Return the `(1, …)` row for `Head.logits` of each prompt's last position."""
    return dict(zip(items, rows[:, -1:].unbind(), strict=True))


@dataclass(frozen=True, slots=True)
class PrefilledPrompts:
    """Prefilled prompts whose texts are to be decoded.

    Attributes:
        items: by position, the prompts, in the order of their rows.
        branches: their cache, one row each.
        hidden: `(B, 1, D)`, the LM head's last input.
        logits: `(B, 1, V)`, the model's last logits.
    """

    items: Mapping[int, Rendered]
    branches: Branches
    hidden: Tensor
    logits: Tensor


class PlainEngine:
    """Reads and decodes padded batches.

    Args:
        runner: runs the model.

    Attributes:
        tokens: number of prompt tokens computed so far, without padding.
    """

    def __init__(self, runner: ModelRunner) -> None:
        self.tokens = 0
        self._runner = runner
        self._checked = (0, 0)  # length of a prompt, pixels of an image
        self._keeps_logits = "logits_to_keep" in inspect.signature(runner.model.forward).parameters

    def read(self, items: Mapping[int, Rendered], places: int, reading: Reading[T], *, looks: bool) -> dict[int, T]:
        """Read the letters, or the texts, of prompts.

        Args:
            items: prompts with equally many images, by position.
            places: number of positions read at the end of a prompt.
            reading: makes the result.
            looks: whether to keep a cache for looking ahead.
        """
        runner = self._runner
        inputs = self._inputs(list(items.values()))
        keep = self._keep(places)
        branches = None
        if looks and all(item.scored is None for item in items.values()):
            hidden, logits, branches = runner.prefill(inputs, places, **keep)
        else:
            for item, tokens in zip(items.values(), inputs["input_ids"].tolist(), strict=True):
                if item.scored is not None and not item.scored.stands_in(tokens):
                    raise EncodingError(
                        "expected the text to end with the option's own tokens; the processor adds others"
                    )
            with captured(runner.model, runner.head) as seen:
                runner.model(**inputs, **keep, use_cache=False, return_dict=True)
            hidden, logits = seen.last(places)
        runner.head.check(hidden[:, -1], logits[:, -1])
        reached = None
        if branches is not None:
            reached = CachedPrompts(branches, torch.arange(len(items), device=branches.mask.device), kept=False)
        return reading(items, runner.head.rows_at_once(hidden, logits), reached)

    def begin(self, items: Mapping[int, Rendered]) -> PrefilledPrompts | None:
        """Prefill prompts; None = `generate` returns no cache to continue from.

        Args:
            items: prompts with equally many images, by position.
        """
        hidden, logits, branches = self._runner.prefill(self._inputs(list(items.values())))
        if branches is None:
            return None
        self._runner.head.check(hidden[:, -1], logits[:, -1])
        return PrefilledPrompts(items, branches, hidden, logits)

    def write(self, items: Sequence[Rendered], *, looks: bool) -> tuple[list[DecodedText], Branches | None]:
        """Decode texts with the model's own `generate`.

        Args:
            items: prompts with equally many images.
            looks: whether to keep a cache for looking ahead.

        Returns:
            The texts, and the cache of prompts and texts without their last column; None = no cache, or one of a kind
            that the options name: a static one is full, and an offloaded one is elsewhere.

        Raises:
            UnfitError: with the cache that the options name, the letters are not those of a pass without a cache.
        """
        runner, inputs = self._runner, self._inputs(items)
        inputs["input_ids"] = self._without_pad_tokens(inputs)
        self._check_cache(items, inputs)
        with captured(runner.model, runner.head) as seen, seen_positions(runner.model) as positions:
            probe = GenerationProbe(runner.head, seen, runner.letter_tokens, [DecodingLog() for _ in items])
            output, written = runner.decoding.generate(inputs, [item.prompt for item in items], probe)
        branched = looks and runner.decoding.config.cache_implementation is None
        return written, runner.forward.branches(output, inputs, positions) if branched else None

    def _without_pad_tokens(self, inputs: Mapping[str, Any]) -> Tensor:
        """Return the tokens with each row's first of text in place of its padding, which penalties would count."""
        tokens: Tensor = inputs["input_ids"]
        mask = inputs["attention_mask"].bool()
        is_image = torch.isin(tokens, tokens.new_tensor(sorted(self._runner.encoder.image_tokens)))
        first = (mask & ~is_image).int().argmax(1, keepdim=True)
        return tokens.where(mask, tokens.gather(1, first))

    def _check_cache(self, items: Sequence[Rendered], inputs: Mapping[str, Any]) -> None:
        """Compare the first step under the options' cache with a pass without one; longer prompts and images anew."""
        runner, length = self._runner, inputs["input_ids"].shape[1]
        config = runner.decoding.config
        if (kind := config.cache_implementation) is None:
            return
        largest = max((image.width * image.height for item in items for image in item.images), default=0)
        if length <= self._checked[0] and largest <= self._checked[1]:
            return
        named = {"cache_implementation": kind, "cache_config": config.cache_config, "disable_compile": True}
        with captured(runner.model, runner.head) as seen:
            with runner.decoding.prefilling(**named) as prefilling:
                runner.model.generate(**inputs, generation_config=prefilling)
            first = self._last_rows(seen)
            runner.model(**inputs, **self._keep(1), use_cache=False, return_dict=True)
            without = self._last_rows(seen)
        if difference := runner.difference(lambda: first, without, "letter log-probabilities that differ by {:.2g}"):
            raise UnfitError(
                f"field 'generation', option 'cache_implementation': expected {type(runner.model).__name__} to give "
                f"the same results with a {kind} cache as without a cache, got {difference} at a prompt of {length} "
                "tokens; leave the option out"
            )
        self._checked = max(length, self._checked[0]), max(largest, self._checked[1])

    def _last_rows(self, seen: Capture) -> Tensor:
        return self._runner.head.rows_at_once(*(tensor[:, -1] for tensor in seen.last(1)))

    def _keep(self, places: int) -> dict[str, int]:
        return {"logits_to_keep": places} if self._keeps_logits else {}

    def _inputs(self, items: Sequence[Rendered]) -> dict[str, Any]:
        inputs = self._runner.inputs(items)
        self.tokens += int(inputs["attention_mask"].sum())
        return inputs
