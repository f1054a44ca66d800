"""Families whose processors cut images of any size into a grid of patches, as Qwen2-VL's does."""

from typing import Any

import transformers as hf

from . import templates
from .parts import config, family, processor, text, tokenizer_of, vision

__all__ = ["MROPE", "PATCH14", "PATCH16", "QWEN"]

QWEN = {"image": "<|image_pad|>", "video": "<|video_pad|>", "start": "<|vision_start|>", "end": "<|vision_end|>"}
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
PATCH14 = {"patch_size": 14, "size": {"shortest_edge": 28 * 28, "longest_edge": 56 * 56}}
PATCH16 = {"patch_size": 16, "size": {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}}
_HYBRID = {"layer_types": ["linear_attention", "full_attention"]}


def _qwen3(kind: str, template: str, **more: Any) -> tuple[Any, Any]:
    """Return a model after Qwen3-VL: a config of that class, and parts that are named after it."""
    tokenizer = tokenizer_of(QWEN)
    rope = MROPE | {"mrope_interleaved": True, "partial_rotary_factor": 1.0}
    sizes = {"patch_size": 16, "num_position_embeddings": 64}
    if kind.startswith("Qwen3VL"):
        sizes["deepstack_visual_indexes"] = [0]
    made = processor(
        "Qwen3VLProcessor",
        tokenizer,
        template,
        image_processor=hf.Qwen2VLImageProcessor(**PATCH16),
        video_processor=hf.Qwen3VLVideoProcessor(),
    )
    language = text(f"{kind}TextConfig", tokenizer, rope_parameters=rope, **more)
    parts = {"text_config": language, "vision_config": vision(f"{kind}VisionConfig", **sizes)}
    return config(f"{kind}Config", tokenizer, QWEN, **parts), made


@family("qwen3_vl_moe")
def qwen3_vl_moe() -> tuple[Any, Any]:
    return _qwen3("Qwen3VLMoe", templates.QWEN, decoder_sparse_step=1)


@family("qwen3_5")
def qwen3_5() -> tuple[Any, Any]:
    return _qwen3("Qwen3_5", templates.QWEN_THINKING, **_HYBRID)


@family("qwen3_5_moe")
def qwen3_5_moe() -> tuple[Any, Any]:
    return _qwen3("Qwen3_5Moe", templates.QWEN_THINKING, **_HYBRID)


@family("qwen4_exp")
def qwen4_exp() -> tuple[Any, Any]:
    indexer = {"indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 16}
    indexer |= {"indexer_budget": 64, "indexer_compress_ratio": 4}
    return _qwen3("Qwen4Exp", templates.QWEN_THINKING, **_HYBRID, **indexer)


@family("cosmos3_omni")
def cosmos3_omni() -> tuple[Any, Any]:
    settings, made = _qwen3("Qwen3VL", templates.QWEN)
    parts = {"text_config": settings.text_config, "vision_config": settings.vision_config}
    return config("Cosmos3OmniConfig", made.tokenizer, QWEN, **parts), made


@family("cosmos3_edge")
def cosmos3_edge() -> tuple[Any, Any]:
    tokenizer = tokenizer_of(QWEN)
    parts = {
        "text_config": text("Cosmos3EdgeTextConfig", tokenizer, rope_parameters=MROPE),
        "vision_config": vision("Cosmos3EdgeVisionConfig", patch_size=16, num_patches=16),
    }
    images = hf.Cosmos3EdgeImageProcessor(**PATCH16)
    videos = hf.Qwen3VLVideoProcessor()
    made = processor("Cosmos3EdgeProcessor", tokenizer, templates.QWEN, image_processor=images, video_processor=videos)
    return config("Cosmos3EdgeConfig", tokenizer, QWEN, **parts, projector_hidden_size=48), made


@family("exaone4_5")
def exaone4_5() -> tuple[Any, Any]:
    tokens = {"image": "<|image_pad|>", "video": "<|video_pad|>"}
    usual = {"bos_token": "[BOS]", "eos_token": "<|endofturn|>", "pad_token": "[PAD]"}
    tokenizer = tokenizer_of(tokens, "<|system|>", "<|user|>", "<|assistant|>", "<vision>", "</vision>", usual=usual)
    window = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
    parts = {
        "text_config": text("Exaone4Config", tokenizer, **window),
        "vision_config": vision("Exaone4_5_VisionConfig", fullatt_block_indexes=[1], window_size=56),
    }
    images, videos = hf.Qwen2VLImageProcessor(**PATCH14), hf.Qwen2VLVideoProcessor()
    made = processor("Exaone4_5_Processor", tokenizer, templates.EXAONE, image_processor=images, video_processor=videos)
    return config("Exaone4_5_Config", tokenizer, tokens, **parts), made


@family("hyperclovax_vision_v2")
def hyperclovax_vision_v2() -> tuple[Any, Any]:
    tokens = {"image": "<|image_pad|>", "video": "<|video_pad|>"}
    tokenizer = tokenizer_of(tokens, "<|image_start|>", "<|image_end|>")
    parts = {
        "text_config": text("HyperCLOVAXConfig", tokenizer),
        "vision_config": vision("Qwen2_5_VLVisionConfig", fullatt_block_indexes=[1], window_size=56),
    }
    images, videos = hf.Qwen2VLImageProcessor(**PATCH14), hf.Qwen2VLVideoProcessor()
    template = templates.chatml("<|image_start|><|image_pad|><|image_end|>")
    made = processor(
        "HyperCLOVAXVisionV2Processor", tokenizer, template, image_processor=images, video_processor=videos
    )
    return config("HyperCLOVAXVisionV2Config", tokenizer, tokens, **parts), made


@family("cohere_compass")
def cohere_compass() -> tuple[Any, Any]:
    tokens = {"image": "<|IMAGE_PAD|>", "video": "<|VIDEO_PAD|>", "start": "<|VISION_START|>", "end": "<|VISION_END|>"}
    tokenizer = tokenizer_of(tokens, *templates.COHERE_TOKENS, usual=templates.COHERE_USUAL)
    rope = {"full_attention": MROPE, "sliding_attention": MROPE}
    layers = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16, "rope_parameters": rope}
    parts = {
        "text_config": text("CohereCompassTextConfig", tokenizer, **layers),
        "vision_config": vision("CohereCompassVisionConfig", deepstack_visual_indexes=[0], num_position_embeddings=64),
    }
    template = templates.cohere("<|VISION_START|><|IMAGE_PAD|><|VISION_END|>")
    images, videos = hf.CohereCompassImageProcessor(**PATCH14), hf.CohereCompassVideoProcessor()
    made = processor("CohereCompassProcessor", tokenizer, template, image_processor=images, video_processor=videos)
    return config("CohereCompassConfig", tokenizer, tokens, **parts), made


@family("lfm3_vl")
def lfm3_vl() -> tuple[Any, Any]:
    tokenizer = tokenizer_of(QWEN, usual=templates.LFM_USUAL)
    parts = {
        "text_config": text("Lfm3Config", tokenizer, layer_types=["conv", "full_attention"]),
        "vision_config": vision("Lfm3VlVisionConfig", layer_types=["conv", "full_attention"], patch_size=16),
    }
    images, videos = hf.Qwen2VLImageProcessor(**PATCH16), hf.Qwen3VLVideoProcessor()
    template = templates.chatml("<|vision_start|><|image_pad|><|vision_end|>", bos="{{ bos_token }}")
    made = processor("Lfm3VlProcessor", tokenizer, template, image_processor=images, video_processor=videos)
    return config("Lfm3VlConfig", tokenizer, QWEN, **parts, projector_hidden_size=48), made


@family("video_llama_3")
def video_llama_3() -> tuple[Any, Any]:
    tokens = {"image": "<image>", "video": "<video>"}
    tokenizer = tokenizer_of(tokens, image_token="<image>", video_token="<video>")
    parts = {
        "text_config": text("Qwen2Config", tokenizer),
        "vision_config": vision("VideoLlama3VisionConfig"),
    }
    images = hf.VideoLlama3ImageProcessor(min_pixels=28 * 28, max_pixels=56 * 56, merge_size=1)
    made = processor(
        "VideoLlama3Processor",
        tokenizer,
        templates.chatml("<image>\n"),
        image_processor=images,
        video_processor=hf.VideoLlama3VideoProcessor(),
    )
    return config("VideoLlama3Config", tokenizer, tokens, **parts), made


@family("paddleocr_vl")
def paddleocr_vl() -> tuple[Any, Any]:
    tokens = {"image": "<|IMAGE_PLACEHOLDER|>", "start": "<|IMAGE_START|>", "end": "<|IMAGE_END|>"}
    usual = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<unk>", "cls_token": "<|begin_of_sentence|>"}
    tokenizer = tokenizer_of(tokens, "<|end_of_sentence|>", usual=usual, image_token="<|IMAGE_PLACEHOLDER|>")
    parts = {
        "text_config": text("PaddleOCRTextConfig", tokenizer, rope_parameters=MROPE),
        "vision_config": vision("PaddleOCRVisionConfig"),
    }
    images = hf.PaddleOCRVLImageProcessor(size={"shortest_edge": 28 * 28, "longest_edge": 56 * 56})
    made = processor("PaddleOCRVLProcessor", tokenizer, templates.PADDLE, image_processor=images)
    return config("PaddleOCRVLConfig", tokenizer, tokens, **parts), made


@family("ernie4_5_vl_moe")
def ernie4_5_vl_moe() -> tuple[Any, Any]:
    named = {"image_token": "<|IMAGE_PLACEHOLDER|>", "image_start_token": "<|IMAGE_START|>"}
    named |= {"image_end_token": "<|IMAGE_END|>", "video_token": "<|VIDEO_PLACEHOLDER|>"}
    named |= {"video_start_token": "<|VIDEO_START|>", "video_end_token": "<|VIDEO_END|>"}
    tokens = {name.removesuffix("_token").removeprefix("image_"): token for name, token in named.items()}
    usual = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<unk>", "cls_token": "<|begin_of_sentence|>"}
    tokenizer = tokenizer_of({}, "<|end_of_sentence|>", usual=usual, **named)
    parts = {
        "text_config": text(
            "Ernie4_5_VLMoeTextConfig",
            tokenizer,
            rope_parameters=MROPE | {"mrope_section": [3, 3, 2]},
            moe_intermediate_size=[32, 16],
        ),
        "vision_config": vision("Ernie4_5_VLMoeVisionConfig"),
    }
    images, videos = hf.Ernie4_5_VLMoeImageProcessor(**PATCH14), hf.Ernie4_5_VLMoeVideoProcessor()
    made = processor(
        "Ernie4_5_VLMoeProcessor", tokenizer, templates.ERNIE, image_processor=images, video_processor=videos
    )
    return config("Ernie4_5_VLMoeConfig", tokenizer, tokens, **parts), made
