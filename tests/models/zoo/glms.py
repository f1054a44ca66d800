"""GLM's families."""

from typing import Any

import transformers as hf

from . import templates
from .grids import PATCH14
from .parts import config, family, kind_of, processor, text, tokenizer_of, vision

_TOKENS = {
    "image": "<|image|>",
    "video": "<|video|>",
    "start": "<|begin_of_image|>",
    "end": "<|end_of_image|>",
    "video_start": "<|begin_of_video|>",
    "video_end": "<|end_of_video|>",
}
_USUAL = {"eos_token": "<|user|>", "pad_token": "<|endoftext|>"}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1], "partial_rotary_factor": 0.5}


def _glm(kind: str, language: dict[str, Any], *, parts: str = "Glm4v", opener: str = "", **images: Any) -> Any:
    """Return a model: `kind` names the config, `parts` what it is made of."""
    tokenizer = tokenizer_of(_TOKENS, "[gMASK]", "<sop>", "<|system|>", "<|assistant|>", usual=_USUAL)
    family_of = kind if hasattr(hf, f"{kind}Processor") else "Glm4v" if kind == "Glm4vMoe" else "Glm46V"
    made = processor(
        f"{family_of}Processor",
        tokenizer,
        templates.glm(opener),
        image_processor=kind_of(f"{family_of}ImageProcessor")(**images or PATCH14),
        video_processor=getattr(hf, f"{family_of}VideoProcessor")(),
    )
    both = {
        "text_config": text(f"{parts}TextConfig", tokenizer, **language),
        "vision_config": vision(f"{parts}VisionConfig"),
    }
    return config(f"{kind}Config", tokenizer, _TOKENS, **both), made


@family("glm4v")
def glm4v() -> tuple[Any, Any]:
    return _glm("Glm4v", {"rope_parameters": _ROPE})


@family("glm46v")
def glm46v() -> tuple[Any, Any]:
    return _glm("Glm46V", {"rope_parameters": _ROPE})


@family("glmga")
def glmga() -> tuple[Any, Any]:
    return _glm("Glmga", {"rope_parameters": _ROPE})


@family("glm4v_moe")
def glm4v_moe() -> tuple[Any, Any]:
    return _glm("Glm4vMoe", {"rope_parameters": _ROPE}, parts="Glm4vMoe")


@family("glm_ocr")
def glm_ocr() -> tuple[Any, Any]:
    whole = {"mrope_section": [2, 3, 3], "partial_rotary_factor": 1.0}
    return _glm("GlmOcr", {"rope_parameters": _ROPE | whole}, parts="GlmOcr")


@family("glm5_next")
def glm5_next() -> tuple[Any, Any]:
    layers = {
        "num_key_value_heads": 4,
        "qk_rope_head_dim": 0,
        "layer_types": ["linear_attention", "indexed_attention"],
        "mlp_layer_types": ["dense", "sparse"],
        "index_kpool": 4,
    }
    sizes = {"min_image_tokens": 1, "max_image_tokens": 6}
    settings, made = _glm("Glm5Next", layers, parts="Glm5Next", opener="<think>", **sizes)
    settings.vision_config.projection_intermediate_size = 48
    return settings, made
