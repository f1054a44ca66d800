"""Options for `generate`, looked over before anything is decoded: `generate` leaves out what it does not know."""

import difflib
import logging
import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

from .processing import FAULTS
from .sampling import SAMPLING_OPTIONS

__all__ = ["check_options", "config_of", "greedy_at_zero"]

logger = logging.getLogger(__name__)

# What decodes several texts of a prompt at once, or runs the model other than once per token.
_ONE = ("num_beams", "num_beam_groups", "num_return_sequences")
_NONE = (
    "assistant_early_exit",
    "assistant_model",
    "constraints",
    "custom_generate",
    "dola_layers",
    "force_words_ids",
    "guidance_scale",
    "is_assistant",
    "penalty_alpha",
    "prompt_lookup_num_tokens",
    "speculation_type",
    "token_healing",
    "use_mtp",
)
_WARPERS = ("top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
_INSTEAD = {"max_length": "max_new_tokens", "min_length": "min_new_tokens"}
_OF_BEAMS = ("early_stopping", "length_penalty", "low_memory")


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _is_number(value: Any, least: float = 0.0, most: float = math.inf) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and least <= float(value) <= most


def _is_tokens(value: Any) -> bool:
    several = isinstance(value, list | tuple) and bool(value)
    return all(_is_whole(token, 0) for token in (value if several else [value]))


def _is_strings(value: Any) -> bool:
    several = isinstance(value, list | tuple) and bool(value)
    return all(isinstance(text, str) and text != "" for text in (value if several else [value]))


# What values are looked at before `generate` is, and what they have to be; it says of the others itself.
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "do_sample": (lambda value: isinstance(value, bool), "True or False"),
    "eos_token_id": (_is_tokens, "a token's number, or a list of them"),
    "max_new_tokens": (lambda value: _is_whole(value, 1), "a whole number of at least 1"),
    "max_time": (_is_number, "a number of seconds"),
    "min_new_tokens": (lambda value: _is_whole(value, 0), "a whole number of at least 0"),
    "min_p": (lambda value: _is_number(value, most=1.0), "a number from 0 to 1"),
    "no_repeat_ngram_size": (lambda value: _is_whole(value, 0), "a whole number of at least 0"),
    "pad_token_id": (lambda value: _is_whole(value, 0), "a token's number"),
    "repetition_penalty": (lambda value: _is_number(value) and value > 0, "a number above 0"),
    "seed": (lambda value: isinstance(value, Integral) and not isinstance(value, bool), "a whole number"),
    "stop_strings": (_is_strings, "a text, or a list of texts"),
    "temperature": (_is_number, "a number of at least 0"),
    "top_k": (lambda value: _is_whole(value, 0), "a whole number of at least 0"),
    "top_p": (lambda value: _is_number(value, most=1.0), "a number from 0 to 1"),
}


def check_options(options: Mapping[str, Any], own: Any) -> None:
    """Refuse options that `generate` would leave out, or under which a text would not be what is read.

    Args:
        options: as the user gave them.
        own: the model's generation config, which may know more than transformers' own.

    Raises:
        ValueError: one is unknown, cannot be used here, or has a value that it cannot have; the message names it, and
            what to use.
    """
    from transformers import GenerationConfig

    known = {name for name in {**vars(GenerationConfig()), **vars(own)} if not name.startswith("_")}
    known |= {*SAMPLING_OPTIONS, *_ONE, *_NONE, *_WARPERS, *_INSTEAD}
    for name, value in options.items():
        if name not in known:
            raise ValueError(
                f"field 'generation': expected options of transformers' `generate`, got {name!r}{_nearest(name, known)}"
            )
        if (value is not None or name == "max_new_tokens") and (reason := _refusal(name, value)):
            raise ValueError(f"field 'generation', option {name!r}: {reason}, got {value!r}")
    if options.get("do_sample") and options.get("temperature") == 0:
        raise ValueError(
            "field 'generation', option 'temperature': expected a number above 0 with do_sample=True, got 0"
        )
    if useless := [name for name in _OF_BEAMS if options.get(name)]:
        logger.warning("generation: %s act on beams alone, and have no effect here", ", ".join(useless))
    if options.get("cache_config") is not None and options.get("cache_implementation") != "quantized":
        logger.warning("generation: cache_config has no effect without cache_implementation='quantized'")
    idle = [name for name in SAMPLING_OPTIONS if name not in ("do_sample", "seed") and options.get(name) is not None]
    if idle and not options.get("do_sample"):
        logger.warning("generation: %s have no effect without do_sample=True; decoding is greedy", ", ".join(idle))


def greedy_at_zero(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of which a temperature of 0 is what it says: greedy decoding, as without sampling options.

    Example:
        >>> greedy_at_zero({"max_new_tokens": 8, "do_sample": True, "temperature": 0.0, "seed": 1})
        {'max_new_tokens': 8}
    """
    temperature = options.get("temperature")
    if temperature is None or isinstance(temperature, bool) or temperature != 0:
        return dict(options)
    return {name: value for name, value in options.items() if name not in SAMPLING_OPTIONS}


def config_of(settings: Mapping[str, Any]) -> Any:
    """Return transformers' `GenerationConfig` of some settings.

    Raises:
        ValueError: it refuses one of them.
    """
    from transformers import GenerationConfig

    try:
        return GenerationConfig(**settings)
    except FAULTS as error:
        raise ValueError(
            f"field 'generation': expected options that GenerationConfig takes, got {dict(settings)}: {error}"
        ) from error


def _nearest(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _refusal(name: str, value: Any) -> str | None:
    if name in _INSTEAD:
        return f"expected a limit that leaves the prompt out: use {_INSTEAD[name]!r}"
    if name in _ONE and value != 1:
        return "expected 1: letters and entropies are read off the one text that is decoded (for several, use draws)"
    if name in _WARPERS:
        return "expected none: samples are drawn with temperature, top_k, top_p and min_p alone"
    if name in _NONE and value is not False:
        return "expected none: texts are decoded token by token from the model's own logits"
    if name == "cache_implementation" and "paged" in str(value):
        return "expected another cache: with a paged one transformers answers without the image"
    if name in _KINDS and not _KINDS[name][0](value):
        return f"expected {_KINDS[name][1]}"
    return None
