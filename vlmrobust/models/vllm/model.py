"""`VLLMModel`: vLLM in this process."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ... import styles
from ...devices import check_dtype
from ...prompting import SpecialTokens, thought_note
from ...types import Prompt, Response, Style
from ..base import UnfitError
from ..encoding import Encoder
from ..identity import (
    WeightFiles,
    config_settings,
    processor_settings,
    template_digest,
    tokenizer_digest,
)
from ..loading import SHARED, check_name, has_processor, named
from ..vocabulary import LetterVocabulary
from .answering import Answering, Sampling
from .engine import Flow, VLLMEngine
from .starting import Adapter, Failures, check_installed, check_options, deciding, dtype_of, start, weights_of
from .text import VLLMText

__all__ = ["VLLMModel"]

logger = logging.getLogger(__name__)


class VLLMModel:
    """A vision-language model on vLLM in this process: batches, caches and cards are the engine's affair.

    Needs `pip install vlmrobust[vllm]`. Prompts are rendered as `HFModel` renders them, texts are decoded by the same
    settings, and letters are read exactly, over the whole vocabulary; in float32 both say the same. Images go with a
    hash of their content, so that each is encoded once, and what prompts have in common is computed once. Token entropy
    is not known and left out. See the page on engines for what else differs.

    A run keeps the engine full across samples (`ask`), and what is answered is on disk at once. A prompt that vLLM
    refuses, such as one that is too long, makes a row of status `error`, and the others go on. Where the engine dies,
    the run ends, and the same call goes on with a new one.

    Args:
        model: a checkpoint's name or folder; or the folder of a LoRA adapter, which is loaded with its base.
        generation: as in `HFModel`: `max_new_tokens` (default 512), `min_new_tokens`, `do_sample`, `temperature`,
            `top_p`, `top_k`, `min_p`, `repetition_penalty`, `stop_strings`, `eos_token_id`; `seed` keys the seeds of
            texts by sample, condition and draw.
        dtype: a torch dtype's name; "auto" = the checkpoint's own.
        adapter: a LoRA adapter for `model`, in a folder.
        processor: options for the processor, such as `max_pixels`.
        template: arguments for the chat template, such as `{"enable_thinking": False}`.
        force_answer: where a thought runs into the token limit, close it and read the letters (or texts) there.
        concurrency: how many prompts are answered at a time; None = as many as the engine takes (`max_num_seqs`).
        **engine: whatever else vLLM's `LLM` takes, such as `tensor_parallel_size`, `max_model_len`,
            `gpu_memory_utilization`, `quantization`, `revision`, `trust_remote_code`, `enforce_eager`.

    Raises:
        ImportError: vLLM is not installed; the message says what to install.
        FileNotFoundError: `model` can only be a path, and there is no such folder.
        ValueError: an option is unknown, or set elsewhere, or `dtype` is the name of none.
        UnfitError: vLLM does not know the model, has too little memory for it, or cannot take the adapter.

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
        found = Adapter.found(model if adapter is None else adapter, shared)
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
                f"expected a processor that leaves the end of a prompt as it is, got {type(self.processor).__name__}, "
                "which takes answers apart; HFModel takes it"
            )
        self._sampling = Sampling(generation or {}, _generation_config(self.model, config, shared), self._tokenizer)
        self._given = {"processor": dict(processor or {}), "engine": dict(engine)}
        failures = Failures(engine)
        options = {"dtype": dtype_of(dtype, config), **engine}
        if processor:
            options["mm_processor_kwargs"] = dict(processor)
        llm = start(self.model, options, found, failures)
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
        self._noted: set[tuple[str, str]] = set()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model if self._adapter is None else self._adapter.name!r})"

    @property
    def _tokenizer(self) -> Any:
        return self._encoder.tokenizer

    def rendered(self, prompt: Prompt) -> str:
        """Return the text that the model goes on from, with its special tokens; an image is one placeholder."""
        return self._encoder.rendered(prompt)

    @property
    def special_tokens(self) -> SpecialTokens:
        """The tokenizer's special tokens, which are made inert in what a prompt shows."""
        return self._encoder.special

    @cached_property
    def text_only(self) -> VLLMText:
        """The same model on the same engine, asked in text alone, as a judge asks (`LMJudge.of`)."""
        settings = {
            "name": self.model,
            "dtype": self._dtype,
            "adapter": None if self._adapter is None else dict(self._adapter.settings),
            "engine_options": deciding(self._given["engine"]),
        }
        return VLLMText(
            self._engine,
            self._tokenizer,
            size=self._size,
            weights=self._weights,
            settings={name: value for name, value in settings.items() if value},
        )

    def identity(self, beside: Path | None = None) -> dict[str, Any]:
        """Return what decides the answers: checkpoint, weights, adapter, dtype, processor, tokenizer, settings.

        Args:
            beside: a run directory, in which a digest of all weights is kept as long as their files, by size and time,
                are the same: of many gigabytes it takes a while.
        """
        identity = {
            "class": f"{type(self).__module__}.{type(self).__qualname__}",
            "name": self.model,
            "all_weights": self._weights.digest(beside),
            "config": self._config,
            "processor": processor_settings(self.processor),
            "processor_options": self._given["processor"],
            "tokenizer": tokenizer_digest(self._tokenizer),
            "chat_template": template_digest(self.processor),
            "dtype": self._dtype,
            "generation": {"do_sample": False} | self._sampling.options,
            "force_answer": self.force_answer,
        }
        sometimes = {
            "adapter": None if self._adapter is None else dict(self._adapter.settings),
            "template": self._encoder.arguments,
            "engine": deciding(self._given["engine"]),
        }
        return identity | {name: value for name, value in sometimes.items() if value}

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Answer prompts, as many at a time as the engine takes; see `Model.respond`.

        Raises:
            RefusedError: the engine died.
        """
        asked = [self.ask(prompt) for prompt in prompts]
        try:
            return [future.result() for future in asked]
        except BaseException:
            for future in asked:
                future.cancel()  # what was not begun is not asked any more
            raise

    def ask(self, prompt: Prompt) -> Future[Response]:
        """Take a prompt, to be answered when its turn comes; see `ConcurrentModel.ask`."""
        self._note(prompt.style)
        return self._engine.submit(partial(self._flow, prompt))

    def _flow(self, prompt: Prompt) -> Flow[Response]:
        return self._answering.flow(prompt)  # a job that holds the model, which holds the engine

    def close(self) -> None:
        """Shut the engine down and give its memory back; this happens by itself where nobody holds the model."""
        self._engine.close()

    def _note(self, style: Style) -> None:
        """Say once what else a style should be, or how the checkpoint thinks."""
        if self._hint and style == styles.default:
            logger.warning(self._hint)
        self._hint = None
        if style.mode == "think" and style.think_tags not in self._noted:
            self._noted.add(style.think_tags)
            if note := thought_note(self.processor, self._encoder.turns("x"), style.think_tags):
                logger.warning(note)


def _generation_config(name: str, config: Any, shared: Mapping[str, Any]) -> Any:
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(name, **shared)
    except OSError:  # it has none
        return GenerationConfig.from_model_config(config)
