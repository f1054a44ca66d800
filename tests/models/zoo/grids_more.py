"""More families whose processors cut images into a grid of patches."""

from typing import Any

import transformers as hf

from . import templates
from .grids import MROPE, PATCH14, PATCH16, QWEN
from .parts import config, family, ids, kind_of, processor, text, tokenizer_of, vision


@family("hy_v4_vl")
def hy_v4_vl() -> tuple[Any, Any]:
    tokens = {"image": "<|image_pad|>", "video": "<|video_pad|>"}
    tokenizer = tokenizer_of(
        tokens, "<|hy_img|>", "<|hy_/img|>", *templates.HUNYUAN_TOKENS, usual=templates.HUNYUAN_USUAL
    )
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
    parts = {
        "text_config": text("HYV4VLTextConfig", tokenizer, rope_parameters=rope),
        "vision_config": vision("HYV4VLVisionConfig", patch_size=16, max_image_size=64),
    }
    images, videos = hf.HYV4VLImageProcessor(**PATCH16), hf.Qwen2VLVideoProcessor()
    template = templates.hunyuan("<|hy_img|><|image_pad|><|hy_/img|>")
    made = processor("HYV4VLProcessor", tokenizer, template, image_processor=images, video_processor=videos)
    return config("HYV4VLConfig", tokenizer, tokens, **parts), made


@family("hunyuan_vl")
def hunyuan_vl() -> tuple[Any, Any]:
    named = {"image_token": "<|hy_image|>", "image_start_token": "<|hy_image_start|>"}
    named |= {"image_end_token": "<|hy_image_end|>"}
    newline = "<|hy_image_newline|>"
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2, 2]}
    tokenizer = tokenizer_of({}, newline, *templates.HUNYUAN_TOKENS, usual=templates.HUNYUAN_USUAL, **named)
    parts = {
        "text_config": text("HunYuanVLTextConfig", tokenizer, rope_parameters=rope),
        "vision_config": vision("HunYuanVLVisionConfig", patch_size=16, max_image_size=64, min_image_size=32),
    }
    images = hf.HunYuanVLImageProcessor(**PATCH16)
    template = templates.hunyuan("<|hy_image_start|><|hy_image|><|hy_image_end|>")
    made = processor("HunYuanVLProcessor", tokenizer, template, image_processor=images)
    marks = {"im_start_id": "<|hy_image_start|>", "im_end_id": "<|hy_image_end|>", "im_newline_id": newline}
    image = {"image": "<|hy_image|>"}
    return config("HunYuanVLConfig", tokenizer, image, **parts, **ids(tokenizer, **marks)), made


@family("kimi_k25")
def kimi_k25() -> tuple[Any, Any]:
    tokens = {"image": "<|media_pad|>", "video": "<|kimi_k25_video_placeholder|>"}
    tokens |= {"start": "<|media_begin|>", "end": "<|media_end|>"}
    roles = ("<|im_user|>", "<|im_assistant|>", "<|im_system|>", "<|im_middle|>", "<|media_content|>")
    tokenizer = tokenizer_of(tokens, *roles, usual={"eos_token": "<|im_end|>", "pad_token": "[PAD]"})
    layers = {"num_key_value_heads": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
    parts = {
        "text_config": text("DeepseekV3Config", tokenizer, **layers),
        "vision_config": vision("Kimi_K25VisionConfig", pos_emb_height=4, pos_emb_width=4),
    }
    images = hf.Kimi_K25ImageProcessor(size={"max_height": 56, "max_width": 56}, max_patches=16)
    videos = hf.Kimi_K25VideoProcessor()
    made = processor("Kimi_K25Processor", tokenizer, templates.KIMI, image_processor=images, video_processor=videos)
    return config("Kimi_K25Config", tokenizer, tokens, **parts, projection_hidden_size=32), made


@family("minimax_m3_vl")
def minimax_m3_vl() -> tuple[Any, Any]:
    tokens = {"image": "]<]image[>[", "video": "]<]video[>["}
    tokens |= {"start": "]<]start of image[>[", "end": "]<]end of image[>["}
    tokenizer = tokenizer_of(tokens, "]~b]", usual={"bos_token": "]~!b[", "eos_token": "[e~[", "pad_token": "[PAD]"})
    layers = {"layer_types": ["full_attention", "minimax_m3_sparse"], "mlp_layer_types": ["dense", "sparse"]}
    indexer = {"index_n_heads": 2}  # blocks of 128 tokens, as published
    widths = {"dense_intermediate_size": 96, "shared_intermediate_size": 32, "rotary_dim": 8}
    parts = {
        "text_config": text("MiniMaxM3VLTextConfig", tokenizer, **layers, **indexer, **widths),
        "vision_config": vision("MiniMaxM3VLVisionConfig"),
    }
    images = hf.MiniMaxM3VLImageProcessor(**PATCH14)
    made = processor(
        "MiniMaxM3VLProcessor",
        tokenizer,
        templates.MINIMAX,
        image_processor=images,
        video_processor=hf.MiniMaxM3VLVideoProcessor(),
    )
    return config("MiniMaxM3VLConfig", tokenizer, tokens, **parts, projector_hidden_size=48), made


def _muse(kind: str, **more: Any) -> tuple[Any, Any, Any]:
    tokens = {"image": "<|patch|>", "video": "<|video|>", "audio": "<|audio|>"}
    added = ("<|image_start|>", "<|image_end|>", "<|vid_start|>", "<|vid_end|>", "<|vid_frame_separator|>")
    usual = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot|>", "pad_token": "<|finetune_right_pad|>"}
    tokenizer = tokenizer_of(tokens, *added, "<|header_start|>", "<|header_end|>", usual=usual)
    layers = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}
    parts = {
        "text_config": text(f"{kind}TextConfig", tokenizer, **layers, **more),
        "vision_config": vision(f"{kind}VisionConfig", pos_emb_height=4, pos_emb_width=4, max_position_embeddings=16),
    }
    widths = {"out_hidden_size": 128, "projector_hidden_size": 48}
    return tokenizer, tokens, parts | widths


@family("muse_glimmer")
def muse_glimmer() -> tuple[Any, Any]:
    tokenizer, tokens, parts = _muse("MuseGlimmer")
    made = processor(
        "MuseGlimmerProcessor",
        tokenizer,
        templates.llama("<|patch|>", four=True),
        image_processor=hf.MuseGlimmerImageProcessor(max_pixels=56 * 56),
        video_processor=hf.MuseGlimmerVideoProcessor(),
    )
    return config("MuseGlimmerConfig", tokenizer, tokens, **parts), made


@family("muse_spark")
def muse_spark() -> tuple[Any, Any]:
    tokenizer, tokens, parts = _muse("MuseSpark", moe_hidden_size=48)
    sizes = {"patch_sizes": [4, 4], "hidden_sizes": [16, 32], "depths": [1, 1], "num_hidden_layers": 2}
    parts["audio_config"] = hf.MuseSparkAudioConfig(**sizes, out_hidden_size=64)
    made = processor(
        "MuseSparkProcessor",
        tokenizer,
        templates.llama("<|patch|>", four=True),
        image_processor=hf.MuseGlimmerImageProcessor(max_pixels=56 * 56),
        video_processor=hf.MuseGlimmerVideoProcessor(),
        feature_extractor=hf.MuseSparkFeatureExtractor(),
    )
    return config("MuseSparkConfig", tokenizer, tokens, **parts), made


@family("dots3_note")
def dots3_note() -> tuple[Any, Any]:
    tokens = {"image": "<|imgpad|>", "video": "<|video_pad|>", "audio": "<|audio_comp_pad|>"}
    added = ("<|system|>", "<|endofsystem|>", "<|userprompt|>", "<|endofuserprompt|>", "<|response|>")
    usual = {"eos_token": "<|endofresponse|>", "pad_token": "[PAD]"}
    tokenizer = tokenizer_of(tokens, *added, "<|img|>", "<|endofimg|>", usual=usual)
    layers = {
        "num_key_value_heads": 4,
        "layer_types": ["indexed_attention", "sliding_attention"],
        "sliding_window": 16,
        "shared_experts_intermediate_size": 32,
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 4,
        "swa_q_lora_rank": 24,
        "swa_kv_lora_rank": 16,
        "swa_head_dim": 16,
        "swa_qk_nope_head_dim": 8,
        "swa_v_head_dim": 16,
    }
    adapter = {"adapter_in_dim": 32, "adapter_out_dim": 64, "pyramid_num_routed": [-1, 4]}
    audio = {"num_hidden_layers": 1, "adapter_input_size": 32, "adapter_out_dim": 64, "downsample_hidden_size": 8}
    parts = {
        "text_config": text("Dots3NoteTextConfig", tokenizer, **layers),
        "vision_config": vision("Dots3NoteVisionConfig", moe_intermediate_size=32, **adapter),
        "audio_config": vision("Dots3NoteAudioConfig", **audio),
    }
    made = processor(
        "Dots3NoteProcessor",
        tokenizer,
        templates.DOTS,
        image_processor=hf.Qwen2VLImageProcessor(**PATCH14 | {"temporal_patch_size": 1}),
        video_processor=hf.Qwen2VLVideoProcessor(),
        feature_extractor=hf.Dots3NoteFeatureExtractor(),
    )
    return config("Dots3NoteConfig", tokenizer, tokens, **parts), made


_OMNI = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>", "audio_token": "<|audio_pad|>"}
_OMNI |= {"vision_bos_token": "<|vision_start|>", "vision_eos_token": "<|vision_end|>"}
_OMNI |= {"audio_bos_token": "<|audio_start|>", "audio_eos_token": "<|audio_end|>"}


def _omni(kind: str, language: dict[str, Any], **sizes: Any) -> tuple[Any, Any]:
    tokenizer = tokenizer_of({}, usual=None, **_OMNI)
    audio = {"d_model": 32, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 48}
    audio |= {"num_mel_bins": 16, "output_dim": 64}
    audio_config = kind_of(f"{kind}AudioEncoderConfig")
    parts = {
        "text_config": text(f"{kind}TextConfig", tokenizer, rope_parameters=MROPE, **language),
        "vision_config": vision(f"{kind}VisionEncoderConfig", **sizes),
        "audio_config": audio_config(**audio),
    }
    made = processor(
        f"{kind}Processor",
        tokenizer,
        templates.QWEN,
        image_processor=hf.Qwen2VLImageProcessor(**PATCH16 if "patch_size" in sizes else PATCH14),
        video_processor=hf.Qwen2VLVideoProcessor(),
        feature_extractor=hf.WhisperFeatureExtractor(feature_size=16),
    )
    # Checkpoints name them, the classes do not.
    marks = ids(tokenizer, vision_start_token_id="<|vision_start|>", vision_end_token_id="<|vision_end|>")
    return config(f"{kind}ThinkerConfig", tokenizer, QWEN | {"audio": "<|audio_pad|>"}, **parts, **marks), made


@family("qwen2_5_omni_thinker")
def qwen2_5_omni_thinker() -> tuple[Any, Any]:
    return _omni("Qwen2_5Omni", {}, fullatt_block_indexes=[1], window_size=56)


@family("qwen3_omni_moe_thinker")
def qwen3_omni_moe_thinker() -> tuple[Any, Any]:
    sizes = {"patch_size": 16, "deepstack_visual_indexes": [0], "num_position_embeddings": 64}
    return _omni("Qwen3OmniMoe", {"decoder_sparse_step": 1}, **sizes)
