"""Families that transformers maps to `AutoModelForMultimodalLM` only."""

from typing import Any

import transformers as hf

from . import templates
from .grids_more import qwen2_5_omni_thinker, qwen3_omni_moe_thinker
from .parts import family, processor, text, tokenizer_of, vision


@family("qwen2_5_omni")
def qwen2_5_omni() -> tuple[Any, Any]:
    thinker, made = qwen2_5_omni_thinker()
    return hf.Qwen2_5OmniConfig(thinker_config=thinker.to_dict(), enable_audio_output=False), made


@family("qwen3_omni_moe")
def qwen3_omni_moe() -> tuple[Any, Any]:
    thinker, made = qwen3_omni_moe_thinker()
    return hf.Qwen3OmniMoeConfig(thinker_config=thinker.to_dict(), enable_audio_output=False), made


@family("phi4_multimodal")
def phi4_multimodal() -> tuple[Any, Any]:
    named = {"image_token": "<|endoftext10|>", "audio_token": "<|endoftext11|>"}
    usual = {"bos_token": "<|endoftext|>", "eos_token": "<|end|>", "pad_token": "<|endoftext|>"}
    tokenizer = tokenizer_of({}, "<|system|>", "<|user|>", "<|assistant|>", usual=usual, **named)
    image = tokenizer.convert_tokens_to_ids("<|endoftext10|>")
    audio = {"hidden_size": 32, "intermediate_size": 48, "num_blocks": 1, "num_attention_heads": 2}
    audio |= {"ext_pw_out_channel": 32, "depthwise_separable_out_channel": 32, "nemo_conv_channels": 16}
    size = {"crop_size": 128, "image_size": 128, "patch_size": 4}  # 256 tokens for one of 32 × 32 patches
    settings = text(
        "Phi4MultimodalConfig",
        tokenizer,
        vision_config=vision("Phi4MultimodalVisionConfig", **size, image_token_id=image).to_dict(),
        audio_config=hf.Phi4MultimodalAudioConfig(
            **audio, audio_token_id=tokenizer.convert_tokens_to_ids("<|endoftext11|>")
        ).to_dict(),
    )
    made = processor(
        "Phi4MultimodalProcessor",
        tokenizer,
        templates.PHI4,
        image_processor=hf.Phi4MultimodalImageProcessor(size={"height": 128, "width": 128}, patch_size=4, dynamic_hd=1),
        audio_processor=hf.Phi4MultimodalFeatureExtractor(),
    )
    return settings, made
