"""Run models on vLLM in this process: vision-language models, and letters after texts for judges."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

from ... import styles
from ...naming import check_dtype
from ...prompting import SpecialTokens, thought_note
from ...types import Prompt, Response, Style
from ..base import UnfitError, results_of
from ..encoding import Encoder, EncodingError
from ..identity import WeightFiles, config_settings, processor_settings, template_digest, tokenizer_digest
from ..letter_tokens import ForcedPrefix, LetterVocabulary
from ..loading import SHARED, check_name, has_processor, named
from .answering import Answering, Sampling, letter_positions, letters_at, logprobs_after
from .engine import Flow, Request, VLLMEngine
from .starting import (
    Adapter,
    ErrorLog,
    check_installed,
    check_options,
    decisive_options,
    dtype_of,
    start_engine,
    weights_of,
)

__all__ = ["VLLMModel", "VLLMText"]

logger = logging.getLogger(__name__)

LetterQuery = tuple[Sequence[int], ForcedPrefix, Sequence[int]]
"""A text's tokens, their end with which a letter may merge, and the rows of the letters to read."""


class VLLMText:
    """A language model, or the language part of a vision-language model, on vLLM in this process.

    Args:
        engine: the engine, which a `VLLMModel` may share; kept alive.
        tokenizer: the checkpoint's.
        size: the size of the engine's vocabulary.
        weights: the checkpoint's weight files.
        settings: other settings that determine its letters, by name.

    Attributes:
        tokenizer: the checkpoint's.
    """

    def __init__(
        self, engine: VLLMEngine, tokenizer: Any, *, size: int, weights: WeightFiles, settings: Mapping[str, Any]
    ) -> None:
        self.tokenizer = tokenizer
        self._engine, self._size, self._weights, self._settings = engine, size, weights, dict(settings)

    @classmethod
    def from_pretrained(cls, name: str, *, dtype: str = "auto", **engine: Any) -> Self:
        """Start an engine.

        Args:
            name: the checkpoint's name or folder.
            dtype: a torch dtype's name; "auto" = the checkpoint's own.
            **engine: other options of vLLM's `LLM`.

        Raises:
            ImportError, FileNotFoundError, ValueError, UnfitError: as for `VLLMModel`.
        """
        check_installed()
        check_options(engine)
        check_name(name)
        from transformers import AutoConfig, AutoTokenizer

        shared = {key: engine[key] for key in SHARED if key in engine}
        config = AutoConfig.from_pretrained(name, **shared)
        tokenizer = AutoTokenizer.from_pretrained(name, **shared)
        failures = ErrorLog(engine)
        llm = start_engine(name, {"dtype": dtype_of(dtype, config), **engine}, None, failures)
        model, scheduler = llm.llm_engine.model_config, llm.llm_engine.vllm_config.scheduler_config
        own = {"name": name, "dtype": str(model.dtype).removeprefix("torch.")}
        return cls(
            VLLMEngine(llm, None, failures, int(scheduler.max_num_seqs)),
            tokenizer,
            size=int(model.get_vocab_size()),
            weights=WeightFiles(weights_of(name, shared)),
            settings=own | ({"engine_options": options} if (options := decisive_options(engine)) else {}),
        )

    def identity(self) -> dict[str, Any]:
        """Return what determines the letters: checkpoint, a digest of its weights, dtype, tokenizer, settings."""
        return self._settings | {
            "engine": "vllm",
            "weights": self._weights.few(),
            "tokenizer": tokenizer_digest(self.tokenizer),
            "chat_template": template_digest(self.tokenizer),
        }

    def letters(self, asked: Sequence[LetterQuery]) -> list[list[float] | EncodingError]:
        """Return the log-probabilities (nats) of all letters and digits after texts, or vLLM's refusal of one.

        Letters that are not requested are -inf. All texts enter the engine's queue at once, along with other work.

        Raises:
            RefusedError: the engine died, or was closed.
        """
        return results_of(self._engine.submit(partial(self._flow, *query)) for query in asked)

    def close(self) -> None:
        """Shut the engine down; also happens when it is garbage-collected."""
        self._engine.close()

    def _flow(
        self, tokens: Sequence[int], prefix: ForcedPrefix, rows: Sequence[int]
    ) -> Flow[list[float] | EncodingError]:
        positions = letter_positions(tokens, prefix.tokens, prefix.capitals, rows, self._size)
        try:
            steps = yield from logprobs_after(lambda tokens, sampling: Request(tokens, (), (), sampling), positions)
        except EncodingError as error:
            return error
        return letters_at(steps, prefix.tokens, prefix.capitals, rows)


class VLLMModel:
    """A vision-language model on vLLM in this process; the engine handles batches, caches and GPUs.

    Needs `pip install vlmrobust[vllm]`. Prompts are rendered as in `HFModel`, texts decoded with the same settings, and
    letters read exactly, over the whole vocabulary; in float32 both give the same results. Images are passed with a
    hash of their content, so that each is encoded once, and common prefixes of prompts are computed once. Token entropy
    is not available. The page on engines lists the other differences.

    A run keeps the engine busy across samples (`ask`) and writes each response at once. A prompt that vLLM refuses,
    such as one that is too long, becomes a row with status `error`, and the run continues. If the engine dies, the run
    ends; repeating the call resumes it with a new engine.

    Args:
        model: a checkpoint's name or folder, or the folder of a LoRA adapter, which is loaded with its base.
        generation: as in `HFModel`: `max_new_tokens` (default 512), `min_new_tokens`, `do_sample`, `temperature`,
            `top_p`, `top_k`, `min_p`, `repetition_penalty`, `stop_strings`, `eos_token_id`; `seed` keys the seeds of
            texts by sample, condition and draw.
        dtype: a torch dtype's name; "auto" = the checkpoint's own.
        adapter: folder of a LoRA adapter for `model`.
        processor: options for the processor, such as `max_pixels`.
        template: arguments for the chat template, such as `{"enable_thinking": False}`.
        force_answer: if a thought reaches the token limit, close it and read the letters (or texts) there.
        concurrency: simultaneous prompts; None = the engine's `max_num_seqs`.
        **engine: other options of vLLM's `LLM`, such as `tensor_parallel_size`, `max_model_len`,
            `gpu_memory_utilization`, `quantization`, `revision`, `trust_remote_code`, `enforce_eager`.

    Raises:
        ImportError: vLLM is not installed; the message says what to install.
        FileNotFoundError: `model` can only be a path, and the folder does not exist.
        ValueError: an option is unknown or set elsewhere, or `dtype` is not a dtype's name.
        UnfitError: vLLM does not support the model or adapter, or has too little memory.

    Example:
        >>> import vlmrobust as vr
        >>> model = vr.VLLMModel("Qwen/Qwen2.5-VL-7B-Instruct", tensor_parallel_size=2)  # doctest: +SKIP
        >>> report = vr.Evaluator(model, vr.paper_conditions()).run(samples, out="runs/qwen")  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str,
        generation: Mapping[str, Any] | None = None,
        *,
        dtype: str = "auto",
        adapter: str | None = None,
        processor: Mapping[str, Any] | None = None,
        template: Mapping[str, Any] | None = None,
        force_answer: bool = False,
        concurrency: int | None = None,
        **engine: Any,
    ) -> None:
        if concurrency is not None and concurrency < 1:
            raise ValueError(f"field 'concurrency': expected at least 1, got {concurrency}")
        check_installed()
        check_options(engine)
        check_dtype(dtype)
        check_name(model)
        from transformers import AutoConfig, AutoProcessor

        shared = {name: engine[name] for name in SHARED if name in engine}
        found = Adapter.load(model if adapter is None else adapter, shared)
        if adapter is not None and found is None:
            raise UnfitError(f"field 'adapter': expected the folder of a LoRA adapter, got {adapter!r}")
        self.model = found.base if found is not None and adapter is None else model
        with named(self.model):
            config = AutoConfig.from_pretrained(self.model, **shared)
        self._config = config_settings(config)
        if found is not None:
            found.check(self.model, config, tower=bool(engine.get("enable_tower_connector_lora")))
        own = found is not None and has_processor(found.name)
        source = found.name if found is not None and own else self.model
        self.processor: Any = AutoProcessor.from_pretrained(source, **shared, **processor or {})
        self.force_answer = force_answer
        self._adapter = found
        self._encoder = Encoder(self.processor, template)
        if self._encoder.takes_answers:
            raise UnfitError(
                f"expected a processor that leaves the end of a prompt unchanged, got {type(self.processor).__name__}, "
                "which takes answers separately; use HFModel"
            )
        self._sampling = Sampling(generation or {}, _generation_config(self.model, config, shared), self._tokenizer)
        self._user_options = {"processor": dict(processor or {}), "engine": dict(engine)}
        failures = ErrorLog(engine)
        options = {"dtype": dtype_of(dtype, config), **engine}
        if processor:
            options["mm_processor_kwargs"] = dict(processor)
        llm = start_engine(self.model, options, found, failures)
        engine_config = llm.llm_engine.vllm_config
        places = int(engine_config.scheduler_config.max_num_seqs)
        self.concurrency = places if concurrency is None else concurrency
        self._dtype = str(llm.llm_engine.model_config.dtype).removeprefix("torch.")
        self._size = int(llm.llm_engine.model_config.get_vocab_size())
        self._answering = Answering(
            self._encoder,
            LetterVocabulary(self._tokenizer),
            self._sampling,
            size=self._size,
            force_answer=force_answer,
        )
        self._engine = VLLMEngine(llm, None if found is None else found.request(), failures, self.concurrency)
        self._weights = WeightFiles([*weights_of(self.model, shared), *([] if found is None else [found.file])])
        self._hint = styles.hint(self.model)
        self._noted_tags: set[tuple[str, str]] = set()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model if self._adapter is None else self._adapter.name!r})"

    @property
    def _tokenizer(self) -> Any:
        return self._encoder.tokenizer

    def rendered(self, prompt: Prompt) -> str:
        """Return the rendered prompt with its special tokens; an image is one placeholder."""
        return self._encoder.rendered(prompt)

    @property
    def special_tokens(self) -> SpecialTokens:
        """The tokenizer's special tokens; made inert in prompts."""
        return self._encoder.special

    @cached_property
    def text_only(self) -> VLLMText:
        """The same model on the same engine for text prompts, for judges (`LMJudge.of`)."""
        settings = {
            "name": self.model,
            "dtype": self._dtype,
            "adapter": None if self._adapter is None else dict(self._adapter.settings),
            "engine_options": decisive_options(self._user_options["engine"]),
        }
        return VLLMText(
            self._engine,
            self._tokenizer,
            size=self._size,
            weights=self._weights,
            settings={name: value for name, value in settings.items() if value},
        )

    def identity(self, beside: Path | None = None) -> dict[str, Any]:
        """Return what determines the responses: checkpoint, weights, adapter, dtype, processor, tokenizer, settings.

        Args:
            beside: run directory in which to cache the digest of all weights while their files' sizes and times are
                unchanged; hashing many gigabytes takes a while.
        """
        identity = {
            "class": f"{type(self).__module__}.{type(self).__qualname__}",
            "name": self.model,
            "all_weights": self._weights.digest(beside),
            "config": self._config,
            "processor": processor_settings(self.processor),
            "processor_options": self._user_options["processor"],
            "tokenizer": tokenizer_digest(self._tokenizer),
            "chat_template": template_digest(self.processor),
            "dtype": self._dtype,
            "generation": {"do_sample": False} | self._sampling.options,
            "force_answer": self.force_answer,
        }
        optional = {
            "adapter": None if self._adapter is None else dict(self._adapter.settings),
            "template": self._encoder.arguments,
            "engine": decisive_options(self._user_options["engine"]),
        }
        return identity | {name: value for name, value in optional.items() if value}

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Answer prompts, as many at a time as the engine allows; see `Model.respond`.

        Raises:
            RefusedError: the engine died.
        """
        return results_of(map(self.ask, prompts))

    def ask(self, prompt: Prompt) -> Future[Response]:
        """Queue a prompt; see `ConcurrentModel.ask`."""
        self._log_hints(prompt.style)
        return self._engine.submit(partial(self._flow, prompt))

    def _flow(self, prompt: Prompt) -> Flow[Response]:
        return self._answering.flow(prompt)  # a bound method, so that a queued job keeps the model and engine alive

    def close(self) -> None:
        """Shut the engine down and free its memory; also happens when the model is garbage-collected."""
        self._engine.close()

    def _log_hints(self, style: Style) -> None:
        """Log once that another style fits the checkpoint, or how it thinks."""
        if self._hint and style == styles.default:
            logger.warning(self._hint)
        self._hint = None
        if style.mode == "think" and style.think_tags not in self._noted_tags:
            self._noted_tags.add(style.think_tags)
            if note := thought_note(self.processor, self._encoder.turns("x"), style.think_tags):
                logger.warning(note)


def _generation_config(name: str, config: Any, shared: Mapping[str, Any]) -> Any:
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(name, **shared)
    except OSError:  # the checkpoint has none
        return GenerationConfig.from_model_config(config)
