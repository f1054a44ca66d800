"""Any Hugging Face image-text-to-text model."""

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
from .base import Work
from .encoding import Encoder
from .engine import Engine
from .generation import Decoding
from .identity import (
    Weights,
    config_settings,
    processor_settings,
    template_digest,
    tokenizer_digest,
    weights_digest,
    weights_files,
)
from .loading import load
from .option_texts import Frame, OptionReader, forced_frame, own_frame
from .probe import Head
from .reading import closed, forced_text, read_response
from .rendered import Rendered
from .unwrapping import adapters, autocast_name, check_decoder_only, context_of, evaluating, running_model
from .vocabulary import LetterVocabulary

__all__ = ["HFModel"]

logger = logging.getLogger(__name__)

_FEW_PARAMETERS = 100_000_000  # a few hundred tokens through them take two CPU cores about a second


class HFModel:
    """A Hugging Face image-text-to-text model: text, letter log-probabilities and token entropy in one pass.

    The checkpoint's own generation settings are put aside: decoding is greedy, without penalties, unless `generation`
    says otherwise. (Qwen2.5-VL ships a repetition penalty, which acts under greedy decoding too and rescales letters.)

    Prompts whose thought is complete (`stop_think`, or `mode="direct"`) take one forward pass and no decoding: the
    letters are read after the answer's opening tag, and the likeliest shown letter is the answer.

    Where a style answers by text (`answer_by="text"`) there are no letters; the options' texts are scored instead, by
    teacher forcing, all of a prompt's in one pass over the cache of prompt and thought. After a thought of the model's
    own this takes one more prefill of prompt and thought.

    Args:
        model: a loaded model with an LM head, for instance from `AutoModelForImageTextToText`; or a PEFT model of
            one. It is evaluated in eval mode, and left in the mode that it was in.
        processor: its processor.
        generation: options for `generate`, such as `max_new_tokens` (default 512), `do_sample`, `temperature`, `top_p`;
            `seed` keys the sampling noise by sample, condition and draw.
        template: arguments for the chat template, such as `{"enable_thinking": False}`.
        force_answer: where a thought runs into the token limit, close it and read the letters (or texts) there.
        batch_size: how many prompts are processed together at most; None = as many as `batch_tokens` allows.
        batch_tokens: how many tokens are processed together, prompts and new ones, padding included; halved when memory
            runs out.
        share_prefixes: compute what the prompts of a sample have in common once; checked against the plain path on the
            first batch, and given up where the two differ.
        self_check: ask the model a few short prompts, so that what every row would run into is said before the first:
            now, or where that would take longer than about a second (a large model on a CPU), before the first answer.

    Raises:
        ValueError: the processor has no chat template, or its template no place for an image, or an option is unknown.
        UnfitError: the model cannot be evaluated, or would be read wrongly; the message says why.

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
        self._engine = Engine(
            self._running,
            self._encoder,
            Head(self._running),
            self._decoding,
            LetterVocabulary(self._encoder.tokenizer),
            batch_size=batch_size,
            batch_tokens=batch_tokens,
            share_prefixes=share_prefixes,
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

        A folder of a PEFT adapter is loaded with the model that it was made for, whose processor is taken where the
        adapter has none of its own.

        Args:
            name: the checkpoint's name or path.
            dtype: a torch dtype or its name; "auto" = the checkpoint's own.
            device: None = CUDA where there is one (under torchrun or accelerate, that of the local rank), else the CPU;
                leave it out when `device_map` is given.
            generation: see the class.
            processor: options for the processor, such as `max_pixels`.
            template: see the class.
            force_answer: see the class.
            batch_size: see the class.
            batch_tokens: see the class.
            share_prefixes: see the class.
            self_check: see the class.
            **model_kwargs: for `AutoModelForImageTextToText.from_pretrained` (or `AutoModelForMultimodalLM`, where
                only that knows the checkpoint), such as `attn_implementation`, `device_map`, `revision`,
                `trust_remote_code` (which goes to the processor as well).

        Raises:
            FileNotFoundError: `name` can only be a path, and there is no such folder.
            ValueError: `dtype` is the name of none.
            UnfitError: see the class.
        """
        model, loaded_processor = load(
            name,
            dtype=dtype,
            device=None if "device_map" in model_kwargs else device or _own_device(),
            processor=processor or {},
            model=model_kwargs,
        )
        made = cls(
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
        made._weights = Weights(made._running, weights_files(name))
        made._processor_options = dict(processor or {})
        return made

    def identity(self, beside: Path | None = None) -> dict[str, Any]:
        """Return what decides the answers: checkpoint, weights, adapters, dtype, processor, tokenizer, settings.

        Args:
            beside: a run directory, in which a digest of all weights is kept as long as their files, by size and time,
                are the same: of many gigabytes it takes a while.
        """
        few = weights_digest(self._running)
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
            "dtype": str(self._running.dtype).removeprefix("torch."),
            "generation": {"do_sample": False} | self._decoding.options,
            "force_answer": self.force_answer,
        }
        sometimes = {
            "adapters": adapters(self._running),
            "template": self._encoder.arguments,
            "autocast": autocast_name(self._running),
        }
        return identity | {name: value for name, value in sometimes.items() if value}

    def expect(self, prompts: int, style: Style) -> None:
        """Begin to count anew what is computed and what is not, see `work`."""
        self._engine.work = Work()

    def work(self) -> dict[str, float]:
        """Return what answering took since `expect`, and what it did not take, as counts and as shares.

        Example:
            >>> import vlmrobust as vr
            >>> model = vr.demo.model()
            >>> responses = model.respond(vr.expand(vr.demo.samples(2), vr.paper_conditions(), seed=0))
            >>> 0 < model.work()["shared_share"] < 1  # of the prompts' tokens, so many were computed for another one
            True
        """
        return asdict(self._engine.work) | self._engine.work.shares()

    @property
    def special_tokens(self) -> SpecialTokens:
        """The tokenizer's special tokens, which are made inert in what a prompt shows."""
        return self._encoder.special

    def rendered(self, prompt: Prompt) -> str:
        """Return the text that the model goes on from, with its special tokens; an image is one placeholder."""
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
        """Return what is wrong with a prompt that the model cannot look at as a whole, or not go on from."""
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
        """Return whether what the model wrote can be put into a prompt: tags are the only control tokens in it."""
        tags = (*prompt.style.think_tags, *(prompt.style.answer_tags or ()))
        return not self._encoder.holds_control_tokens(written, tags)

    def _answer(self, items: Mapping[int, Rendered]) -> dict[int, Response]:
        """Answer prompts: read letters and decode texts, then score options' texts where these are the answers."""
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
    """Return whether a few short prompts take a model about a second."""
    device = str(model.device.type)
    if device == "cpu":
        return sum(int(parameter.numel()) for parameter in model.parameters()) < _FEW_PARAMETERS
    return device != "meta"  # from where it will be filled later


def _own_device() -> str:
    if not torch.cuda.is_available():
        return "cpu"
    # Where a launcher has shown this rank no other GPU than its own, that is the first.
    return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"
