"""Run Hugging Face image-text-to-text models."""

import inspect
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import torch

from .. import styles
from ..prompting import SpecialTokens, thought_note
from ..types import Prompt, Response, Style
from .base import WorkCounts
from .encoding import Encoder, Rendered
from .engine import BatchEngine
from .generation import Decoding
from .identity import (
    Weights,
    adapters,
    config_settings,
    processor_settings,
    template_digest,
    tokenizer_digest,
    weights_digest,
    weights_files,
)
from .letter_tokens import LetterVocabulary
from .loading import check_decoder_only, context_of, evaluating, load, running_model
from .option_texts import Frame, OptionReader, forced_frame, own_frame
from .plain_engine import ModelRunner
from .probe import Head, autocast_dtype
from .response_building import closed, forced_text, read_response

__all__ = ["HFModel"]

logger = logging.getLogger(__name__)

_FEW_PARAMETERS = 100_000_000  # a few hundred tokens through them take two CPU cores about a second


class HFModel:
    """A Hugging Face image-text-to-text model: text, letter log-probabilities and token entropy in one pass.

    The checkpoint's own generation settings are ignored: decoding is greedy, without penalties, unless `generation`
    sets otherwise. (Qwen2.5-VL ships a repetition penalty, which acts under greedy decoding too and rescales letters.)

    Prompts with a complete thought (`stop_think`, or `mode="direct"`) take one forward pass and no decoding: the
    letters are read after the answer's opening tag, and the likeliest of the prompt's letters is the answer.

    If a style answers with text (`answer_by="text"`), there are no letters; the options' texts are scored instead, by
    teacher forcing, all options of a prompt in one pass over the cache of prompt and thought. After the model's own
    thought this takes one more prefill of prompt and thought.

    Args:
        model: a loaded model with an LM head, for instance from `AutoModelForImageTextToText`, or a PEFT model of one.
            It is evaluated in eval mode; its own mode is restored afterwards.
        processor: its processor.
        generation: options for `generate`, such as `max_new_tokens` (default 512), `do_sample`, `temperature`, `top_p`;
            `seed` keys the sampling noise by sample, condition and draw.
        template: arguments for the chat template, such as `{"enable_thinking": False}`.
        force_answer: if a thought reaches the token limit, close it and read the letters (or texts) there.
        batch_size: maximum number of prompts per batch; None = as many as `batch_tokens` allows.
        batch_tokens: maximum number of tokens per batch: prompts and new tokens, padding included; halved when memory
            runs out.
        share_prefixes: compute the common prefix of a sample's prompts once; compared with the plain path on the first
            batch, and switched off if the results differ.
        self_check: test the model with a few short prompts, so that errors that would affect every row are raised
            first: at once, or before the first response if the test takes longer than about a second (a large model on
            a CPU).

    Raises:
        ValueError: the processor has no chat template, the template no place for an image, or an option is unknown.
        UnfitError: the model cannot be evaluated, or would be read wrongly; the message has the reason.

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
        template: Mapping[str, Any] | None = None,
        force_answer: bool = False,
        batch_size: int | None = None,
        batch_tokens: int = 32_768,
        share_prefixes: bool = True,
        self_check: bool = True,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"expected a batch size of at least 1, got {batch_size}")
        if batch_tokens < 1:
            raise ValueError(f"expected 'batch_tokens' of at least 1, got {batch_tokens}")
        self.model = model
        self.processor = processor
        self.force_answer = force_answer
        self._running = running_model(model)
        accepted = inspect.signature(self._running.forward).parameters
        self._encoder = Encoder(processor, template, accepted)
        check_decoder_only(self._running)
        if self_check:
            self._encoder.check_inputs(type(self._running).__name__)
        self._decoding = Decoding(self._running, self._encoder.tokenizer, generation or {})
        head, vocabulary = Head(self._running), LetterVocabulary(self._encoder.tokenizer)
        runner = ModelRunner(self._running, self._encoder, head, self._decoding, vocabulary)
        self._engine = BatchEngine(
            runner, batch_size=batch_size, batch_tokens=batch_tokens, share_prefixes=share_prefixes
        )
        self._options = OptionReader(self._engine, sorted(self._decoding.stop_tokens))
        self._context = context_of(self._running)
        self._weights = Weights(self._running)
        self._processor_options: Mapping[str, Any] = {}
        self._hint = styles.hint(str(model.config._name_or_path))
        self._noted: set[tuple[str, str]] = set()
        self._unchecked = self_check
        if _is_fast(self._running):
            self._check()

    def _check(self) -> None:
        if self._unchecked:
            with torch.inference_mode(), evaluating(self._running):
                self._engine.check()
        self._unchecked = False

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        dtype: str | torch.dtype = "auto",
        device: str | torch.device | None = None,
        generation: Mapping[str, Any] | None = None,
        processor: Mapping[str, Any] | None = None,
        template: Mapping[str, Any] | None = None,
        force_answer: bool = False,
        batch_size: int | None = None,
        batch_tokens: int = 32_768,
        share_prefixes: bool = True,
        self_check: bool = True,
        **model_kwargs: Any,
    ) -> Self:
        """Load a checkpoint from the hub or from a folder.

        The folder of a PEFT adapter is loaded with its base model, whose processor is used if the adapter has none.

        Args:
            name: the checkpoint's name or path.
            dtype: a torch dtype or its name; "auto" = the checkpoint's own.
            device: None = CUDA if available (under torchrun or accelerate, the GPU of the local rank), else the CPU;
                ignored if `device_map` is given.
            generation: see the class.
            processor: options for the processor, such as `max_pixels`.
            template: see the class.
            force_answer: see the class.
            batch_size: see the class.
            batch_tokens: see the class.
            share_prefixes: see the class.
            self_check: see the class.
            **model_kwargs: for `AutoModelForImageTextToText.from_pretrained` (or `AutoModelForMultimodalLM`, if only
                that supports the checkpoint), such as `attn_implementation`, `device_map`, `revision`,
                `trust_remote_code` (also passed to the processor).

        Raises:
            FileNotFoundError: `name` can only be a path, and the folder does not exist.
            ValueError: `dtype` is not a dtype's name.
            UnfitError: see the class.
        """
        model, loaded_processor = load(
            name,
            dtype=dtype,
            device=None if "device_map" in model_kwargs else device or _own_device(),
            processor=processor or {},
            model=model_kwargs,
        )
        hf_model = cls(
            model,
            loaded_processor,
            generation,
            template=template,
            force_answer=force_answer,
            batch_size=batch_size,
            batch_tokens=batch_tokens,
            share_prefixes=share_prefixes,
            self_check=self_check,
        )
        hf_model._weights = Weights(hf_model._running, weights_files(name))
        hf_model._processor_options = dict(processor or {})
        return hf_model

    def identity(self, beside: Path | None = None) -> dict[str, Any]:
        """Return what determines the responses: checkpoint, weights, adapters, dtype, processor, tokenizer, settings.

        Args:
            beside: run directory in which to cache the digest of all weights while their files' sizes and times are
                unchanged; hashing many gigabytes takes a while.
        """
        few, autocast = weights_digest(self._running), autocast_dtype(self._running)
        identity = {
            "class": f"{type(self).__module__}.{type(self).__qualname__}",
            "name": str(self.model.config._name_or_path),
            "architecture": type(self._running).__name__,
            "weights": few,
            "all_weights": self._weights.digest(few, beside),
            "config": config_settings(self._running.config),
            "stop_tokens": sorted(self._decoding.stop_tokens),
            "processor": processor_settings(self.processor),
            "processor_options": self._processor_options,
            "tokenizer": tokenizer_digest(self._encoder.tokenizer),
            "chat_template": template_digest(self.processor),
            "dtype": _name(self._running.dtype),
            "generation": {"do_sample": False} | self._decoding.options,
            "force_answer": self.force_answer,
        }
        optional = {
            "adapters": adapters(self._running),
            "template": self._encoder.arguments,
            "autocast": autocast and _name(autocast),
        }
        return identity | {name: value for name, value in optional.items() if value}

    def expect(self, prompts: int, style: Style) -> None:
        """Reset the counts of `work`."""
        self._engine.work = WorkCounts()

    def work(self) -> dict[str, float]:
        """Return the tokens computed and saved since `expect`, as counts and as shares.

        Example:
            >>> import vlmrobust as vr
            >>> model = vr.demo.model()
            >>> responses = model.respond(vr.expand(vr.demo.samples(2), vr.paper_conditions(), seed=0))
            >>> 0 < model.work()["shared_share"] < 1  # share of the prompts' tokens computed for another prompt
            True
        """
        return asdict(self._engine.work) | self._engine.work.shares()

    @property
    def special_tokens(self) -> SpecialTokens:
        """The tokenizer's special tokens; made inert in prompts."""
        return self._encoder.special

    def rendered(self, prompt: Prompt) -> str:
        """Return the rendered prompt with its special tokens; an image is one placeholder."""
        return self._encoder.rendered(prompt)

    @torch.inference_mode()
    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Answer prompts, in batches across samples and conditions; see `Model.respond`."""
        self._check()
        if self._hint and prompts and prompts[0].style == styles.default:
            logger.warning(self._hint)
            self._hint = None
        thinking = next((prompt.style for prompt in prompts if prompt.style.mode == "think"), None)
        if thinking is not None and thinking.think_tags not in self._noted:
            self._noted.add(thinking.think_tags)
            if note := thought_note(self.processor, self._encoder.turns("x"), thinking.think_tags):
                logger.warning(note)
        with evaluating(self._running):
            return self._responses(prompts)

    def _responses(self, prompts: Sequence[Prompt]) -> list[Response]:
        answered: dict[int, Response] = {}
        items: dict[int, Rendered] = {}
        opened: dict[Any, Any] = {}
        for position, prompt in enumerate(prompts):
            try:
                rendered = self._encoder.render(prompt, opened)
            except (OSError, ValueError) as error:
                answered[position] = Response.failed(prompt, error)
                continue
            item = replace(rendered, forced=forced_text(rendered.prompt))
            if (problem := self._too_long(item)) is not None:
                answered[position] = Response.failed(prompt, problem)
                continue
            items[position] = item
        answered |= self._answer(items)
        if self.force_answer:
            cut = {
                position: replace(item, forced=closed(item.prompt, response.text), written=response)
                for position, item in items.items()
                if item.forced is None and self._can_close(item.prompt, response := answered[position])
            }
            answered |= self._answer(cut)
        return [answered[position] for position in range(len(prompts))]

    def _too_long(self, item: Rendered) -> str | None:
        """Return the error if a prompt, or its first new token, does not fit the context."""
        length = self._encoder.length(item)
        if self._context is None or length + (item.forced is None) <= self._context:
            return None
        return (
            f"sample {item.prompt.sample.id!r}, condition {item.prompt.condition!r}: expected a prompt that fits the "
            f"model's context of {self._context} tokens, got one of {length}, its images included"
        )

    def _can_close(self, prompt: Prompt, response: Response) -> bool:
        return response.status == "truncated" and self._is_text(prompt, response.text)

    def _is_text(self, prompt: Prompt, written: str) -> bool:
        """Return whether generated text can be put into a prompt: its only control tokens are tags."""
        tags = (*prompt.style.think_tags, *(prompt.style.answer_tags or ()))
        return not self._encoder.holds_control_tokens(written, tags)

    def _answer(self, items: Mapping[int, Rendered]) -> dict[int, Response]:
        """Answer prompts: read letters and decode texts, then score the options' texts of text answers."""
        framed: dict[int, tuple[Rendered, Frame]] = {}
        for position, item in items.items():
            if item.forced is not None and item.prompt.style.answer_by == "text":
                framed[position] = item, forced_frame(item)
        answered: dict[int, Response] = {}
        for position, outcome in self._engine.run({p: item for p, item in items.items() if p not in framed}).items():
            item = items[position]
            response = outcome if isinstance(outcome, Response) else read_response(item, outcome)
            answered[position] = response
            frame = own_frame(item.prompt, response) if item.forced is None else None
            if frame is not None and self._is_text(item.prompt, frame.before):
                framed[position] = replace(item, written=response), frame
        return answered | self._options.responses(framed)


def _is_fast(model: Any) -> bool:
    """Return whether a model answers a few short prompts in about a second."""
    device = str(model.device.type)
    if device == "cpu":
        return sum(int(parameter.numel()) for parameter in model.parameters()) < _FEW_PARAMETERS
    return device != "meta"  # whose weights are loaded later


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _own_device() -> str:
    if not torch.cuda.is_available():
        return "cpu"
    # If a launcher shows this rank only its own GPU, that is the first.
    return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"
