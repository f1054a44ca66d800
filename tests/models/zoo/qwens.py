"""Qwen2-VL's families."""

from typing import Any

import transformers as hf

from . import templates
from .parts import CHATML, DECODER, ids, vocabulary
from .tokenizers import byte_level_tokenizer

__all__ = ["qwen2_5_vl", "qwen2_5_vl_thinking", "qwen2_vl", "qwen3_vl"]


def _qwen_tokenizer() -> Any:
    special = ("<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    return byte_level_tokenizer(CHATML, special, kind="Qwen2TokenizerFast")


def _qwen_ids(tokenizer: Any) -> dict[str, int]:
    return ids(
        tokenizer,
        image_token_id="<|image_pad|>",
        video_token_id="<|video_pad|>",
        vision_start_token_id="<|vision_start|>",
        vision_end_token_id="<|vision_end|>",
    )


def _mrope(*section: int) -> dict[str, Any]:
    return {"rope_scaling": {"type": "default", "rope_type": "default", "mrope_section": list(section)}}


def qwen2_vl() -> tuple[Any, Any]:
    tokenizer = _qwen_tokenizer()
    config = hf.Qwen2VLConfig(
        text_config=DECODER | vocabulary(tokenizer) | _mrope(2, 3, 3),
        vision_config={"depth": 2, "embed_dim": 32, "num_heads": 2, "hidden_size": 64, "mlp_ratio": 2},
        tie_word_embeddings=False,
        **_qwen_ids(tokenizer),
    )
    images = hf.Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=56 * 56)
    processor = hf.Qwen2VLProcessor(images, tokenizer, hf.Qwen2VLVideoProcessor(), chat_template=templates.QWEN)
    return hf.Qwen2VLForConditionalGeneration(config), processor


def qwen2_5_vl(template: str = templates.QWEN) -> tuple[Any, Any]:
    tokenizer = _qwen_tokenizer()
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 64}
    config = hf.Qwen2_5_VLConfig(
        text_config=DECODER | vocabulary(tokenizer) | _mrope(2, 3, 3),
        vision_config=vision | {"fullatt_block_indexes": [1], "window_size": 56},
        tie_word_embeddings=False,
        **_qwen_ids(tokenizer),
    )
    images = hf.Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=56 * 56)
    processor = hf.Qwen2_5_VLProcessor(images, tokenizer, hf.Qwen2VLVideoProcessor(), chat_template=template)
    return hf.Qwen2_5_VLForConditionalGeneration(config), processor


def qwen2_5_vl_thinking() -> tuple[Any, Any]:
    return qwen2_5_vl(templates.QWEN_THINKING)


def qwen3_vl() -> tuple[Any, Any]:
    tokenizer = _qwen_tokenizer()
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 64}
    rope = {"rope_scaling": {"rope_type": "default", "mrope_section": [2, 3, 3], "mrope_interleaved": True}}
    config = hf.Qwen3VLConfig(
        text_config=DECODER | vocabulary(tokenizer) | rope,
        vision_config=vision | {"deepstack_visual_indexes": [0], "num_position_embeddings": 64},
        tie_word_embeddings=False,
        **_qwen_ids(tokenizer),
    )
    images = hf.Qwen2VLImageProcessor(
        patch_size=16,
        size={"shortest_edge": 32 * 32, "longest_edge": 64 * 64},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    processor = hf.Qwen3VLProcessor(images, tokenizer, hf.Qwen3VLVideoProcessor(), chat_template=templates.QWEN)
    return hf.Qwen3VLForConditionalGeneration(config), processor
