"""Options for `generate`, looked over before anything is decoded: `generate` leaves out what it does not know."""

import difflib
import logging
from collections.abc import Mapping
from typing import Any

from .sampling import SAMPLING_OPTIONS

__all__ = ["check_options"]

logger = logging.getLogger(__name__)

# What decodes several texts of a prompt at once, or runs the model other than once per token.
_ONE = ("num_beams", "num_beam_groups", "num_return_sequences")
_NONE = (
    "assistant_model",
    "constraints",
    "custom_generate",
    "dola_layers",
    "force_words_ids",
    "guidance_scale",
    "penalty_alpha",
    "prompt_lookup_num_tokens",
    "speculation_type",
    "use_mtp",
)
_WARPERS = ("top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
_INSTEAD = {"max_length": "max_new_tokens", "min_length": "min_new_tokens"}


def check_options(options: Mapping[str, Any], own: Any) -> None:
    """Refuse options that `generate` would leave out, or under which a text would not be what is read.

    Args:
        options: as the user gave them.
        own: the model's generation config, which may know more than transformers' own.

    Raises:
        ValueError: one is unknown, or cannot be used here; the message names it, and what to use.
    """
    from transformers import GenerationConfig

    known = {name for name in {**vars(GenerationConfig()), **vars(own)} if not name.startswith("_")}
    known |= {*SAMPLING_OPTIONS, *_ONE, *_NONE, *_WARPERS, *_INSTEAD}
    for name, value in options.items():
        if name not in known:
            raise ValueError(
                f"field 'generation': expected options of transformers' `generate`, got {name!r}{_nearest(name, known)}"
            )
        if value is not None and (reason := _refusal(name, value)):
            raise ValueError(f"field 'generation', option {name!r}: {reason}, got {value!r}")
    idle = [name for name in SAMPLING_OPTIONS if name not in ("do_sample", "seed") and options.get(name) is not None]
    if idle and not options.get("do_sample"):
        logger.warning("generation: %s have no effect without do_sample=True; decoding is greedy", ", ".join(idle))


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
    return None
