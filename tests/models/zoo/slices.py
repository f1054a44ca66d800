"""Families whose processors cut an image into slices of its own shape, and Nemotron's."""

from typing import Any

import transformers as hf

from . import templates
from .parts import config, family, processor, text, tokenizer_of, vision


def _minicpm(kind: str, language: Any, images: Any, videos: Any, **more: Any) -> tuple[Any, Any]:
    named = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
    named |= {"image_start_token": "<image>", "image_end_token": "</image>"}
    named |= {"slice_start_token": "<slice>", "slice_end_token": "</slice>"}
    named |= {"image_id_start_token": "<image_id>", "image_id_end_token": "</image_id>"}
    tokenizer = tokenizer_of({}, **named)
    tower = vision(f"{kind}VisionConfig", insert_layer_id=0)
    template = templates.chatml("<|image_pad|>")
    made = processor(f"{kind}Processor", tokenizer, template, image_processor=images, video_processor=videos)
    tokens = {"image": "<|image_pad|>", "video": "<|video_pad|>"}
    parts = {"text_config": language(tokenizer), "vision_config": tower, "insert_layer_id": 0}
    return config(f"{kind}Config", tokenizer, tokens, **parts, **more), made


_SLICES = {"scale_resolution": 56, "max_slice_nums": 3}


def _hybrid(tokenizer: Any) -> Any:
    return text("Qwen3_5TextConfig", tokenizer, layer_types=["linear_attention", "full_attention"])


@family("minicpmv4_6")
def minicpmv4_6() -> tuple[Any, Any]:
    images, videos = hf.MiniCPMV4_6ImageProcessor(**_SLICES), hf.MiniCPMV4_6VideoProcessor()
    return _minicpm("MiniCPMV4_6", _hybrid, images, videos, image_size=56)


@family("minicpmv4_7")
def minicpmv4_7() -> tuple[Any, Any]:
    images, videos = hf.MiniCPMV4_6ImageProcessor(**_SLICES), hf.MiniCPMV4_6VideoProcessor()
    return _minicpm("MiniCPMV4_7", _hybrid, images, videos, image_size=56)


@family("minicpm_ocr")
def minicpm_ocr() -> tuple[Any, Any]:
    images, videos = hf.MiniCPMOcrImageProcessor(**_SLICES), hf.MiniCPMOcrVideoProcessor()
    return _minicpm("MiniCPMOcr", _hybrid, images, videos)


@family("nemotron_h_omni")
def nemotron_h_omni() -> tuple[Any, Any]:
    tokens = {"image": "<image>", "video": "<video>", "audio": "<so_embedding>"}
    added = ("<img>", "</img>", "<so_start>", "<so_end>")
    tokenizer = tokenizer_of(tokens, *added)
    layers = {"layer_types": ["linear_attention", "moe", "full_attention", "mlp"], "num_hidden_layers": 4}
    layers |= {"mamba_num_heads": 4, "mamba_head_dim": 8, "ssm_state_size": 8, "n_groups": 2, "chunk_size": 16}
    layers |= {"moe_shared_expert_intermediate_size": 32, "moe_latent_size": None}
    audio = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    parts = {
        "text_config": text("NemotronHConfig", tokenizer, **layers),
        "vision_config": vision("RadioConfig", patch_size=16, max_img_size=64, video_temporal_patch_size=2),
        "audio_config": hf.ParakeetEncoderConfig(
            **audio, subsampling_conv_channels=8, projection_hidden_size=48, projection_bias=True
        ),
        "vision_hidden_size": 32,
        "projector_hidden_size": 48,
    }
    made = processor(
        "NemotronH_Omni_Reasoning_V3Processor",
        tokenizer,
        templates.chatml("<image>\n", opener="<think>\n"),
        image_processor=hf.NemotronH_Omni_Reasoning_V3ImageProcessor(min_num_patches=4, max_num_patches=16),
        video_processor=hf.NemotronH_Omni_Reasoning_V3VideoProcessor(),
        feature_extractor=hf.ParakeetFeatureExtractor(),
    )
    return config("NemotronH_Omni_Reasoning_V3_Config", tokenizer, tokens, **parts), made
