"""Families that turn an image into tokens of their vocabulary, and Inkling's, whose images are patches of 40 pixels."""

from typing import Any

import transformers as hf

from . import templates
from .parts import config, family, ids, processor, text, tokenizer_of, vision

_CODES = 16
_INKLING = ("<|message_user|>", "<|message_model|>", "<|message_system|>", "<|content_text|>", "<|content_image|>")


@family("apertus1p5")
def apertus1p5() -> tuple[Any, Any]:
    named = {"image_token": "<|img|>", "boi_token": "<|img_start|>", "eoi_token": "<|img_end|>"}
    named |= {"image_wrapper_token": "<|img_token_start|>", "eol_token": "<|img_end_of_row|>"}
    named |= {"audio_token": "<|audio|>", "boa_token": "<|audio_start|>", "eoa_token": "<|audio_end|>"}
    usual = {"bos_token": "<s>", "eos_token": "<|assistant_end|>", "pad_token": "<pad>"}
    codes = tuple(f"<|visual token {code:06d}|>" for code in range(_CODES))
    roles = tuple(f"<|{role}_{end}|>" for role in ("system", "user", "assistant") for end in ("start", "end"))
    sounds = tuple(f"<|audio token {code:06d}|>" for code in range(_CODES))
    tokenizer = tokenizer_of({}, *codes, *sounds, *roles, usual=usual, **named)
    audio = {"codebook_size": _CODES, "num_filters": 4, "hidden_size": 16, "codebook_dim": 16, "num_lstm_layers": 1}
    tower = {"codebook_size": _CODES, "embed_dim": 8, "latent_channels": 8, "base_channels": 32}
    tower |= {"channel_multiplier": [1, 1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [], "resolution": 64}
    parts = {
        "text_config": text("Apertus1p5TextConfig", tokenizer),
        "vision_config": hf.Apertus1p5VisionTokenizerConfig(**tower),
        "audio_config": hf.WavTokenizerEncoderConfig(**audio),
        "image_token_offset": tokenizer.convert_tokens_to_ids(codes[0]),
        "audio_token_offset": tokenizer.convert_tokens_to_ids(sounds[0]),
    }
    made = processor(
        "Apertus1p5Processor",
        tokenizer,
        templates.APERTUS,
        image_processor=hf.Apertus1p5ImageProcessor(size={"min_pixels": 32 * 32, "max_pixels": 64 * 64}),
        feature_extractor=hf.EncodecFeatureExtractor(),
    )
    return config("Apertus1p5Config", tokenizer, {"image": "<|img|>", "audio": "<|audio|>"}, **parts), made


def _quantizer(kind: str, **more: Any) -> Any:
    sizes = {"embed_dim": 8, "latent_channels": 8, "base_channels": 32, "num_res_blocks": 1}
    return getattr(hf, kind)(**sizes | more)


@family("chameleon")
def chameleon() -> tuple[Any, Any]:
    named = {"image_token": "<image>", "boi_token": "<racm3:break>", "eoi_token": "<eoss>"}
    codes = tuple(f"IMGIMG{chr(ord('A') + code // 10)}{chr(ord('A') + code % 10)}Z" for code in range(_CODES))
    usual = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "sep_token": "<reserved08706>"}
    tokenizer = tokenizer_of({}, *codes, usual=usual, **named)
    settings = text(
        "ChameleonConfig",
        tokenizer,
        vq_config=_quantizer(
            "ChameleonVQVAEConfig", num_embeddings=_CODES, resolution=32, channel_multiplier=[1, 1, 1, 1]
        ),
        vocabulary_map=ids(tokenizer, **{token: token for token in (*codes, "<image>")}),
        num_key_value_heads=4,
    )
    images = hf.ChameleonImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    made = processor("ChameleonProcessor", tokenizer, templates.CHAMELEON, image_processor=images, image_seq_length=16)
    return settings, made


@family("emu3")
def emu3() -> tuple[Any, Any]:
    named = {"image_token": "<image>", "boi_token": "<|image start|>", "eoi_token": "<|image end|>"}
    named |= {"image_wrapper_token": "<|image token|>", "eof_token": "<|extra_201|>"}
    codes = tuple(f"<|visual token {code:06d}|>" for code in range(_CODES))
    usual = {"bos_token": "<|extra_203|>", "eos_token": "<|extra_204|>", "pad_token": "<|endoftext|>"}
    tokenizer = tokenizer_of({}, *codes, "<|extra_200|>", usual=usual, **named)
    kept = (*codes, "<image>", "<|extra_200|>")
    quantizer = {"codebook_size": _CODES, "channel_multiplier": [1, 1, 1, 1], "hidden_size": 32}
    parts = {
        "text_config": text("Emu3TextConfig", tokenizer),
        "vq_config": _quantizer("Emu3VQVAEConfig", **quantizer, attn_resolutions=[], temporal_downsample_factor=1),
        "vocabulary_map": ids(tokenizer, **{token: token for token in kept}),
    }
    images = hf.Emu3ImageProcessor(min_pixels=32 * 32, max_pixels=64 * 64)
    made = processor("Emu3Processor", tokenizer, templates.EMU3, image_processor=images)
    return config("Emu3Config", tokenizer, {}, **parts), made


def _inkling(language: str, tower: Any, made: Any, kind: str, **more: Any) -> tuple[Any, Any]:
    tokenizer = made.tokenizer
    layers = {"num_hidden_layers": 2, "layer_types": ["hybrid_sliding", "hybrid"], "sliding_window_size": 16}
    layers |= {"swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 16, "d_rel": 4}
    layers |= {"rel_extent": 32, "unpadded_vocab_size": len(tokenizer)}
    parts = {"text_config": text(language, tokenizer, **layers | more), "vision_config": tower}
    return parts, made


def _inkling_tokenizer() -> Any:
    usual = {"eos_token": "<|end_message|>", "pad_token": "<|pad|>"}
    return tokenizer_of(
        {"image": "<|unused_200054|>", "audio": "<|unused_200053|>"}, *_INKLING, "<|content_audio_input|>", usual=usual
    )


def _second(kind: str, **more: Any) -> tuple[Any, Any]:
    tokenizer = _inkling_tokenizer()
    images = hf.Inkling2ImageProcessor()
    made = processor("Inkling2Processor", tokenizer, templates.INKLING, image_processor=images)
    tower = vision("Inkling2VisionConfig", patch_size=20, posemb_grid_size=4, projection_hidden_dim=48)
    more.setdefault("n_layers_per_attn_res_block", 1)
    parts, made = _inkling(f"{kind}TextConfig", tower, made, kind, **more)
    return config(f"{kind}Config", tokenizer, {"image": "<|unused_200054|>"}, **parts), made


@family("inkling2")
def inkling2() -> tuple[Any, Any]:
    return _second("Inkling2")


@family("inkling2_loop")
def inkling2_loop() -> tuple[Any, Any]:
    loop = {"loop_layer_index_start": 1, "loop_layer_index_end": 2, "loop_num_passes": 2, "loop_gate_rank": 4}
    return _second("Inkling2Loop", **loop)


@family("inkling_mm_model")
def inkling_mm_model() -> tuple[Any, Any]:
    tokenizer = _inkling_tokenizer()
    made = processor(
        "InklingProcessor",
        tokenizer,
        templates.INKLING,
        image_processor=hf.InklingImageProcessor(),
        feature_extractor=hf.InklingFeatureExtractor(),
    )
    tower = hf.InklingVisionConfig(text_hidden_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
    more = {"mlp_layer_types": ["dense", "sparse"], "logits_mup_width_multiplier": 1.0, "n_shared_experts": 1}
    parts, made = _inkling("InklingTextConfig", tower, made, "Inkling", **more)
    parts["audio_config"] = hf.InklingAudioConfig(n_mel_bins=16, mel_vocab_size=16, text_hidden_size=64)
    marks = ids(tokenizer, image_bos_token_id="<|content_image|>", audio_bos_token_id="<|content_audio_input|>")
    tokens = {"image": "<|unused_200054|>", "audio": "<|unused_200053|>"}
    return config("InklingConfig", tokenizer, tokens, **parts, **marks), made
