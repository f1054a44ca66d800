"""Any Hugging Face image-text-to-text model."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import torch

from ..types import Prompt, Response
from .encoding import Encoder, EncodingError, Rendered
from .generation import Decoding
from .plain import PlainEngine
from .planning import Batch, plan
from .prefix import Family, SharedEngine, bears_gaps, families
from .probe import Head
from .reading import TextReader, closed, forced_text, read_response
from .vocabulary import LetterVocabulary, forced_letter_logprobs, letter_logprobs

__all__ = ["HFModel"]

logger = logging.getLogger(__name__)


class HFModel:
    """A Hugging Face image-text-to-text model: text, letter log-probabilities and token entropy in one pass.

    The checkpoint's own generation settings are put aside: decoding is greedy, without penalties, unless `generation`
    says otherwise. (Qwen2.5-VL ships a repetition penalty, which acts under greedy decoding too and rescales letters.)

    Prompts whose thought is complete (`stop_think`, or `mode="direct"`) take one forward pass and no decoding: the
    letters are read after the answer's opening tag, and the likeliest shown letter is the answer.

    Args:
        model: a loaded model with an LM head, for instance from `AutoModelForImageTextToText`.
        processor: its processor.
        generation: options for `generate`, such as `max_new_tokens` (default 512), `do_sample`, `temperature`, `top_p`;
            `seed` keys the sampling noise by sample, condition and draw.
        force_answer: where a thought runs into the token limit, close it and read the letters there.
        batch_size: how many prompts are processed together at most; None = as many as `batch_tokens` allows.
        batch_tokens: how many tokens are processed together, prompts and new ones, padding included; halved when memory
            runs out.
        share_prefixes: compute what the prompts of a sample have in common once; checked against the plain path on the
            first batch, and given up where the two differ.

    Raises:
        ValueError: the processor has no chat template, or its template no place for an image.

    Example:
        >>> import vlmrobust as vr
        >>> model = vr.demo.model()
        >>> [response] = model.respond(vr.expand(vr.demo.samples(1), [], seed=0))
        >>> response.status, len(response.option_logprobs)
        ('answered', 4)
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        generation: Mapping[str, Any] | None = None,
        *,
        force_answer: bool = False,
        batch_size: int | None = None,
        batch_tokens: int = 32_768,
        share_prefixes: bool = True,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"expected a batch size of at least 1, got {batch_size}")
        if batch_tokens < 1:
            raise ValueError(f"expected 'batch_tokens' of at least 1, got {batch_tokens}")
        self.model = model
        self.processor = processor
        self.force_answer = force_answer
        self._batch_size = batch_size
        self._batch_tokens = batch_tokens
        self._shares = None if share_prefixes else False
        self._encoder = Encoder(processor)
        self._vocabulary = LetterVocabulary(self._encoder.tokenizer)
        self._head = Head(model)
        self._decoding = Decoding(model, self._encoder.tokenizer, generation or {})
        self._texts = TextReader(self._encoder.tokenizer, self._vocabulary, self._head)
        letter_tokens = self._vocabulary.reads_as_letter(self._head.vocabulary_size()).to(model.device)
        self._plain = PlainEngine(model, self._encoder, self._head, self._decoding, letter_tokens)
        self._shared = SharedEngine(model, self._encoder, self._head, self._decoding, letter_tokens)

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        dtype: str | torch.dtype = "auto",
        device: str | torch.device | None = None,
        generation: Mapping[str, Any] | None = None,
        processor: Mapping[str, Any] | None = None,
        force_answer: bool = False,
        batch_size: int | None = None,
        batch_tokens: int = 32_768,
        share_prefixes: bool = True,
        **model_kwargs: Any,
    ) -> Self:
        """Load a checkpoint from the hub or from a folder.

        Args:
            name: the checkpoint's name or path.
            dtype: a torch dtype or its name; "auto" = the checkpoint's own.
            device: None = CUDA where there is one, else the CPU; leave it out when `device_map` is given.
            generation: see the class.
            processor: options for the processor, such as `max_pixels`.
            force_answer: see the class.
            batch_size: see the class.
            batch_tokens: see the class.
            share_prefixes: see the class.
            **model_kwargs: for `AutoModelForImageTextToText.from_pretrained`, such as `attn_implementation`,
                `device_map`, `revision`, `trust_remote_code` (which goes to the processor as well).
        """
        from transformers import AutoModelForImageTextToText, AutoProcessor

        shared = {key: model_kwargs[key] for key in ("trust_remote_code", "revision", "token") if key in model_kwargs}
        loaded_processor = AutoProcessor.from_pretrained(name, **shared, **(processor or {}))
        model: Any = AutoModelForImageTextToText.from_pretrained(name, dtype=dtype, **model_kwargs)
        if "device_map" not in model_kwargs:
            model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return cls(
            model.eval(),
            loaded_processor,
            generation,
            force_answer=force_answer,
            batch_size=batch_size,
            batch_tokens=batch_tokens,
            share_prefixes=share_prefixes,
        )

    def identity(self) -> dict[str, Any]:
        """Return what decides the answers: checkpoint, a digest of its weights, dtype, generation settings."""
        return {
            "class": f"{type(self).__module__}.{type(self).__qualname__}",
            "name": str(self.model.config._name_or_path),
            "architecture": type(self.model).__name__,
            "weights": _weights_digest(self.model),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "generation": {"do_sample": False} | self._decoding.options,
            "force_answer": self.force_answer,
        }

    @torch.inference_mode()
    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Answer prompts, in batches across samples and conditions; see `Model.respond`."""
        answered: dict[int, Response] = {}
        items: dict[int, Rendered] = {}
        opened: dict[Any, Any] = {}
        for position, prompt in enumerate(prompts):
            try:
                rendered = self._encoder.render(prompt, opened)
            except (OSError, ValueError) as error:
                answered[position] = Response.failed(prompt, error)
                continue
            items[position] = replace(rendered, forced=forced_text(rendered.prompt))
        answered |= self._in_batches(items)
        if self.force_answer:
            cut = {
                position: replace(item, forced=closed(item.prompt, response.text), written=response)
                for position, item in items.items()
                if item.forced is None and self._can_close(item.prompt, response := answered[position])
            }
            answered |= self._in_batches(cut)
        return [answered[position] for position in range(len(prompts))]

    def _can_close(self, prompt: Prompt, response: Response) -> bool:
        cut = response.status == "truncated" and prompt.style.answer_by == "letter"
        return cut and not self._encoder.holds_control_tokens(response.text, prompt.style.think_tags)

    def _in_batches(self, items: Mapping[int, Rendered]) -> dict[int, Response]:
        """Answer items in batches of as many tokens as are allowed; halve these when memory runs out."""
        answered: dict[int, Response] = {}
        batches = self._plan(items)
        while batches:
            batch = batches.pop(0)
            try:
                responses = self._answer(batch.families)
            except EncodingError as error:
                if batch.rows > 1:  # so that the one at fault fails alone
                    batches[:0] = batch.singly()
                    continue
                prompt = batch.families[0].items[0].prompt
                where = f"sample {prompt.sample.id!r}, condition {prompt.condition!r}"
                responses = [Response.failed(prompt, f"{where}: {error}")]
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if batch.rows == 1 or not _is_out_of_memory(error):
                    raise
                self._batch_tokens = batch.tokens // 2
                logger.warning(
                    "out of memory with %d prompts in a batch; going on with %d tokens in one, not %d",
                    batch.rows,
                    self._batch_tokens,
                    batch.tokens,
                )
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                batches = self._plan({place: item for place, item in items.items() if place not in answered})
                continue
            positions = [position for family in batch.families for position in family.positions]
            answered |= zip(positions, responses, strict=True)
        return answered

    def _plan(self, items: Mapping[int, Rendered]) -> list[Batch]:
        """Group prompts into families, and families into batches."""
        tokens = {position: self._encoder.tokens(item.text) for position, item in items.items()}
        reads = [self._vocabulary.forced_prefix(item.text) for item in items.values() if item.forced is not None]

        def length(family: Family) -> int:
            new = 0 if all(item.forced is not None for item in family.items) else self._decoding.config.max_new_tokens
            images = self._encoder.image_length(family.items[0].images)
            return family.prefix + max(map(len, family.suffixes)) + images + new

        alone = families(items, tokens, shares=False)
        if self._shares is False or not self._decoding.is_plain_greedy or not self._encoder.image_tokens:
            return plan(alone, length, max_tokens=self._batch_tokens, max_rows=self._batch_size)
        longest = max(map(length, alone), default=0)
        gaps = len(reads) == len(items) or bears_gaps(self.model.config.get_text_config(), longest)
        places = 1 + max((len(prefix.tokens) for prefix in reads), default=0)
        shared = families(items, tokens, image_tokens=self._encoder.image_tokens, places=places, gaps=gaps)
        return plan(shared, length, max_tokens=self._batch_tokens, max_rows=self._batch_size, gaps=gaps)

    def _may_share(self, family: Family) -> bool:
        """Return whether a family's prefix is computed once; the first family decides for the model."""
        if not family.prefix:
            return False
        if self._shares is None:
            reason = self._shared.refusal(
                self._plain, family, lambda rows: letter_logprobs(self._head.logits(rows), self._vocabulary.families)
            )
            self._shares = reason is None
            if reason is not None:
                logger.warning("%s takes the plain path: %s", type(self.model).__name__, reason)
        return self._shares

    def _answer(self, batch: Sequence[Family]) -> list[Response]:
        """Answer a batch, in its order."""
        items = [item for family in batch for item in family.items]
        reads = [item for item in items if item.forced is not None]
        prefixes = [self._vocabulary.forced_prefix(item.text) for item in reads]
        places = 1 + max((len(prefix.tokens) for prefix in prefixes), default=0)
        if self._may_share(batch[0]):
            rows, written = self._shared.answer(batch, places)
        else:
            rows, written = self._plain.answer(items, places)
        read, wrote = [], []
        if rows is not None:
            for item, prefix, row in zip(reads, prefixes, rows, strict=True):
                logits = self._head.logits(row[places - 1 - len(prefix.tokens) :])
                read.append(read_response(item, forced_letter_logprobs(logits[None], prefix)[0].tolist()))
        if written is not None:
            wrote = self._texts.responses([item.prompt for item in items if item.forced is None], written)
        merged = (iter(wrote), iter(read))
        return [next(merged[item.forced is not None]) for item in items]


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _weights_digest(model: Any) -> str:
    """Return a digest of a few values of every parameter: checkpoints of one training differ, at hardly any cost."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        values = parameter.detach().flatten()
        few = values[:: max(1, values.numel() // 8)][:8]
        digest.update(f"{name}:{tuple(parameter.shape)}:{few.float().tolist()}".encode())
    return digest.hexdigest()[:16]
