"""Any Hugging Face image-text-to-text model."""

import hashlib
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar

import torch

from ..prompting import LETTERS
from ..types import Prompt, Response
from ..types.response import parse_turn
from .encoding import Encoder, EncodingError, Readable, Rendered
from .generation import Decoding, Written
from .plain import PlainEngine
from .probe import Head
from .vocabulary import LetterVocabulary, forced_letter_logprobs, letter_logprobs

__all__ = ["HFModel"]

logger = logging.getLogger(__name__)

Item = TypeVar("Item", Rendered, Readable)


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
        batch_size: how many prompts are processed together; halved when memory runs out.

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
        batch_size: int = 16,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"expected a batch size of at least 1, got {batch_size}")
        self.model = model
        self.processor = processor
        self.force_answer = force_answer
        self._batch_size = batch_size
        self._encoder = Encoder(processor)
        self._vocabulary = LetterVocabulary(self._encoder.tokenizer)
        self._head = Head(model)
        self._decoding = Decoding(model, self._encoder.tokenizer, generation or {})
        letter_tokens = self._vocabulary.reads_as_letter(self._head.vocabulary_size()).to(model.device)
        self._engine = PlainEngine(model, self._encoder, self._head, self._decoding, letter_tokens)

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
        batch_size: int = 16,
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
            **model_kwargs: for `AutoModelForImageTextToText.from_pretrained`, such as `attn_implementation`,
                `device_map`, `revision`, `trust_remote_code` (which goes to the processor as well).
        """
        from transformers import AutoModelForImageTextToText, AutoProcessor

        shared = {key: model_kwargs[key] for key in ("trust_remote_code", "revision", "token") if key in model_kwargs}
        loaded_processor = AutoProcessor.from_pretrained(name, **shared, **(processor or {}))
        model: Any = AutoModelForImageTextToText.from_pretrained(name, dtype=dtype, **model_kwargs)
        if "device_map" not in model_kwargs:
            model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return cls(model.eval(), loaded_processor, generation, force_answer=force_answer, batch_size=batch_size)

    def identity(self) -> dict[str, Any]:
        """Return what decides the answers: checkpoint, a digest of its weights, dtype, generation settings."""
        digest = hashlib.sha256()
        for name, parameter in self.model.named_parameters():
            values = parameter.detach().flatten()
            few = values[:: max(1, values.numel() // 8)][:8]
            digest.update(f"{name}:{tuple(parameter.shape)}:{few.float().tolist()}".encode())
        return {
            "class": f"{type(self).__module__}.{type(self).__qualname__}",
            "name": str(self.model.config._name_or_path),
            "architecture": type(self.model).__name__,
            "weights": digest.hexdigest()[:16],
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "generation": {"do_sample": False} | self._decoding.options,
            "force_answer": self.force_answer,
        }

    @torch.inference_mode()
    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Answer prompts, in batches across samples and conditions; see `Model.respond`."""
        answered: dict[int, Response] = {}
        to_read: dict[int, Readable] = {}
        to_write: dict[int, Rendered] = {}
        opened: dict[Any, Any] = {}
        for position, prompt in enumerate(prompts):
            try:
                rendered = self._encoder.render(prompt, opened)
            except (OSError, ValueError) as error:
                answered[position] = Response.failed(prompt, error)
                continue
            completion = _forced_completion(rendered.prompt)
            if completion is None:
                to_write[position] = rendered
            else:
                to_read[position] = Readable(rendered, completion)
        answered |= self._in_batches(to_write, self._write)
        if self.force_answer:
            to_read |= {
                position: Readable(rendered, _closing(rendered.prompt, answered[position].text), answered[position])
                for position, rendered in to_write.items()
                if answered[position].status == "truncated" and rendered.prompt.style.answer_by == "letter"
            }
        answered |= self._in_batches(to_read, self._read)
        return [answered[position] for position in range(len(prompts))]

    def _in_batches(
        self, items: Mapping[int, Item], answer: Callable[[Sequence[Item]], list[Response]]
    ) -> dict[int, Response]:
        """Answer items in batches of equal image counts and similar lengths; halve a batch that does not fit."""
        by_images: dict[int, list[int]] = defaultdict(list)
        for position in sorted(items, key=lambda position: -len(items[position].text)):
            by_images[len(items[position].images)].append(position)
        answered: dict[int, Response] = {}
        for positions in by_images.values():
            start = 0
            while start < len(positions):
                batch = positions[start : start + self._batch_size]
                try:
                    responses = answer([items[position] for position in batch])
                except EncodingError as error:
                    responses = self._one_by_one(batch, items, answer, error)
                except (torch.OutOfMemoryError, RuntimeError) as error:
                    if len(batch) == 1 or not _is_out_of_memory(error):
                        raise
                    self._halve_batches(len(batch))
                    continue
                answered |= zip(batch, responses, strict=True)
                start += len(batch)
        return answered

    def _one_by_one(
        self,
        batch: Sequence[int],
        items: Mapping[int, Item],
        answer: Callable[[Sequence[Item]], list[Response]],
        error: EncodingError,
    ) -> list[Response]:
        """Answer the items of a refused batch each by itself, so that the one at fault fails alone."""
        if len(batch) > 1:
            alone = [self._in_batches({position: items[position]}, answer) for position in batch]
            return [responses[position] for position, responses in zip(batch, alone, strict=True)]
        prompt = items[batch[0]].prompt
        return [Response.failed(prompt, f"sample {prompt.sample.id!r}, condition {prompt.condition!r}: {error}")]

    def _halve_batches(self, size: int) -> None:
        self._batch_size = size // 2
        logger.warning("out of memory with %d prompts in a batch; going on with %d", size, self._batch_size)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _read(self, batch: Sequence[Readable]) -> list[Response]:
        """Read the letters in one forward pass."""
        prefixes = [self._vocabulary.forced_prefix(item.text) for item in batch]
        places = 1 + max(len(prefix.tokens) for prefix in prefixes)
        responses = []
        for item, prefix, row in zip(batch, prefixes, self._engine.read(batch, places), strict=True):
            logits = self._head.logits(row[places - 1 - len(prefix.tokens) :])
            responses.append(self._read_response(item, forced_letter_logprobs(logits[None], prefix)[0].tolist()))
        return responses

    def _read_response(self, item: Readable, letters: list[float]) -> Response:
        prompt = item.prompt
        shown = letters[: len(prompt.options)]
        if any(math.isnan(value) for value in shown):
            return Response.failed(prompt, _not_finite(prompt, "letter log-probabilities"))
        letter = LETTERS[max(range(len(shown)), key=shown.__getitem__)]
        written = item.written
        return Response.parse(
            prompt,
            item.completion + letter,
            finish_reason="readout" if written is None else written.finish_reason,
            option_logprobs=shown,
            readout="direct" if prompt.style.mode == "direct" else "fixed_prefix",
            token_entropy=None if written is None else written.token_entropy,
            n_tokens=0 if written is None else written.n_tokens,
        )

    def _write(self, batch: Sequence[Rendered]) -> list[Response]:
        """Generate, and read letters and entropies on the way."""
        written = self._engine.write(batch)
        texts = [self._decode(tokens) for tokens in written.tokens]
        letters = self._letters_written([item.prompt for item in batch], texts, written)
        responses = []
        for row, item in enumerate(batch):
            entropy, shown = written.entropies[row], letters.get(row)
            if math.isnan(entropy) or any(map(math.isnan, shown or ())):
                responses.append(Response.failed(item.prompt, _not_finite(item.prompt, "logits")))
                continue
            responses.append(
                Response.parse(
                    item.prompt,
                    texts[row],
                    finish_reason="stop" if written.stopped[row] else "length",
                    option_logprobs=shown,
                    token_entropy=max(entropy, 0.0),
                    n_tokens=written.counts[row],
                )
            )
        return responses

    def _letters_written(
        self, prompts: Sequence[Prompt], texts: Sequence[str], written: Written
    ) -> dict[int, list[float]]:
        """Return the shown letters' log-probabilities where each answer's letter was written, by row of the batch."""
        wanted = {}
        for row, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
            letter = parse_turn(prompt, text).letter
            if letter is not None and (place := letter[0] - len(prompt.prefill)) >= 0:
                wanted[row] = self._step_of(written.tokens[row], place)
        rows, kept = written.probe.letter_rows(wanted)
        if kept is None:
            return {}
        parts = (self._head.logits(part) for part in kept.split(self._head.row_chunk()))
        values = torch.cat([letter_logprobs(logits, self._vocabulary.families) for logits in parts]).tolist()
        return {row: value[: len(prompts[row].options)] for row, value in zip(rows, values, strict=True)}

    def _step_of(self, tokens: Sequence[int], place: int) -> int:
        """Return the step whose token holds character `place` of the text."""
        low, high = 0, len(tokens) - 1
        while low < high:
            middle = (low + high) // 2
            if len(self._decode(tokens[: middle + 1])) > place:
                high = middle
            else:
                low = middle + 1
        return low

    def _decode(self, tokens: Sequence[int]) -> str:
        # Tags may be special tokens of the vocabulary; skipping those would cut the thought's tags out of the text.
        text = self._encoder.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(text)


def _forced_completion(prompt: Prompt) -> str | None:
    """Return what stands between the prefill and the letter where nothing is left to think, else None."""
    style = prompt.style
    if style.answer_by != "letter":
        return None
    think_open, think_close = style.think_tags
    if style.mode == "direct":
        # A template that opens the thought by itself: close it, as the template does when thinking is switched off.
        return f"\n{think_close}\n\n" if prompt.prefill.rstrip().endswith(think_open) else ""
    _, closed, after = prompt.prefill.rpartition(think_close)
    if not closed or after.strip():
        return None
    return style.answer_tags[0]


def _closing(prompt: Prompt, text: str) -> str:
    """Return a cut-off text closed, up to the letter."""
    opener = prompt.style.answer_tags[0]
    return text + (prompt.style.think_tags[1] + opener if parse_turn(prompt, text).open_thought else opener)


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _not_finite(prompt: Prompt, what: str) -> str:
    return f"sample {prompt.sample.id!r}, condition {prompt.condition!r}: expected finite {what}, got NaN"
