"""Check a model with a few short prompts before the first, and whether its texts depend on others of their batch.

`SelfCheck` raises errors that would affect every row. In this order: the model's `generate` accepts the processor's
inputs; logits come from its LM head; it generates the likeliest token of the logits that are read; `generate` and a
plain forward pass agree, for one prompt and for a batch; and another image makes a difference.

`texts_changed_by_batch` is about half precision. A matrix product of eight rows is rounded differently from one of a
single row: in float32 the difference is negligible; in bfloat16 and float16 two almost equally likely tokens may change
places, after which the texts differ.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..types import Prompt, Sample, Style
from .base import UnfitError
from .caches import allows_gaps, unknown
from .encoding import EncodingError, Rendered
from .generation import SAMPLING_OPTIONS, DecodedText
from .plain_engine import ModelRunner, PlainEngine, last_rows
from .probe import captured, largest_difference
from .processing import FAULTS, probe_image

__all__ = ["SelfCheck", "texts_changed_by_batch"]

logger = logging.getLogger(__name__)

_QUESTION = "Which colour is the cube?"
_MORE = "Look at it, and at what stands beside it, before you answer. "
_OPTIONS = ("red", "blue", "green", "yellow")
# Options implemented here or checked earlier; they are not passed to `generate`, or cannot fail in it.
_READ_HERE = frozenset({"max_new_tokens", "min_new_tokens", *SAMPLING_OPTIONS})
_COMPARED_TEXTS = 16
_ROUNDING = 1e-2  # relative to a row's largest value; a larger difference is not rounding at any precision


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """Tests a model on a few prompts.

    Attributes:
        runner: runs the model.
        plain: reads batches of prompts.
    """

    runner: ModelRunner
    plain: PlainEngine

    def run(self) -> str | None:
        """Return why prompts must go through the model one by one; None = batches agree with single prompts.

        Raises:
            UnfitError: the model cannot answer, or would be read wrongly; the message says which part of model or
                processor is at fault, and what to do.
        """
        # Attention that skips tokens may do so in blocks of 128, which padding shifts.
        length = 0 if allows_gaps(self.runner.config, 256) else 10
        short = _MORE * length + _QUESTION
        # A square image with one that is not: in a batch with padded images, one of the two is changed.
        long = self._item(_MORE * (length or 2) + short, (140, 56))
        item, other = self._item(short, (56, 56)), self._item(short, (56, 56), turned=True)
        batch = [long, item, other]
        first = [self._try_run(self._forward, [long]), self._try_run(self._generated, [item])]
        last, size = int(self.runner.vocabulary.either.tokens.max()), self.runner.head.vocabulary_size()
        if last >= size:
            raise self._refused(
                f"return logits of all letters' tokens, of which {last} is the last",
                f"{size} logits",
                f"model and {type(self.runner.encoder.tokenizer).__name__} belong to two checkpoints, or the "
                "vocabulary grew without `resize_token_embeddings`",
            )
        alone = self.runner.letters(torch.cat(first))
        rows, reason = None, None
        for run in (self._generated, self._forward):
            try:
                rows = run(batch)
            except (torch.OutOfMemoryError, UnfitError):
                raise
            except FAULTS as error:
                reason = f"a batch with images of several sizes raises {type(error).__name__}: {error}"
                break
            difference = largest_difference(self.runner.letters(rows[:2]), alone)
            if difference > self.runner.tolerance:
                reason = f"letter log-probabilities of a prompt in a batch and alone differ by {difference:.2g}"
                break
        if reason is not None or rows is None:
            rows = torch.cat([self._try_run(self._forward, [one]) for one in batch])
            difference = largest_difference(self.runner.letters(rows[:2]), alone)
            if difference > self.runner.tolerance:
                raise self._refused(
                    "give the same results in a forward pass and in `generate`",
                    f"letter log-probabilities that differ by {difference:.2g}",
                    "the model prepares its inputs in two ways, one of which is wrong; try another version of "
                    "transformers, or another attn_implementation",
                )
        self._try_options(item)
        if not rows.isfinite().all():
            logger.warning(
                "%s: expected finite logits, got NaN or infinity in %s; rows without finite letters become errors "
                "(float16 overflows where bfloat16 does not)",
                type(self.runner.model).__name__,
                str(self.runner.model.dtype).removeprefix("torch."),
            )
        elif self._is_blind(rows[1], rows[2], item, other):
            raise self._refused(
                "answer differently for another image",
                "the same logits to the last bit",
                f"the images from {type(self.runner.encoder.processor).__name__} have no effect; check for a processor "
                "of another family, or image encoder weights that were not loaded",
            )
        return reason

    def _is_blind(self, row: Tensor, another: Tensor, item: Rendered, other: Rendered) -> bool:
        """Return whether two images give the same logits to the last bit; rows of a batch may differ by rounding."""
        if (row - another).abs().max() > _ROUNDING * row.abs().max():
            return False
        return torch.equal(*(self._try_run(self._generated, [one]) for one in (item, other)))

    def _item(self, question: str, size: tuple[int, int], *, turned: bool = False) -> Rendered:
        image = probe_image(*size, turned=turned)
        sample = Sample(id="self-check", images=[image], question=question, options=_OPTIONS, answer=0)
        prompt = Prompt.of(sample, style=Style(mode="direct"))
        return replace(self.runner.encoder.render(prompt, {}), forced="")

    def _try_run(self, run: Callable[[Sequence[Rendered]], Tensor], items: Sequence[Rendered]) -> Tensor:
        """Run prompts, and refuse a model that raises."""
        try:
            return run(items)
        except (torch.OutOfMemoryError, UnfitError):
            raise
        except FAULTS as error:
            raise self._unanswered(error) from error

    def _generated(self, items: Sequence[Rendered]) -> Tensor:
        """Return the rows for `Head.logits` of the first step of `generate`, which must choose the likeliest token."""
        inputs = self.runner.inputs(items)
        with captured(self.runner.model, self.runner.head) as seen, self.runner.decoding.prefilling() as config:
            output = self.runner.model.generate(**inputs, generation_config=config)
        hidden, logits = (tensor[:, -1] for tensor in seen.last(1))
        for likely, new in zip(logits.float(), output.sequences[:, inputs["input_ids"].shape[1] :], strict=True):
            if likely.isfinite().all() and not (len(new) == 1 and bool(likely[new[0]] == likely.max())):
                decode = self.runner.encoder.tokenizer.decode
                raise self._refused(
                    "generate the likeliest token of its logits",
                    f"{decode(new)!r} instead of {decode([int(likely.argmax())])!r}",
                    "it does not decode token by token, so that letters and entropies cannot be read",
                )
        self.runner.head.check(hidden, logits)
        return self.runner.head.rows_at_once(hidden, logits)

    def _try_options(self, item: Rendered) -> None:
        """Refuse options with which `generate` raises, or does not sample; without them it has just answered."""
        options = {
            name: value
            for name, value in self.runner.decoding.options.items()
            if name not in _READ_HERE and value is not None
        }
        if not options:
            return
        inputs = self.runner.inputs([item])
        if not options.get("use_cache", True):
            branches = self.runner.prefill(inputs)[2]
            if branches is not None and (kind := unknown(branches.cache)):
                raise UnfitError(
                    f"field 'generation', option 'use_cache': expected True for {type(self.runner.model).__name__}, "
                    f"whose cache has a layer of its own ({kind}) that may decide what tokens attend to, got False"
                )
        extra = {"tokenizer": self.runner.encoder.tokenizer} if "stop_strings" in options else {}
        processed: list[Tensor] = []

        def note(_: Tensor, scores: Tensor) -> Tensor:
            processed.append(scores)
            return scores

        decoding = self.runner.decoding
        try:
            with decoding.in_force(max_new_tokens=2, min_new_tokens=None, disable_compile=True) as config:
                self.runner.model.generate(**inputs, generation_config=config, logits_processor=[note], **extra)
        except torch.OutOfMemoryError:
            raise
        except FAULTS as error:
            raise UnfitError(
                f"field 'generation': expected options that {type(self.runner.model).__name__} decodes with, got "
                f"{type(error).__name__} with {options}: {error}"
            ) from error
        if decoding.options.get("do_sample") and not (processed or decoding.is_token_by_token):
            raise self._refused(
                "sample",
                "a `generate` that ignores logits processors",
                f"decode greedily, or without {', '.join(decoding.left_to_generate)}",
            )

    def _forward(self, items: Sequence[Rendered]) -> Tensor:
        rows = self.plain.read(dict(enumerate(items)), 1, last_rows, looks=False)
        return torch.cat(list(rows.values()))

    def _unanswered(self, error: Exception) -> UnfitError:
        at = type(self.runner.encoder.processor if isinstance(error, EncodingError) else self.runner.model).__name__
        advice = "model and processor may belong to two checkpoints, or need another version of transformers"
        if not isinstance(error, EncodingError) and not _has_standard_generate(self.runner.model):
            advice = "its `generate` is not transformers' own and does not decode token by token"
        return self._refused("answer one prompt with an image", f"{type(error).__name__} from {at}: {error}", advice)

    def _refused(self, expected: str, got: str, advice: str) -> UnfitError:
        name = type(self.runner.model).__name__
        return UnfitError(f"expected {name} to {expected}, got {got}; {advice} (self_check=False skips this check)")


def _has_standard_generate(model: Any) -> bool:
    from transformers import GenerationMixin

    return getattr(type(model), "generate", None) is GenerationMixin.generate


def texts_changed_by_batch(
    runner: ModelRunner, batch: Sequence[tuple[Rendered, DecodedText]]
) -> tuple[int, int] | None:
    """Return how many texts of a batch would differ if decoded alone, and out of how many; None = no cache.

    Each prompt runs through the model alone, followed by its text in one pass: at every position the likeliest token
    must be the text's.

    Args:
        runner: runs the model.
        batch: the prompts, and their greedily decoded texts.
    """
    changed = 0
    rows = batch[:_COMPARED_TEXTS]
    for item, written in rows:
        tokens = written.tokens
        likeliest = _likeliest_tokens(runner, item, tokens)
        if likeliest is None:
            return None
        ends = likeliest[len(tokens) :]
        agrees = likeliest[: len(tokens)] == tokens
        changed += not (agrees and (not written.stopped or ends[0] in runner.decoding.stop_tokens))
    return changed, len(rows)


def _likeliest_tokens(runner: ModelRunner, item: Rendered, tokens: Sequence[int]) -> list[int] | None:
    """Return the likeliest token after a prompt, and after each token of the text that follows it."""
    _, logits, branches = runner.prefill(runner.inputs([item]))
    first = int(logits[0, -1].argmax())
    if not tokens:
        return [first]
    if branches is None:
        return None
    _, logits = runner.append(branches, torch.tensor([list(tokens)], device=runner.device), places=len(tokens))
    following: list[int] = logits[0].argmax(-1).tolist()
    return [first, *following]
