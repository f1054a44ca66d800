"""Families whose processors cut an image into crops, tiles or slices, or read it at one size with special tokens."""

from typing import Any

import transformers as hf

from . import templates
from .parts import config, family, ids, kind_of, processor, text, tokenizer_of, vision

_SQUARE = {"height": 56, "width": 56}
_SAM = {"image_size": 128, "patch_size": 16, "window_size": 4, "mlp_dim": 48, "global_attn_indexes": [1]}


@family("idefics2")
def idefics2() -> tuple[Any, Any]:
    named = {"image_token": "<image>", "image_boundary_token": "<fake_token_around_image>"}
    usual = {"bos_token": "<s>", "eos_token": "<end_of_utterance>", "pad_token": "<unk>"}
    tokenizer = tokenizer_of({}, usual=usual, **named)
    perceiver = {"hidden_size": 64, "resampler_n_latents": 4, "resampler_depth": 1, "resampler_n_heads": 2}
    perceiver |= {"resampler_head_dim": 16, "num_key_value_heads": 2}
    parts = {
        "text_config": text("MistralConfig", tokenizer, sliding_window=None),
        "vision_config": vision("Idefics2VisionConfig"),
        "perceiver_config": kind_of("Idefics2PerceiverConfig")(**perceiver),
    }
    images = hf.Idefics2ImageProcessor(size={"shortest_edge": 28, "longest_edge": 56})
    made = processor("Idefics2Processor", tokenizer, templates.IDEFICS2, image_processor=images, image_seq_len=4)
    return config("Idefics2Config", tokenizer, {"image": "<image>"}, **parts), made


@family("granite_docling")
def granite_docling() -> tuple[Any, Any]:
    rows = tuple(f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4))
    usual = {"bos_token": "<|end_of_text|>", "eos_token": "<|end_of_text|>", "pad_token": "<|pad|>"}
    marks = ("<fake_token_around_image>", "<global-img>", "<|start_of_role|>", "<|end_of_role|>")
    tokenizer = tokenizer_of({}, *rows, *marks, usual=usual, image_token="<image>")
    # The real ones are made for trained weights; with random ones the image would hardly be seen.
    multipliers = {"attention_multiplier": 0.25, "residual_multiplier": 1.0, "embedding_multiplier": 2.0}
    parts = {
        "text_config": text("GraniteDoclingTextConfig", tokenizer, **multipliers),
        "vision_config": vision(
            "GraniteDoclingVisionConfig", image_size=64, patch_size=16, scale_factor=2, deepstack_visual_indexes=[0]
        ),
    }
    images = hf.GraniteDoclingImageProcessor(size={"height": 64, "width": 64}, max_patches=3)
    made = processor("GraniteDoclingProcessor", tokenizer, templates.GRANITE, image_processor=images, image_seq_len=4)
    pad = {"pad_token_id": tokenizer.pad_token_id}
    return config("GraniteDoclingConfig", tokenizer, {"image": "<image>"}, **parts, **pad), made


def _got(kind: str, images: Any, pads: int) -> tuple[Any, Any]:
    tokens = {"image": "<imgpad>", "start": "<img>", "end": "</img>"}
    tokenizer = tokenizer_of(tokens)
    sam = {**_SAM, "image_size": 256, "output_channels": 16}  # two strided convolutions: 4 × 4 tokens
    parts = {"text_config": text("Qwen2Config", tokenizer), "vision_config": vision(f"{kind}VisionConfig", **sam)}
    template = templates.chatml(f"<img>{'<imgpad>' * pads}</img>\n")
    made = processor(f"{kind}Processor", tokenizer, template, image_processor=images)
    made.num_image_tokens = 16
    return config(f"{kind}Config", tokenizer, {"image": "<imgpad>"}, **parts), made


@family("got_ocr2")
def got_ocr2() -> tuple[Any, Any]:
    return _got("GotOcr2", hf.GotOcr2ImageProcessor(size={"height": 256, "width": 256}), 1)


@family("pp_chart2table")
def pp_chart2table() -> tuple[Any, Any]:
    # Its processor leaves the text as it is: the template writes all placeholders.
    return _got("PPChart2Table", hf.PPChart2TableImageProcessor(size={"height": 256, "width": 256}), 16)


def _deepseek_ocr(kind: str, side: int, patch: int, tower: dict[str, Any], language: dict[str, Any]) -> tuple[Any, Any]:
    tokenizer = tokenizer_of({"image": "<image>"}, usual=templates.DEEPSEEK_USUAL)
    sam = {**_SAM, "image_size": side, "patch_size": patch, "output_channels": 16, "downsample_channels": [16, 32]}
    sam |= {"global_attn_indexes": []} if side > 128 else {}
    encoders = {
        "sam_config": vision(f"{kind}SamVisionConfig", **sam).to_dict(),
        "encoder_config": vision(f"{kind}VisionEncoderConfig", **tower).to_dict(),
    }
    layers = {"num_key_value_heads": 4, "n_group": 1, "topk_group": 1, "mlp_layer_types": ["dense", "sparse"]}
    parts = {
        "text_config": text(f"{kind}TextConfig", tokenizer, **layers, **language),
        "vision_config": kind_of(f"{kind}VisionConfig")(**encoders),
    }
    size = {"size": {"height": side, "width": side}, "tile_size": min(side, 64) if "image_size" in tower else side}
    images = kind_of(f"{kind}ImageProcessor")(**size, max_patches=2)
    template = templates.DEEPSEEK_OCR
    made = processor(f"{kind}Processor", tokenizer, template, image_processor=images, patch_size=patch)
    return config(f"{kind}Config", tokenizer, {"image": "<image>"}, **parts), made


@family("deepseek_ocr2")
def deepseek_ocr2() -> tuple[Any, Any]:
    return _deepseek_ocr("DeepseekOcr2", 192, 4, {}, {})  # it has 144 queries, one per patch that SAM leaves over


@family("unlimited_ocr")
def unlimited_ocr() -> tuple[Any, Any]:
    return _deepseek_ocr("UnlimitedOcr", 128, 16, {"image_size": 128, "patch_size": 64}, {"sliding_window": 16})


@family("lfm2_vl")
def lfm2_vl() -> tuple[Any, Any]:
    named = {"image_token": "<image>", "image_start_token": "<|image_start|>", "image_end_token": "<|image_end|>"}
    named |= dict.fromkeys(("image_thumbnail_token", "image_thumbnail"), "<|img_thumbnail|>")
    rows = tuple(f"<|img_row_{row}_col_{column}|>" for row in range(1, 4) for column in range(1, 4))
    tokenizer = tokenizer_of({}, *rows, usual=templates.LFM_USUAL, **named)
    parts = {
        "text_config": text("Lfm2Config", tokenizer, layer_types=["conv", "full_attention"]),
        "vision_config": vision("Siglip2VisionConfig", patch_size=16, num_patches=16),
        "projector_hidden_size": 48,
    }
    images = kind_of("Lfm2VlImageProcessor")(min_image_tokens=1, max_image_tokens=4, tile_size=64, max_tiles=3)
    template = templates.chatml("<image>", bos="{{ bos_token }}")
    made = processor("Lfm2VlProcessor", tokenizer, template, image_processor=images)
    return config("Lfm2VlConfig", tokenizer, {"image": "<image>"}, **parts), made


@family("lighton_ocr")
def lighton_ocr() -> tuple[Any, Any]:
    named = {"image_token": "<|image_pad|>", "image_break_token": "<|vision_pad|>", "image_end_token": "<|vision_end|>"}
    tokenizer = tokenizer_of({}, **named)
    parts = {
        "text_config": text("Qwen3Config", tokenizer),
        "vision_config": vision("PixtralVisionConfig"),
    }
    images = hf.PixtralImageProcessor(size={"longest_edge": 56}, patch_size={"height": 28, "width": 28})
    made = processor("LightOnOcrProcessor", tokenizer, templates.chatml("<|image_pad|>"), image_processor=images)
    return config("LightOnOcrConfig", tokenizer, {"image": "<|image_pad|>"}, **parts), made


@family("mistral_large4")
def mistral_large4() -> tuple[Any, Any]:
    special = ("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG_BREAK]", "[IMG_END]")
    tokens, usual = {"image": "[IMG]"}, {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    tokenizer = tokenizer_of(tokens, *special, usual=usual)
    layers = {"num_key_value_heads": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
    parts = {
        "text_config": text("MistralLarge4TextConfig", tokenizer, **layers),
        "vision_config": vision("PixtralVisionConfig"),
    }
    images = hf.PixtralImageProcessor(size={"longest_edge": 56}, patch_size={"height": 14, "width": 14})
    sizes = {"patch_size": 14, "spatial_merge_size": 2}
    made = processor("PixtralProcessor", tokenizer, templates.MISTRAL3, image_processor=images, **sizes)
    return config("MistralLarge4Config", tokenizer, tokens, **parts), made


@family("llama4")
def llama4() -> tuple[Any, Any]:
    tokens = {"image": "<|patch|>", "start": "<|image_start|>", "end": "<|image_end|>"}
    added = ("<|image|>", "<|tile_x_separator|>", "<|tile_y_separator|>", "<|header_start|>", "<|header_end|>")
    usual = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot|>", "pad_token": "<|finetune_right_pad|>"}
    tokenizer = tokenizer_of(tokens, *added, usual=usual)
    layers = {"intermediate_size_mlp": 96, "moe_layers": [1], "attention_chunk_size": 512, "num_experts_per_tok": 1}
    layers["layer_types"] = ["chunked_attention", "full_attention"]
    sizes = {"vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32, "intermediate_size": 128}
    parts = {
        "text_config": text("Llama4TextConfig", tokenizer, **layers, no_rope_layers=[1, 0]),
        "vision_config": vision("Llama4VisionConfig", **sizes),
    }
    images = hf.Llama4ImageProcessor(size=_SQUARE, max_patches=3)
    made = processor("Llama4Processor", tokenizer, templates.llama("<|image|>", four=True), image_processor=images)
    return config("Llama4Config", tokenizer, tokens, **parts), made


@family("ovis2")
def ovis2() -> tuple[Any, Any]:
    marks = ("<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>")
    tokenizer = tokenizer_of({"image": "<IMG_ATOM>"}, *marks, "<image>")
    size = vision("Ovis2VisionConfig", vocab_size=32, hidden_stride=2)
    parts = {
        "text_config": text("Qwen2Config", tokenizer),
        "vision_config": size,
        "visual_indicator_token_ids": tokenizer.convert_tokens_to_ids(list(marks)),
        "hidden_size": 64,
        "vocab_size": (len(tokenizer) // 32 + 1) * 32,
    }
    images = hf.Ovis2ImageProcessor(size=_SQUARE, crop_to_patches=True, max_patches=3)
    template = templates.chatml("<image>\n")
    made = processor("Ovis2Processor", tokenizer, template, image_processor=images, image_seq_length=4)
    return config("Ovis2Config", tokenizer, {"image": "<IMG_ATOM>"}, **parts), made


@family("qianfan_ocr")
def qianfan_ocr() -> tuple[Any, Any]:
    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    tokenizer = tokenizer_of({}, "<image>", **named)
    sizes = {"image_size": [56, 56], "patch_size": [14, 14]}
    parts = {"text_config": text("Qwen3Config", tokenizer), "vision_config": vision("QianfanOCRVisionConfig", **sizes)}
    images = hf.GotOcr2ImageProcessor(size=_SQUARE, crop_to_patches=True, max_patches=3)
    template = templates.chatml("<image>\n")
    made = processor("QianfanOCRProcessor", tokenizer, template, image_processor=images, image_seq_length=4)
    return config("QianfanOCRConfig", tokenizer, {"image": "<IMG_CONTEXT>"}, **parts, image_seq_length=4), made


@family("step3p7")
def step3p7() -> tuple[Any, Any]:
    marks = ("<im_start>", "<im_end>", "<patch_start>", "<patch_end>", "<patch_newline>")
    tokenizer = tokenizer_of({"image": "<im_patch>"}, *marks)
    layers = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}
    layers |= {"mlp_layer_types": ["dense", "sparse"], "share_expert_dim": 32}
    parts = {
        "text_config": text("Step3p7TextConfig", tokenizer, **layers),
        "vision_config": vision("Step3p7VisionConfig", image_size=112, patch_size=14, mlp_ratio=1.5),
    }
    images = hf.Step3p7ImageProcessor(size={"height": 112, "width": 112}, patch_size=56, max_image_size=224)
    made = processor("Step3p7Processor", tokenizer, templates.STEP, image_processor=images)
    return config("Step3p7Config", tokenizer, {"image": "<im_patch>"}, **parts), made


@family("molmo2")
def molmo2() -> tuple[Any, Any]:
    marks = {"image_start_token_id": "<im_start>", "low_res_image_start_token_id": "<low_res_im_start>"}
    marks |= {"image_end_token_id": "<im_end>", "image_patch_id": "<im_patch>"}
    marks |= {"frame_start_token_id": "<frame_start>", "frame_end_token_id": "<frame_end>"}
    tokenizer = tokenizer_of({}, *marks.values(), "<im_col>", "<im_low>", "<|image|>", "<|video|>")
    adapter = vision("Molmo2AdapterConfig", vision_feature_layer=[-1, -2])
    parts = {
        "text_config": text("Molmo2TextConfig", tokenizer, additional_vocab_size=32),
        "vision_config": vision("Molmo2VisionConfig", image_size=[56, 56], num_position_embeddings=16),
        "adapter_config": adapter,
    }
    images = hf.Molmo2ImageProcessor(size=_SQUARE, max_crops=3, overlap_margins=[0, 0])
    made = processor(
        "Molmo2Processor",
        tokenizer,
        templates.chatml("<|image|>"),
        image_processor=images,
        video_processor=hf.Molmo2VideoProcessor(),
    )
    return config("Molmo2Config", tokenizer, {}, **parts, **ids(tokenizer, **marks)), made
