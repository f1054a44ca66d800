"""Gemma's families, and T5Gemma's."""

from typing import Any

import transformers as hf

from . import templates
from .parts import config, family, kind_of, processor, text, vision
from .tokenizers import sentence_piece_tokenizer

_USUAL = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
_LAYERS = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}
_SQUARE = {"height": 56, "width": 56}
_THREE = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}


def _tokenizer(named: dict[str, str], *added: str) -> Any:
    return sentence_piece_tokenizer(_USUAL | named, added, prepended=False)


def _gemma3(kind: str, name: str, template: str) -> tuple[Any, Any]:
    tokenizer = _tokenizer(_THREE, "<start_of_turn>", "<end_of_turn>")
    parts = {
        "text_config": text("Gemma3TextConfig", tokenizer, **_LAYERS, query_pre_attn_scalar=16),
        "vision_config": vision("SiglipVisionConfig"),
        "mm_tokens_per_image": 4,
    }
    images = hf.Gemma3ImageProcessor(size=_SQUARE)
    made = processor(name, tokenizer, template, image_processor=images, image_seq_length=4)
    tokens = {"image": "<image_soft_token>", "start": "<start_of_image>", "end": "<end_of_image>"}
    return config(f"{kind}Config", tokenizer, tokens, **parts), made


@family("shieldgemma2")
def shieldgemma2() -> tuple[Any, Any]:
    return _gemma3("ShieldGemma2", "ShieldGemma2Processor", templates.GEMMA3)


@family("gemma3n")
def gemma3n() -> tuple[Any, Any]:
    named = _THREE | {
        "boa_token": "<start_of_audio>",
        "eoa_token": "<end_of_audio>",
        "audio_token": "<audio_soft_token>",
    }
    tokenizer = _tokenizer(named, "<start_of_turn>", "<end_of_turn>")
    layers = {"num_kv_shared_layers": 0, "altup_num_inputs": 2, "laurel_rank": 8, "hidden_size_per_layer_input": 8}
    layers |= {"vocab_size_per_layer_input": len(tokenizer), "activation_sparsity_pattern": [0.5, 0.0]}
    from timm.models._efficientnet_builder import decode_arch_def

    stages = [
        ["er_r1_k3_s2_e2_c32"],
        ["uir_r1_a3_k3_s2_e2_c32"],
        ["uir_r1_a3_k3_s2_e2_c32"],
        ["uir_r1_a3_k3_s1_e2_c32"],
    ]
    tower = {
        "architecture": "mobilenetv5_300m_enc",
        "model_args": {
            "block_args": decode_arch_def(stages),
            "stem_size": 16,
            "msfa_indices": [-2, -1],
            "msfa_output_resolution": 4,
        },
    }
    audio = {"hidden_size": 32, "conf_num_attention_heads": 2, "conf_num_hidden_layers": 1}
    audio |= {"sscp_conv_channel_size": [8, 8], "vocab_offset": len(tokenizer)}
    parts = {
        "text_config": text("Gemma3nTextConfig", tokenizer, **_LAYERS, **layers),
        "vision_config": hf.Gemma3nVisionConfig(**tower, hidden_size=2048, vocab_offset=len(tokenizer)),
        "audio_config": hf.Gemma3nAudioConfig(**audio),
        "vision_soft_tokens_per_image": 16,
    }
    made = processor(
        "Gemma3nProcessor",
        tokenizer,
        templates.GEMMA3.replace("<start_of_image>", "<image_soft_token>"),
        image_processor=hf.SiglipImageProcessor(size={"height": 128, "width": 128}, do_normalize=False),
        feature_extractor=hf.Gemma3nAudioFeatureExtractor(),
        image_seq_length=16,
    )
    tokens = {"image": "<image_soft_token>", "start": "<start_of_image>", "end": "<end_of_image>"}
    tokens["audio"] = "<audio_soft_token>"
    return config("Gemma3nConfig", tokenizer, tokens, **parts), made


_FOUR = {"image": "<|image|>", "video": "<|video|>", "audio": "<|audio|>", "start": "<|image>", "end": "<image|>"}


def gemma4_parts(kind: str = "Gemma4") -> tuple[Any, Any]:
    """Return tokenizer and processor of Gemma 4, or of what is called after it."""
    named = {"image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>"}
    named |= {"audio_token": "<|audio|>", "boa_token": "<|audio>", "eoa_token": "<audio|>"}
    tokenizer = _tokenizer(named, "<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|video|>")
    made = processor(
        f"{kind}Processor",
        tokenizer,
        templates.GEMMA4,
        image_processor=kind_of(f"{kind}ImageProcessor")(patch_size=8, max_soft_tokens=70),
        video_processor=kind_of(f"{kind}VideoProcessor")(),
        feature_extractor=kind_of(f"{kind}AudioFeatureExtractor")(),
    )
    return tokenizer, made


def _gemma4(kind: str, tower: Any, **language: Any) -> tuple[Any, Any]:
    tokenizer, made = gemma4_parts(kind)
    layers = {"global_head_dim": 16, "final_logit_softcapping": 30.0}
    parts = {
        "text_config": text(f"{kind}TextConfig", tokenizer, **_LAYERS, **layers, **language),
        "vision_config": tower,
        "audio_config": None,
    }
    return config(f"{kind}Config", tokenizer, _FOUR, **parts), made


@family("gemma4")
def gemma4() -> tuple[Any, Any]:
    tower = vision("Gemma4VisionConfig", patch_size=8, position_embedding_size=64)
    sizes = {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 1024}
    return _gemma4("Gemma4", tower, **sizes, num_experts=None, moe_intermediate_size=None)


@family("gemma4_unified")
def gemma4_unified() -> tuple[Any, Any]:
    sizes = {"patch_size": 8, "mm_embed_dim": 48, "mm_posemb_size": 64, "output_proj_dims": 48}
    return _gemma4("Gemma4Unified", hf.Gemma4UnifiedVisionConfig(**sizes))


@family("t5gemma2")
def t5gemma2() -> tuple[Any, Any]:
    tokenizer = _tokenizer(_THREE, "<start_of_turn>", "<end_of_turn>")
    tokens = {"image": "<image_soft_token>", "start": "<start_of_image>", "end": "<end_of_image>"}
    layers = {**_LAYERS, "query_pre_attn_scalar": 16}
    parts = {
        "text_config": text("T5Gemma2TextConfig", tokenizer, **layers),
        "vision_config": vision("SiglipVisionConfig"),
        "mm_tokens_per_image": 4,
    }
    encoder = config("T5Gemma2EncoderConfig", tokenizer, tokens, **parts)
    decoder = text("T5Gemma2DecoderConfig", tokenizer, **layers)
    images = hf.Gemma3ImageProcessor(size=_SQUARE)
    made = processor("Gemma3Processor", tokenizer, templates.GEMMA3, image_processor=images, image_seq_length=4)
    return config("T5Gemma2Config", tokenizer, tokens, encoder=encoder, decoder=decoder), made
