"""How a text is decoded: the user's settings, with the checkpoint's own put aside."""

import copy
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..types import Prompt
from .branches import Branches
from .generation_options import check_options, config_of
from .probe import GenerationProbe
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
        self.is_plain_greedy = set(asked) <= {"max_new_tokens"}
        self.config = config_of(kept | {"do_sample": False} | asked)
        self._one_token = GenerationConfig(**kept, do_sample=False, max_new_tokens=1, return_dict_in_generate=True)
        self._model = model
        self._tokenizer = tokenizer

    @property
    def stop_tokens(self) -> frozenset[int]:
        """The tokens that end a text."""
        tokens = self.config.eos_token_id
        return frozenset() if tokens is None else frozenset([tokens] if isinstance(tokens, int) else tokens)

    def processors(self, prompts: Sequence[Prompt], device: torch.device) -> list[Any]:
        """Return the logits processors that make greedy decoding a sample: warpers, then noise keyed by prompt."""
        if not self.options.get("do_sample"):
            return []
        keys = [(prompt.sample.id, prompt.condition, prompt.draw) for prompt in prompts]
        return [*warpers(self.options), GumbelNoise(keys, int(self.options.get("seed", 0)), device)]

    def generate(self, inputs: Mapping[str, Any], prompts: Sequence[Prompt], probe: GenerationProbe) -> "Written":
        """Decode a batch with the model's own `generate`, the probe watching."""
        return self.output(inputs, prompts, probe)[1]

    def output(
        self, inputs: Mapping[str, Any], prompts: Sequence[Prompt], probe: GenerationProbe
    ) -> tuple[Any, "Written"]:
        """Return what `generate` returned, cache included, and the same as `generate` of this class."""
        device = inputs["input_ids"].device
        extra = {"tokenizer": self._tokenizer} if "stop_strings" in self.options else {}
        with self.in_force(return_dict_in_generate=True) as config:
            output = self._model.generate(
                **inputs,
                generation_config=config,
                logits_processor=self.processors(prompts, device),
                stopping_criteria=[probe],
                **extra,
            )
        return output, self.written(output.sequences[:, inputs["input_ids"].shape[1] :], probe)

    def loop(self, step: Callable[[Tensor], None], prompts: Sequence[Prompt], probe: GenerationProbe) -> "Written":
        """Decode a batch over a cache that holds its prompts, from what the last forward pass left to the probe.

        Args:
            step: runs the model on `(B, 1)` new tokens.
            prompts: the batch's, which key the noise.
            probe: watches.
        """
        logits = probe.seen.logits
        assert logits is not None
        device = logits.device
        processors = self.processors(prompts, device)
        stops = torch.tensor(sorted(self.stop_tokens), device=device)
        running = torch.ones(len(prompts), dtype=torch.bool, device=device)
        written: list[Tensor] = []
        while True:
            logits = probe.seen.logits
            assert logits is not None
            scores = logits[:, -1].float()
            for processor in processors:
                scores = processor(None, scores)
            tokens = torch.where(running, scores.argmax(-1), self.config.pad_token_id)[:, None]
            probe(tokens, None)
            written.append(tokens)
            running &= ~torch.isin(tokens[:, 0], stops)
            if len(written) == self.config.max_new_tokens or not running.any():
                return self.written(torch.cat(written, dim=1), probe)
            step(tokens)

    def written(self, tokens: Tensor, probe: GenerationProbe) -> "Written":
        """Cut a batch's rows at their stop tokens and stop strings.

        Args:
            tokens: `(B, S)`, what was decoded, padded where a row ended before the others.
            probe: what was read on the way.
        """
        steps = torch.stack(probe.entropies).T.double().tolist()
        texts, entropies, counts, stopped = [], [], [], []
        for row, entropy in zip(tokens.tolist(), steps, strict=True):
            token_end = next((place for place, token in enumerate(row) if token in self.stop_tokens), len(row))
            text_end = self._stop_string_end(row[:token_end])
            count = min(token_end + 1, len(row)) if text_end is None else text_end
            texts.append(row[: token_end if text_end is None else text_end])
            counts.append(count)
            entropies.append(sum(entropy[:count]) / count)
            stopped.append(text_end is not None or token_end < len(row))
        return Written(texts, entropies, counts, stopped, probe)

    def _stop_string_end(self, row: Sequence[int]) -> int | None:
        """Return how many tokens it takes to write a stop string; what follows is padding."""
        strings = self.options.get("stop_strings") or ()
        strings = [strings] if isinstance(strings, str) else list(strings)

        def stops(count: int) -> bool:
            text = self._tokenizer.decode(row[:count], skip_special_tokens=False, clean_up_tokenization_spaces=False)
            return any(string in text for string in strings)

        return bisect_left(range(len(row)), True, key=stops) if strings and stops(len(row)) else None

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
    """A decoded batch.

    Attributes:
        tokens: each row's tokens, without the stop token.
        entropies: mean entropy (nats) over each row's tokens, stop token included.
        counts: number of decoded tokens, stop token included.
        stopped: whether the row ended by itself, not at the limit.
        probe: what was kept on the way.
        branches: the cache that holds the prompts and all that was written but its last column; None = none is left.
    """

    tokens: list[list[int]]
    entropies: list[float]
    counts: list[int]
    stopped: list[bool]
    probe: GenerationProbe
    branches: Branches | None = None
