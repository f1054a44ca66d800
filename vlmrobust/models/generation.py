"""How a text is decoded: the user's settings, with the checkpoint's own put aside."""

import copy
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..types import Prompt
from .generation_options import check_options, config_of
from .probe import GenerationProbe, Log
from .sampling import SAMPLING_OPTIONS, GumbelNoise, warpers

__all__ = ["Decoding", "Written"]

_KEPT_FROM_CHECKPOINT = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")


class Decoding:
    """Greedy decoding without penalties, unless the options say otherwise.

    A checkpoint may ship a repetition penalty (Qwen2.5-VL does), which acts under greedy decoding too and rescales the
    letters, or sample by default; so none of its settings but the special tokens are kept.

    Args:
        model: a Hugging Face model with a generation config.
        tokenizer: its tokenizer.
        options: options for `generate`; `seed` keys the sampling noise.

    Attributes:
        options: what was given, with the defaults.
        is_token_by_token: whether texts may be decoded from the logits alone (`choose`, `ended`), each by itself; else
            the model's own `generate` has to do it.
        config: for `generate`.

    Raises:
        ValueError: an option is none of `generate`'s, or one that texts cannot be decoded with here.
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
        self.is_token_by_token = set(asked) <= {"max_new_tokens", "stop_strings", "eos_token_id"}
        strings = self.options.get("stop_strings") or ()
        self._stop_strings = [strings] if isinstance(strings, str) else list(strings)
        self._stop_tail = 8 + 4 * max(map(len, self._stop_strings), default=0)
        self._warpers = warpers(self.options) if self.options.get("do_sample") else []
        self.config = config_of(kept | {"do_sample": False} | asked)
        self._one_token = GenerationConfig(**kept, do_sample=False, max_new_tokens=1, return_dict_in_generate=True)
        self._model = model
        self._tokenizer = tokenizer

    @property
    def stop_tokens(self) -> frozenset[int]:
        """The tokens that end a text."""
        tokens = self.config.eos_token_id
        return frozenset() if tokens is None else frozenset([tokens] if isinstance(tokens, int) else tokens)

    def noise(self, prompts: Sequence[Prompt], device: torch.device) -> list[GumbelNoise]:
        """Return what makes greedy decoding a sample, keyed by each prompt; empty where nothing is sampled."""
        if not self.options.get("do_sample"):
            return []
        return [self._noise([prompt], device) for prompt in prompts]

    def _noise(self, prompts: Sequence[Prompt], device: torch.device) -> GumbelNoise:
        keys = [(prompt.sample.id, prompt.condition, prompt.draw) for prompt in prompts]
        return GumbelNoise(keys, int(self.options.get("seed", 0)), device)

    def choose(self, logits: Tensor, noise: Sequence[GumbelNoise]) -> Tensor:
        """Return the next tokens `(B,)` by `(B, V)` logits, and by each row's noise where texts are sampled."""
        scores = logits.float()
        if noise:
            for warper in self._warpers:
                scores = warper(None, scores)
            scores = torch.cat([one(None, row) for one, row in zip(noise, scores.split(1), strict=True)])
        return scores.argmax(-1)

    def generate(
        self, inputs: Mapping[str, Any], prompts: Sequence[Prompt], probe: GenerationProbe
    ) -> tuple[Any, "list[Written]"]:
        """Decode a batch with the model's own `generate`, the probe watching; return its output and the texts."""
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

    def ended(self, log: Log) -> bool:
        """Return whether a text is complete: at a stop token, a stop string, or the limit."""
        tokens = log.tokens
        return (
            tokens[-1] in self.stop_tokens
            or len(tokens) >= self.config.max_new_tokens
            # The end of the text is looked at first: a character takes four tokens at most.
            or (self._holds_stop_string(tokens[-self._stop_tail :]) and self._holds_stop_string(tokens))
        )

    def written(self, log: Log) -> "Written":
        """Cut a text at its stop token or stop string; what follows, if anything, is padding."""
        tokens = log.tokens
        token_end = next((place for place, token in enumerate(tokens) if token in self.stop_tokens), len(tokens))
        text_end = self._stop_string_end(tokens[:token_end])
        count = min(token_end + 1, len(tokens)) if text_end is None else text_end
        return Written(
            tokens=tokens[: token_end if text_end is None else text_end],
            entropy=sum(log.entropies[:count]) / count,
            count=count,
            stopped=text_end is not None or token_end < len(tokens),
            steps=len(tokens),
            kept=log.kept,
        )

    def _stop_string_end(self, tokens: Sequence[int]) -> int | None:
        """Return how many tokens it takes to write a stop string."""
        if not self._holds_stop_string(tokens):
            return None
        return bisect_left(range(len(tokens)), True, key=lambda count: self._holds_stop_string(tokens[:count]))

    def _holds_stop_string(self, tokens: Sequence[int]) -> bool:
        if not self._stop_strings:
            return False
        text = self._tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return any(string in text for string in self._stop_strings)

    def in_force(self, **changes: Any) -> AbstractContextManager[Any]:
        """Put the checkpoint's generation config aside, and give ours (with changes) to hand to `generate`."""
        config = copy.deepcopy(self.config)
        config.update(**changes)
        return self._replaced(config)

    def prefilling(self) -> AbstractContextManager[Any]:
        """Do the same with a config that fills a cache: one token is decoded, whatever the settings, and not used."""
        return self._replaced(copy.deepcopy(self._one_token))

    @contextmanager
    def _replaced(self, config: Any) -> Iterator[Any]:
        # `generate` fills up what a config leaves open with the model's own; so ours takes its place for the while.
        own = self._model.generation_config
        self._model.generation_config = config
        try:
            yield config
        finally:
            self._model.generation_config = own


@dataclass(frozen=True, slots=True)
class Written:
    """A decoded text.

    Attributes:
        tokens: its tokens, without the stop token.
        entropy: mean entropy (nats) over its tokens, stop token included.
        count: number of decoded tokens, stop token included.
        stopped: whether it ended by itself, not at the limit.
        steps: over how many steps it was watched: what follows its end, if anything, is padding.
        kept: by step, what `Head.logits` needs of the steps that wrote a letter, and of those behind them.
    """

    tokens: list[int]
    entropy: float
    count: int
    stopped: bool
    steps: int
    kept: Mapping[int, Tensor]
