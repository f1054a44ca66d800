"""Shared parts of builders: small sizes, configs, ids of special tokens, processors."""

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import transformers as hf

from .tokenizers import byte_level_tokenizer

__all__ = [
    "BUILDERS",
    "CHATML",
    "DECODER",
    "ENCODER",
    "Tiny",
    "accepted",
    "config",
    "family",
    "ids",
    "kind_of",
    "processor",
    "text",
    "tokenizer_of",
    "vision",
    "vocabulary",
]

DECODER = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
ENCODER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
CHATML = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
# Under every name that configs have for them; `text` and `vision` take those that a class knows.
_TEXT = DECODER | {
    # experts
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_topk": 2,
    "moe_k": 2,
    # latent attention
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
    # an indexer
    "index_topk": 32,
    "index_head_dim": 16,
    "index_n_heads": 8,  # with few, scores tie: each is a sum of ReLUs
    # linear attention
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_head_dim": 8,
    "linear_num_heads": 2,
}
_VISION = ENCODER | {
    "embed_dim": 32,
    "depth": 2,
    "num_key_value_heads": 2,
    "num_heads": 2,
    "head_dim": 16,
    "image_size": 56,
    "patch_size": 14,
    "out_hidden_size": 64,
    "text_hidden_size": 64,
    "vision_use_head": False,
}
_PLACES = {
    "image": ("image_token_id", "image_token_index"),
    "video": ("video_token_id", "video_token_index"),
    "audio": ("audio_token_id", "audio_token_index"),
    "start": ("vision_start_token_id", "image_start_token_id", "boi_token_id", "boi_token_index"),
    "end": ("vision_end_token_id", "image_end_token_id", "eoi_token_id", "eoi_token_index"),
    "video_start": ("video_start_token_id",),
    "video_end": ("video_end_token_id",),
}


@dataclass(frozen=True, slots=True)
class Tiny:
    """A tiny model of one family.

    Attributes:
        family: its key in `BUILDERS`.
        model: in float32 on the CPU, in eval mode.
        processor: with tokenizer and chat template.
    """

    family: str
    model: Any
    processor: Any


Builder = Callable[[], tuple[Any, Any]]
BUILDERS: dict[str, Builder] = {}


def family(name: str) -> Callable[[Builder], Builder]:
    """Register a builder under its model type; it returns a config, or a model, and a processor."""

    def register(builder: Builder) -> Builder:
        BUILDERS[name] = builder
        return builder

    return register


@cache
def accepted(kind: Any) -> frozenset[str]:
    """Return the names of what a class's constructor takes."""
    return frozenset(inspect.signature(kind).parameters)


def kind_of(name: str) -> Any:
    """Return a class of transformers by name; transformers 4 exports not all, and calls some `…Fast`."""
    for exported in (name, f"{name}Fast"):
        if hasattr(hf, exported):
            return getattr(hf, exported)
    for exported in dir(hf):  # a part of a config stands in the whole's module
        if exported.endswith("Config") and name.startswith(exported.removesuffix("Config")):
            module = sys.modules[getattr(hf, exported).__module__]
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"transformers {hf.__version__} has no {name}")


def vocabulary(tokenizer: Any) -> dict[str, int]:
    """Return a vocabulary's size and special tokens, as a text config takes them."""
    # Checkpoints pad their vocabulary to a round number; those rows have logits as well.
    tokens = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return {"vocab_size": (len(tokenizer) // 32 + 1) * 32} | tokens


def text(name: str, tokenizer: Any, **more: Any) -> Any:
    """Return a small config of a language model; `more` goes to it as it is."""
    kind = kind_of(name)
    sizes = _TEXT | vocabulary(tokenizer)
    if "rope_parameters" in more and "rope_parameters" not in accepted(kind):  # transformers 4
        rope = more.pop("rope_parameters")
        more |= {"rope_scaling": {"type": "default"} | rope, "rope_theta": rope["rope_theta"]}
        more |= {key: rope[key] for key in ("partial_rotary_factor",) if key in rope}
    return kind(**{key: value for key, value in sizes.items() if key in accepted(kind)} | more)


def vision(name: str, **more: Any) -> Any:
    """Return a small config of an image encoder."""
    kind = kind_of(name)
    return kind(**{key: value for key, value in _VISION.items() if key in accepted(kind)} | more)


def ids(tokenizer: Any, **tokens: str) -> dict[str, int]:
    """Return config entry → id of a special token."""
    return {name: tokenizer.convert_tokens_to_ids(token) for name, token in tokens.items()}


def config(name: str, tokenizer: Any, tokens: dict[str, str], **more: Any) -> Any:
    """Return a model's config.

    Args:
        name: its class.
        tokenizer: the model's.
        tokens: what tokens stand for (`image`, `video`, `start`, …) → token; each goes to whatever entry the class has.
        **more: further entries, such as `text_config`.
    """
    kind = kind_of(name)
    places = {place: token for use, token in tokens.items() for place in _PLACES[use] if place in accepted(kind)}
    untied = {"tie_word_embeddings": False} if "tie_word_embeddings" in accepted(kind) else {}
    if hf.__version__.startswith("4."):  # some take dictionaries only
        more = {key: value.to_dict() if hasattr(value, "to_dict") else value for key, value in more.items()}
    return kind(**ids(tokenizer, **places) | untied | more)


def tokenizer_of(tokens: dict[str, str], *added: str, usual: dict[str, str] | None = None, **named: str) -> Any:
    """Return a byte-level tokenizer that knows a family's special tokens.

    Args:
        tokens: what they stand for → token, as `config` takes them.
        *added: further special tokens.
        usual: the end of a text, padding, …; None = as with ChatML.
        **named: tokens that become attributes, such as `image_token`.
    """
    return byte_level_tokenizer((usual or CHATML) | named, (*tokens.values(), "<|im_start|>", *added))


def processor(name: str, tokenizer: Any, template: str | None, **parts: Any) -> Any:
    """Return a processor; not all take the template when they are made."""
    kind = kind_of(name)
    wanted = getattr(kind, "tokenizer_class", None)  # transformers 4 insists on a class
    for exported in (wanted,) if isinstance(wanted, str) else wanted or ():
        if exported.endswith("Fast"):
            tokenizer.__class__ = getattr(hf, exported)
    made = kind(tokenizer=tokenizer, **parts)
    made.chat_template = template
    return made
