"""Decode texts with the user's options; noise keyed by prompt and seed makes sampled texts independent of the batch."""

import copy
import difflib
import logging
import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from ..seeding import integer_key
from ..types import Prompt
from .probe import DecodingLog, GenerationProbe
from .processing import FAULTS

__all__ = [
    "SAMPLING_OPTIONS",
    "DecodedText",
    "Decoding",
    "GumbelNoise",
    "check_options",
    "decoded_text",
    "greedy_at_zero",
    "is_default",
    "sampling_seed",
    "warpers",
]

logger = logging.getLogger(__name__)

SAMPLING_OPTIONS = ("do_sample", "temperature", "top_k", "top_p", "min_p", "seed")
# Options that decode several texts of a prompt at once, or run the model other than once per token.
_ONE = ("num_beams", "num_beam_groups", "num_return_sequences")
_NONE = (
    *("assistant_early_exit", "assistant_model", "is_assistant", "prompt_lookup_num_tokens", "speculation_type"),
    *("constraints", "custom_generate", "dola_layers", "force_words_ids", "guidance_scale", "penalty_alpha"),
    *("token_healing", "use_mtp"),
)
_WARPERS = ("top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
_INSTEAD = {"max_length": "max_new_tokens", "min_length": "min_new_tokens"}
_OF_BEAMS = ("early_stopping", "length_penalty", "low_memory")
# What `generate` does without an option, if not False; scripts often state it.
_DEFAULTS: Mapping[str, Any] = {
    **dict.fromkeys((*_ONE, "repetition_penalty", "encoder_repetition_penalty", "typical_p", "length_penalty"), 1),
    **dict.fromkeys(("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "min_new_tokens", "min_length"), 0),
    **dict.fromkeys(("epsilon_cutoff", "eta_cutoff", "diversity_penalty"), 0),
    "use_cache": True,
}
# Options that `choose` and `ended` respect, or that do not act on tokens.
_TOKEN_BY_TOKEN = frozenset({"max_new_tokens", "stop_strings", "eos_token_id", "pad_token_id", "bos_token_id"})
_KEPT_FROM_CHECKPOINT = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")


def sampling_seed(seed: int, key: tuple[str, str, int], bits: int = 63) -> int:
    """Return the seed of one text, from the run's seed and (sample id, condition, draw)."""
    return integer_key(seed, "sampling", *key) % (1 << bits)


class GumbelNoise:
    """A logits processor that adds Gumbel noise, so that the argmax is a sample (the Gumbel-max trick).

    If `g_v = −log(−log u_v)` with u uniform, then `argmax(z_v + g_v)` is distributed as `softmax(z)`.

    Each row has its own generator, seeded by (seed, sample, condition, draw), and draws from it once per step.

    Args:
        keys: one (sample id, condition, draw) per row of the batch.
        seed: the run's seed for sampling.
        device: the logits' device.
    """

    def __init__(self, keys: Sequence[tuple[str, str, int]], seed: int, device: torch.device) -> None:
        self._generators = [torch.Generator(device).manual_seed(sampling_seed(seed, key)) for key in keys]

    def __call__(self, input_ids: Tensor | None, scores: Tensor) -> Tensor:
        """Return `(B, V)` scores with noise added; -inf stays -inf."""
        noise = torch.stack(
            [
                torch.empty(scores.shape[-1], device=scores.device).exponential_(generator=generator)
                for generator in self._generators
            ]
        )
        return scores - noise.clamp_(min=torch.finfo(torch.float32).tiny).log_()


def warpers(options: Mapping[str, Any]) -> list[Any]:
    """Return Hugging Face's logits warpers for the given sampling options, in the order of `generate`."""
    from transformers.generation import logits_process

    temperature, top_k = options.get("temperature"), options.get("top_k")
    top_p, min_p = options.get("top_p"), options.get("min_p")
    made: list[Any] = []
    if temperature is not None and temperature != 1.0:
        made.append(logits_process.TemperatureLogitsWarper(float(temperature)))
    if top_k:
        made.append(logits_process.TopKLogitsWarper(int(top_k)))
    if top_p is not None and top_p < 1.0:
        made.append(logits_process.TopPLogitsWarper(float(top_p)))
    if min_p:
        made.append(logits_process.MinPLogitsWarper(float(min_p)))
    return made


def _is_whole(value: Any, least: int = 0) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _is_number(value: Any, least: float = 0.0, most: float = math.inf) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and least <= float(value) <= most


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_each(value: Any, check: Callable[[Any], bool]) -> bool:
    return all(map(check, value if isinstance(value, list | tuple) and value else [value]))


# Options whose values are checked here; `generate` itself checks the others.
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "do_sample": (lambda value: isinstance(value, bool), "True or False"),
    "eos_token_id": (lambda value: _is_each(value, _is_whole), "a token's number, or a list of them"),
    "max_new_tokens": (lambda value: _is_whole(value, 1), "a whole number of at least 1"),
    "max_time": (_is_number, "a number of seconds"),
    "min_new_tokens": (_is_whole, "a whole number of at least 0"),
    "min_p": (lambda value: _is_number(value, most=1.0), "a number from 0 to 1"),
    "no_repeat_ngram_size": (_is_whole, "a whole number of at least 0"),
    "pad_token_id": (_is_whole, "a token's number"),
    "repetition_penalty": (lambda value: _is_number(value) and value > 0, "a number above 0"),
    "seed": (lambda value: isinstance(value, Integral) and not isinstance(value, bool), "a whole number"),
    "stop_strings": (lambda value: _is_each(value, _is_text), "a text, or a list of texts"),
    "temperature": (_is_number, "a number of at least 0"),
    "top_k": (_is_whole, "a whole number of at least 0"),
    "top_p": (lambda value: _is_number(value, most=1.0), "a number from 0 to 1"),
}


def check_options(options: Mapping[str, Any], own: Any) -> None:
    """Refuse options that `generate` would ignore, or under which the decoded text is not the text that is read.

    Args:
        options: the user's.
        own: the model's generation config, which may have more options than transformers' own.

    Raises:
        ValueError: an option is unknown, cannot be used here, or has an invalid value; the message names it and the
            alternative.
    """
    from transformers import GenerationConfig

    known = {name for name in {**vars(GenerationConfig()), **vars(own)} if not name.startswith("_")}
    known |= {*SAMPLING_OPTIONS, *_ONE, *_NONE, *_WARPERS, *_INSTEAD}
    for name, value in options.items():
        if name not in known:
            raise ValueError(
                f"field 'generation': expected options of transformers' `generate`, got {name!r}{_nearest(name, known)}"
            )
        if (name == "max_new_tokens" or not is_default(name, value)) and (reason := _refusal(name, value)):
            raise ValueError(f"field 'generation', option {name!r}: {reason}, got {value!r}")
    if options.get("do_sample") and options.get("temperature") == 0:
        raise ValueError(
            "field 'generation', option 'temperature': expected a number above 0 with do_sample=True, got 0"
        )
    if useless := [name for name in _OF_BEAMS if not is_default(name, options.get(name))]:
        logger.warning("generation: %s act on beam search only, and have no effect here", ", ".join(useless))
    if options.get("cache_config") is not None and options.get("cache_implementation") != "quantized":
        logger.warning("generation: cache_config has no effect without cache_implementation='quantized'")
    idle = [name for name in SAMPLING_OPTIONS if name not in ("do_sample", "seed") and options.get(name) is not None]
    if idle and not options.get("do_sample"):
        logger.warning("generation: %s have no effect without do_sample=True; decoding is greedy", ", ".join(idle))


def greedy_at_zero(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options in which a temperature of 0 means greedy decoding, without sampling options.

    Example:
        >>> greedy_at_zero({"max_new_tokens": 8, "do_sample": True, "temperature": 0.0, "seed": 1})
        {'max_new_tokens': 8}
    """
    temperature = options.get("temperature")
    if temperature is None or isinstance(temperature, bool) or temperature != 0:
        return dict(options)
    return {name: value for name, value in options.items() if name not in SAMPLING_OPTIONS}


def _nearest(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def is_default(name: str, value: Any) -> bool:
    """Return whether an option of `generate` does nothing, such as a penalty of 1."""
    default = _DEFAULTS.get(name, None if name in _KINDS else False)
    return value is None or (isinstance(value, bool) == isinstance(default, bool) and bool(value == default))


def _refusal(name: str, value: Any) -> str | None:
    if name in _INSTEAD:
        return f"expected a limit that excludes the prompt: use {_INSTEAD[name]!r}"
    if name in _ONE:
        return "expected 1: letters and entropies are read from the one text that is decoded (for several, use draws)"
    if name in _WARPERS:
        return "expected none: only temperature, top_k, top_p and min_p are used for sampling"
    if name in _NONE:
        return "expected none: texts are decoded token by token from the model's own logits"
    if name == "cache_implementation" and "paged" in str(value):
        return "expected another cache: with a paged one, transformers ignores the image"
    if name == "prefill_chunk_size":
        return "expected none: when prompts are prefilled in chunks, some families do not see the image as a whole"
    if name in _KINDS and not _KINDS[name][0](value):
        return f"expected {_KINDS[name][1]}"
    return None


class Decoding:
    """Greedy decoding without penalties, unless the options set otherwise.

    A checkpoint may ship a repetition penalty (Qwen2.5-VL does), which acts under greedy decoding too and rescales
    letters, or sample by default; so only its special tokens are kept.

    Args:
        model: a Hugging Face model with a generation config.
        tokenizer: its tokenizer.
        options: options for `generate`; `seed` keys the sampling noise.

    Attributes:
        options: the options with defaults.
        is_token_by_token: whether texts can be decoded from the logits alone (`choose`, `ended`), independently.
        left_to_generate: the options for which the model's own `generate` decodes them otherwise.
        config: for `generate`.

    Raises:
        ValueError: an option is unknown to `generate`, or not usable here.
    """

    def __init__(self, model: Any, tokenizer: Any, options: Mapping[str, Any]) -> None:
        from transformers import GenerationConfig

        kept = {name: getattr(model.generation_config, name, None) for name in _KEPT_FROM_CHECKPOINT}
        if kept["eos_token_id"] is None:
            kept["eos_token_id"] = tokenizer.eos_token_id
        if kept["pad_token_id"] is None:
            kept["pad_token_id"] = tokenizer.pad_token_id
        check_options(options, model.generation_config)
        self.options = {"max_new_tokens": 512} | dict(options)
        asked = {name: value for name, value in self.options.items() if name not in SAMPLING_OPTIONS}
        acting = {name for name, value in asked.items() if not is_default(name, value)}
        self.left_to_generate = sorted(acting - _TOKEN_BY_TOKEN)
        self.is_token_by_token = not self.left_to_generate
        strings = self.options.get("stop_strings") or ()
        self._stop_strings = [strings] if isinstance(strings, str) else list(strings)
        self._stop_tail = 8 + 4 * max(map(len, self._stop_strings), default=0)
        self._warpers = warpers(self.options) if self.options.get("do_sample") else []
        settings = kept | {"do_sample": False} | asked
        try:
            self.config = GenerationConfig(**settings)
        except FAULTS as error:
            raise ValueError(
                f"field 'generation': expected options that GenerationConfig takes, got {settings}: {error}"
            ) from error
        self._one_token = GenerationConfig(**kept, do_sample=False, max_new_tokens=1, return_dict_in_generate=True)
        self._model = model
        self._tokenizer = tokenizer

    @property
    def stop_tokens(self) -> frozenset[int]:
        """The tokens that end a text."""
        tokens = self.config.eos_token_id
        return frozenset() if tokens is None else frozenset([int(tokens)] if isinstance(tokens, Integral) else tokens)

    def noise(self, prompts: Sequence[Prompt], device: torch.device) -> list[GumbelNoise]:
        """Return the noise of each prompt that turns greedy decoding into sampling; empty without sampling."""
        if not self.options.get("do_sample"):
            return []
        return [self._noise([prompt], device) for prompt in prompts]

    def _noise(self, prompts: Sequence[Prompt], device: torch.device) -> GumbelNoise:
        keys = [(prompt.sample.id, prompt.condition, prompt.draw) for prompt in prompts]
        return GumbelNoise(keys, int(self.options.get("seed", 0)), device)

    def choose(self, logits: Tensor, noise: Sequence[GumbelNoise]) -> Tensor:
        """Return the next tokens `(B,)` from `(B, V)` logits, with each row's noise when sampling."""
        scores = logits.float()
        if noise:
            for warper in self._warpers:
                scores = warper(None, scores)
            scores = torch.cat([one(None, row) for one, row in zip(noise, scores.split(1), strict=True)])
        if scores.device.type == "cpu":  # where numpy's argmax is an order of magnitude faster
            return torch.from_numpy(scores.numpy().argmax(-1))
        return scores.argmax(-1)

    def generate(
        self, inputs: Mapping[str, Any], prompts: Sequence[Prompt], probe: GenerationProbe
    ) -> tuple[Any, "list[DecodedText]"]:
        """Decode a batch with the model's own `generate` and a probe; return its output and the texts."""
        device = inputs["input_ids"].device
        extra = {"tokenizer": self._tokenizer} if "stop_strings" in self.options else {}
        processors = [*self._warpers, self._noise(prompts, device)] if self.options.get("do_sample") else []
        with self.in_force(return_dict_in_generate=True) as config:
            output = self._model.generate(
                **inputs,
                generation_config=config,
                logits_processor=processors,
                stopping_criteria=[probe],
                **extra,
            )
        return output, [self.written(log) for log in probe.logs]

    def ended(self, log: DecodingLog) -> bool:
        """Return whether a text is complete: at a stop token, a stop string, or the limit."""
        tokens = log.tokens
        return (
            tokens[-1] in self.stop_tokens
            or len(tokens) >= self.config.max_new_tokens
            # Check the end of the text first; a character takes at most four tokens.
            or (self._holds_stop_string(tokens[-self._stop_tail :]) and self._holds_stop_string(tokens))
        )

    def written(self, log: DecodingLog) -> "DecodedText":
        """Cut a text at its stop token or stop string; anything after it is padding."""
        tokens = log.tokens
        token_end = next((place for place, token in enumerate(tokens) if token in self.stop_tokens), len(tokens))
        text_end = self._stop_string_end(tokens[:token_end])
        count = min(token_end + 1, len(tokens)) if text_end is None else text_end
        return DecodedText(
            tokens=tokens[: token_end if text_end is None else text_end],
            entropy=sum(log.entropies[:count]) / count,
            count=count,
            stopped=text_end is not None or token_end < len(tokens),
            steps=len(tokens),
            kept=log.kept,
        )

    def _stop_string_end(self, tokens: Sequence[int]) -> int | None:
        """Return the number of tokens up to the end of the first stop string."""
        if not self._holds_stop_string(tokens):
            return None
        return bisect_left(range(len(tokens)), True, key=lambda count: self._holds_stop_string(tokens[:count]))

    def _holds_stop_string(self, tokens: Sequence[int]) -> bool:
        if not self._stop_strings:
            return False
        text = decoded_text(self._tokenizer, tokens)
        return any(string in text for string in self._stop_strings)

    def in_force(self, **changes: Any) -> AbstractContextManager[Any]:
        """Replace the checkpoint's generation config temporarily; yields ours, with changes, for `generate`."""
        config = copy.deepcopy(self.config)
        config.update(**changes)
        return self._replaced(config)

    def prefilling(self, **changes: Any) -> AbstractContextManager[Any]:
        """Do the same with a config for filling a cache: one token is decoded, which is not used."""
        config = copy.deepcopy(self._one_token)
        config.update(**changes)
        return self._replaced(config)

    @contextmanager
    def _replaced(self, config: Any) -> Iterator[Any]:
        # `generate` fills gaps in a config from the model's own, so ours replaces that.
        own = self._model.generation_config
        self._model.generation_config = config
        try:
            yield config
        finally:
            self._model.generation_config = own


def decoded_text(tokenizer: Any, tokens: Sequence[int]) -> str:
    """Return the text of generated tokens, including tags."""
    # Tags may be special tokens, which must not be skipped.
    return str(tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False))


@dataclass(frozen=True, slots=True)
class DecodedText:
    """A decoded text.

    Attributes:
        tokens: its tokens, without the stop token.
        entropy: mean entropy (nats) over its tokens, stop token included.
        count: number of decoded tokens, stop token included.
        stopped: whether it ended by itself, not at the limit.
        steps: number of logged steps; those after its end are padding.
        kept: by step, the rows for `Head.logits` of steps that generated a letter, and of the steps after them.
    """

    tokens: list[int]
    entropy: float
    count: int
    stopped: bool
    steps: int
    kept: Mapping[int, Tensor]
