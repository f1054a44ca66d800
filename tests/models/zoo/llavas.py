"""Families after LLaVA: an encoder of one size, a projector, a language model of any kind."""

from typing import Any

import transformers as hf

from . import templates
from .parts import config, family, kind_of, processor, text, tokenizer_of, vision
from .tokenizers import sentence_piece_tokenizer

_LLAMA = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
_SQUARE = {"height": 56, "width": 56}
_CLIP = {"size": {"shortest_edge": 56}, "crop_size": _SQUARE}
_GRID = [[56, 56], [56, 112], [112, 56]]
_SELECTED = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
_IMAGE = {"image": "<image>", "video": "<video>"}


def _vicuna(tokens: dict[str, str] = _IMAGE) -> Any:
    return sentence_piece_tokenizer(_LLAMA, tuple(tokens.values()))


@family("llava_next")
def llava_next() -> tuple[Any, Any]:
    tokenizer = sentence_piece_tokenizer(_LLAMA, ("<image>",))
    parts = {
        "text_config": text("MistralConfig", tokenizer, sliding_window=None),
        "vision_config": vision("CLIPVisionConfig"),
        "image_grid_pinpoints": _GRID,
    }
    images = hf.LlavaNextImageProcessor(**_CLIP, image_grid_pinpoints=_GRID)
    made = processor("LlavaNextProcessor", tokenizer, templates.LLAVA_NEXT, image_processor=images, **_SELECTED)
    return config("LlavaNextConfig", tokenizer, _IMAGE, **parts), made


@family("llava_next_video")
def llava_next_video() -> tuple[Any, Any]:
    tokenizer = _vicuna()
    parts = {
        "text_config": text("LlamaConfig", tokenizer),
        "vision_config": vision("CLIPVisionConfig"),
        "image_grid_pinpoints": _GRID,
    }
    made = processor(
        "LlavaNextVideoProcessor",
        tokenizer,
        templates.LLAVA,
        image_processor=hf.LlavaNextImageProcessor(**_CLIP, image_grid_pinpoints=_GRID),
        video_processor=hf.LlavaNextVideoVideoProcessor(),
        **_SELECTED,
    )
    return config("LlavaNextVideoConfig", tokenizer, _IMAGE, **parts), made


@family("vipllava")
def vipllava() -> tuple[Any, Any]:
    tokenizer = _vicuna()
    parts = {
        "text_config": text("LlamaConfig", tokenizer),
        "vision_config": vision("CLIPVisionConfig"),
        "vision_feature_layer": [-2, -1],
        "vision_feature_layers": [-2, -1],  # in transformers 4
    }
    images = hf.CLIPImageProcessor(**_CLIP)
    made = processor("LlavaProcessor", tokenizer, templates.VIPLLAVA, image_processor=images, **_SELECTED)
    return config("VipLlavaConfig", tokenizer, _IMAGE, **parts), made


@family("video_llava")
def video_llava() -> tuple[Any, Any]:
    tokenizer = _vicuna()
    parts = {"text_config": text("LlamaConfig", tokenizer), "vision_config": vision("CLIPVisionConfig")}
    made = processor(
        "VideoLlavaProcessor",
        tokenizer,
        templates.LLAVA,
        image_processor=hf.VideoLlavaImageProcessor(**_CLIP),
        video_processor=hf.VideoLlavaVideoProcessor(**_CLIP),
        **_SELECTED,
    )
    return config("VideoLlavaConfig", tokenizer, _IMAGE, **parts), made


@family("fast_vlm")
def fast_vlm() -> tuple[Any, Any]:
    tokenizer = tokenizer_of(_IMAGE)
    tower = {"architecture": "fastvit_mci3", "do_pooling": True, "num_classes": 0, "hidden_size": 32}
    tower["model_args"] = {"layers": [2, 2], "embed_dims": [8, 16], "mlp_ratios": [4, 4], "se_downsamples": [False] * 2}
    tower["model_args"] |= {"downsamples": [False, True], "pos_embs": [None] * 2, "token_mixers": ["repmixer"] * 2}
    tower["model_args"] |= {"lkc_use_act": True, "stem_use_scale_branch": False}
    parts = {"text_config": text("Qwen2Config", tokenizer), "vision_config": hf.TimmWrapperConfig(**tower)}
    images = hf.CLIPImageProcessor(**_CLIP)
    made = processor("LlavaProcessor", tokenizer, templates.chatml("<image>\n"), image_processor=images, patch_size=8)
    return config("FastVlmConfig", tokenizer, _IMAGE, **parts), made


def _granite_tokens() -> Any:
    usual = {"bos_token": "<|end_of_text|>", "eos_token": "<|end_of_text|>", "pad_token": "<|pad|>"}
    return tokenizer_of(_IMAGE, "<|start_of_role|>", "<|end_of_role|>", usual=usual)


@family("granite4_vision")
def granite4_vision() -> tuple[Any, Any]:
    tokenizer = _granite_tokens()
    tower = vision("SiglipVisionConfig", hidden_size=64, image_size=64, patch_size=16)
    parts = {
        "text_config": text("Granite4VisionTextConfig", tokenizer),
        "vision_config": tower,
        "qformer_config": hf.Blip2QFormerConfig(num_hidden_layers=1, intermediate_size=48, vocab_size=8),
        "image_grid_pinpoints": [[64, 64], [64, 128]],
        "downsample_rate": "2/4",
        "deepstack_layer_map": [[-1, 0]],
        "spatial_target_layers": [1, 1, 1, 1],
        "vision_feature_select_strategy": "full",
    }
    square = {"size": {"height": 64, "width": 64}, "crop_size": {"height": 64, "width": 64}}
    made = processor(
        "Granite4VisionProcessor",
        tokenizer,
        templates.GRANITE,
        image_processor=hf.LlavaNextImageProcessor(**square, image_grid_pinpoints=[[64, 64], [64, 128]]),
        patch_size=16,
        vision_feature_select_strategy="full",
        downsample_rate="2/4",
    )
    return config("Granite4VisionConfig", tokenizer, _IMAGE, **parts), made


@family("aya_vision")
def aya_vision() -> tuple[Any, Any]:
    tokens = {"image": "<|IMG_PATCH|>", "start": "<|START_OF_IMG|>", "end": "<|END_OF_IMG|>"}
    added = ("<image>", "<|IMG_LINE_BREAK|>", "TILE_GLOBAL", "TILE", *templates.COHERE_TOKENS)
    tokenizer = tokenizer_of(tokens, *added, usual=templates.COHERE_USUAL)
    layers = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}
    parts = {
        "text_config": text("Cohere2Config", tokenizer, **layers),
        "vision_config": vision("SiglipVisionConfig"),
        "adapter_layer_norm_eps": 1e-6,
    }
    made = processor(
        "AyaVisionProcessor",
        tokenizer,
        templates.cohere("<image>"),
        image_processor=hf.GotOcr2ImageProcessor(size=_SQUARE, crop_to_patches=True, max_patches=3),
        patch_size=14,
        img_size=56,
        downsample_factor=2,
    )
    return config("AyaVisionConfig", tokenizer, tokens, **parts), made


@family("cohere2_vision")
def cohere2_vision() -> tuple[Any, Any]:
    named = {"image_token": "<|IMG_PATCH|>", "boi_token": "<|START_OF_IMG|>", "eoi_token": "<|END_OF_IMG|>"}
    named["img_line_break_token"] = "<|IMG_LINE_BREAK|>"
    tokenizer = tokenizer_of({}, *templates.COHERE_TOKENS, usual=templates.COHERE_USUAL, **named)
    layers = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}
    parts = {
        "text_config": text("Cohere2Config", tokenizer, **layers),
        "vision_config": vision("SiglipVisionConfig"),
        "alignment_intermediate_size": 48,
    }
    images = kind_of("Cohere2VisionImageProcessor")(size=_SQUARE, max_patches=3, patch_size=2)
    template = templates.cohere("<|IMG_PATCH|>", "<|START_RESPONSE|>")
    made = processor("Cohere2VisionProcessor", tokenizer, template, image_processor=images)
    return config("Cohere2VisionConfig", tokenizer, {"image": "<|IMG_PATCH|>"}, **parts), made


@family("aria")
def aria() -> tuple[Any, Any]:
    tokenizer = tokenizer_of({}, "<fim_prefix>", "<fim_suffix>", image_token="<|img|>")
    parts = {
        "text_config": text("AriaTextConfig", tokenizer, intermediate_size=32),
        "vision_config": vision("Idefics3VisionConfig", image_size=490, patch_size=70),
        "projector_patch_to_query_dict": {49: 4, 196: 4},
    }
    images = hf.AriaImageProcessor(max_image_size=490)
    template = templates.chatml("<fim_prefix><|img|><fim_suffix>")
    made = processor("AriaProcessor", tokenizer, template, image_processor=images, size_conversion={490: 4, 980: 4})
    made.images_kwargs = {
        "max_image_size": 490,
        "split_image": False,
    }  # otherwise 980, whatever the image processor says
    return config("AriaConfig", tokenizer, {"image": "<|img|>"}, **parts), made


@family("perception_lm")
def perception_lm() -> tuple[Any, Any]:
    usual = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "pad_token": "<|pad|>"}
    named = {"image_token": "<|image|>", "video_token": "<|video|>"}
    tokenizer = tokenizer_of({}, "<|start_header_id|>", "<|end_header_id|>", usual=usual, **named)
    eva = {"embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": [56, 56], "global_pool": ""}
    eva |= {"use_post_transformer_norm": False, "init_values": 0.1, "ref_feat_shape": [4, 4]}
    tower = hf.TimmWrapperConfig(architecture="vit_pe_core_large_patch14_336", model_args=eva, num_classes=0)
    tower.num_features = 32
    parts = {
        "text_config": text("LlamaConfig", tokenizer),
        "vision_config": tower,
        "projector_pooling_ratio": 2,
        "vision_use_cls_token": True,
    }
    made = processor(
        "PerceptionLMProcessor",
        tokenizer,
        templates.llama("<|image|>"),
        image_processor=kind_of("PerceptionLMImageProcessor")(tile_size=56, max_num_tiles=2),
        video_processor=hf.PerceptionLMVideoProcessor(),
        patch_size=14,
        pooling_ratio=2,
    )
    return config("PerceptionLMConfig", tokenizer, {"image": "<|image|>", "video": "<|video|>"}, **parts), made


def _deepseek(kind: str, images: Any, **more: Any) -> tuple[Any, Any]:
    tokenizer = tokenizer_of({}, "<eos>", usual=templates.DEEPSEEK_USUAL, image_token="<image_placeholder>")
    parts = {"text_config": text("LlamaConfig", tokenizer), "vision_config": vision("SiglipVisionConfig")} | more
    made = processor(f"{kind}Processor", tokenizer, templates.DEEPSEEK, image_processor=images, num_image_tokens=16)
    return config(f"{kind}Config", tokenizer, {"image": "<image_placeholder>"}, **parts), made


@family("deepseek_vl")
def deepseek_vl() -> tuple[Any, Any]:
    return _deepseek("DeepseekVL", hf.DeepseekVLImageProcessor(size=_SQUARE))


@family("deepseek_vl_hybrid")
def deepseek_vl_hybrid() -> tuple[Any, Any]:
    sam = vision("SamVisionConfig", image_size=128, patch_size=8, output_channels=16, window_size=4, mlp_dim=48)
    sam.global_attn_indexes = [1]
    images = hf.DeepseekVLHybridImageProcessor(size=_SQUARE, high_res_size={"height": 128, "width": 128})
    return _deepseek("DeepseekVLHybrid", images, high_res_vision_config=sam)


@family("janus")
def janus() -> tuple[Any, Any]:
    named = {"image_token": "<image_placeholder>", "boi_token": "<begin_of_image>", "eoi_token": "<end_of_image>"}
    tokenizer = tokenizer_of({}, "<|User|>", "<|Assistant|>", usual=templates.DEEPSEEK_USUAL, **named)
    quantizer = {"embed_dim": 8, "num_embeddings": 16, "latent_channels": 32, "base_channels": 32, "num_patches": 4}
    quantizer |= {"channel_multiplier": [1, 1], "num_res_blocks": 1, "projection_dim": 64, "image_token_embed_dim": 64}
    parts = {
        "text_config": text("LlamaConfig", tokenizer),
        "vision_config": vision("JanusVisionConfig", projection_dim=64, num_image_tokens=16),
        "vq_config": hf.JanusVQVAEConfig(**quantizer),
    }
    images = hf.JanusImageProcessor(size=_SQUARE)
    made = processor("JanusProcessor", tokenizer, templates.JANUS, image_processor=images)
    made.num_image_tokens = 16
    return config("JanusConfig", tokenizer, {"image": "<image_placeholder>"}, **parts), made
