"""`HFModel`'s options for texts in vLLM's words, so that one setting means one thing whichever engine writes."""

import logging
from collections.abc import Mapping
from typing import Any

from ..generation_options import check_options
from ..sampling import sampling_seed

__all__ = ["Sampling"]

_WORDS = {
    "max_new_tokens": "max_tokens",
    "min_new_tokens": "min_tokens",
    "repetition_penalty": "repetition_penalty",
    "stop_strings": "stop",
}
_DRAWN = ("temperature", "top_k", "top_p", "min_p")
_READ = ("do_sample", "eos_token_id", "pad_token_id", "seed")

logger = logging.getLogger(__name__)


class Sampling:
    """Greedy decoding without penalties, unless the options say otherwise; see `HFModel`.

    Args:
        options: as `HFModel` takes them; `seed` keys the seeds of texts.
        own: the checkpoint's generation config, of which the tokens that end a text are kept.
        tokenizer: its tokenizer, whose end token is taken where the config names none.

    Attributes:
        options: what was given, with the defaults.
        stop_tokens: the tokens that end a text.

    Raises:
        ValueError: an option is none of `HFModel`'s, or one that vLLM has not.
    """

    def __init__(self, options: Mapping[str, Any], own: Any, tokenizer: Any) -> None:
        check_options(options, own)
        for name, value in options.items():
            if value is not None and name not in (*_WORDS, *_DRAWN, *_READ):
                known = ", ".join(sorted((*_WORDS, *_DRAWN, "do_sample", "eos_token_id", "seed")))
                raise ValueError(f"field 'generation': expected options that vLLM knows ({known}), got {name!r}")
        self.options: dict[str, Any] = {"max_new_tokens": 512} | dict(options)
        ends = self.options.get("eos_token_id")
        for fallback in (own.eos_token_id, tokenizer.eos_token_id):
            ends = fallback if ends is None else ends
        self.stop_tokens = tuple([ends] if isinstance(ends, int) else ends or ())

    def of(self, key: tuple[str, str, int]) -> dict[str, Any]:
        """Return what `SamplingParams` is told for one text.

        Args:
            key: (sample id, condition, draw), by which the seed is drawn.
        """
        given = {name: value for name, value in self.options.items() if value is not None}
        told = {word: given[name] for name, word in _WORDS.items() if name in given}
        # The tokens alone end a text, whatever vLLM's own reading of the checkpoint is.
        told |= {"ignore_eos": True, "stop_token_ids": list(self.stop_tokens), "detokenize": "stop" in told}
        if "stop" in told:
            told["skip_special_tokens"] = False
        if not given.get("do_sample"):
            return {"temperature": 0.0} | told
        drawn = {"temperature": 1.0} | {name: given[name] for name in _DRAWN if name in given}
        return drawn | told | {"seed": sampling_seed(int(given.get("seed", 0)), key)}

    def cut(self, tokens: list[int]) -> tuple[list[int], int]:
        """Return a text's tokens without the one that ended it, and how many were generated."""
        end = next((place for place, token in enumerate(tokens) if token in self.stop_tokens), len(tokens))
        return tokens[:end], min(end + 1, len(tokens))
