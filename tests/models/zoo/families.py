"""One builder per architecture: (model, processor), as `from_pretrained` would give them."""

from collections.abc import Callable
from typing import Any

import transformers as hf

from . import templates
from .parts import CHATML, DECODER, ENCODER, ids, vocabulary
from .qwens import qwen2_5_vl, qwen2_vl, qwen3_vl
from .tokenizers import byte_level_tokenizer, sentence_piece_tokenizer

__all__ = ["FAMILIES"]

_LLAMA = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}


def llava() -> tuple[Any, Any]:
    tokenizer = sentence_piece_tokenizer(_LLAMA, ("<image>",))
    config = hf.LlavaConfig(
        text_config=hf.LlamaConfig(**DECODER, **vocabulary(tokenizer)),
        vision_config=hf.CLIPVisionConfig(**ENCODER, image_size=56, patch_size=14),
        vision_feature_layer=-2,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=False,
    )
    images = hf.CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    processor = hf.LlavaProcessor(
        images,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=templates.LLAVA,
    )
    return hf.LlavaForConditionalGeneration(config), processor


def llava_onevision() -> tuple[Any, Any]:
    tokenizer = byte_level_tokenizer(CHATML, ("<|im_start|>", "<image>", "<video>"))
    grid = [[56, 56], [56, 112], [112, 56]]
    config = hf.LlavaOnevisionConfig(
        text_config=hf.Qwen2Config(**DECODER, **vocabulary(tokenizer)),
        vision_config=hf.SiglipVisionConfig(**ENCODER, image_size=56, patch_size=14, vision_use_head=False),
        image_grid_pinpoints=grid,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        tie_word_embeddings=False,
    )
    size = {"height": 56, "width": 56}
    processor = hf.LlavaOnevisionProcessor(
        hf.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=grid),
        tokenizer,
        hf.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=templates.LLAVA_ONEVISION,
    )
    return hf.LlavaOnevisionForConditionalGeneration(config), processor


def _idefics3_tokenizer() -> Any:
    rows = tuple(f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4))
    special = {"fake_image_token": "<fake_token_around_image>", "global_image_token": "<global-img>"}
    special |= {"end_of_utterance_token": "<end_of_utterance>", "image_token": "<image>", "video_token": "<video>"}
    return byte_level_tokenizer(
        {"eos_token": "<end_of_utterance>", "pad_token": "<|im_end|>"} | special, ("<|im_start|>", *rows)
    )


def idefics3() -> tuple[Any, Any]:
    tokenizer = _idefics3_tokenizer()
    config = hf.Idefics3Config(
        text_config=DECODER | vocabulary(tokenizer) | {"model_type": "llama"},
        vision_config=ENCODER | {"image_size": 32, "patch_size": 8},
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    images = hf.Idefics3ImageProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    processor = hf.Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=templates.IDEFICS3)
    return hf.Idefics3ForConditionalGeneration(config), processor


def smolvlm() -> tuple[Any, Any]:
    tokenizer = _idefics3_tokenizer()
    config = hf.SmolVLMConfig(
        text_config=DECODER | vocabulary(tokenizer) | {"model_type": "llama"},
        vision_config=ENCODER | {"image_size": 32, "patch_size": 8},
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    processor = hf.SmolVLMProcessor(
        hf.SmolVLMImageProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32}),
        tokenizer,
        hf.SmolVLMVideoProcessor(),
        image_seq_len=4,
        chat_template=templates.IDEFICS3,
    )
    return hf.SmolVLMForConditionalGeneration(config), processor


def internvl() -> tuple[Any, Any]:
    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    tokenizer = byte_level_tokenizer(CHATML | named | {"video_token": "<video>"}, ("<|im_start|>",))
    config = hf.InternVLConfig(
        text_config=hf.Qwen2Config(**DECODER, **vocabulary(tokenizer)),
        vision_config=ENCODER | {"image_size": [56, 56], "patch_size": [14, 14]},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    processor = hf.InternVLProcessor(
        hf.GotOcr2ImageProcessor(size={"height": 56, "width": 56}, crop_to_patches=True, max_patches=3),
        tokenizer,
        hf.InternVLVideoProcessor(size={"height": 56, "width": 56}),
        image_seq_length=4,
        chat_template=templates.INTERNVL,
    )
    return hf.InternVLForConditionalGeneration(config), processor


def gemma3() -> tuple[Any, Any]:
    named = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    usual = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    tokenizer = sentence_piece_tokenizer(usual | named, ("<start_of_turn>", "<end_of_turn>"), prepended=False)
    config = hf.Gemma3Config(
        text_config=DECODER
        | vocabulary(tokenizer)
        | {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"], "query_pre_attn_scalar": 16},
        vision_config=ENCODER | {"image_size": 56, "patch_size": 14, "vision_use_head": False},
        mm_tokens_per_image=4,
        tie_word_embeddings=False,
        **ids(
            tokenizer,
            boi_token_index="<start_of_image>",
            eoi_token_index="<end_of_image>",
            image_token_index="<image_soft_token>",
        ),
    )
    processor = hf.Gemma3Processor(
        hf.Gemma3ImageProcessor(size={"height": 56, "width": 56}),
        tokenizer,
        image_seq_length=4,
        chat_template=templates.GEMMA3,
    )
    return hf.Gemma3ForConditionalGeneration(config), processor


def mistral3() -> tuple[Any, Any]:
    special = ("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG]", "[IMG_BREAK]", "[IMG_END]")
    tokenizer = byte_level_tokenizer({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}, special)
    config = hf.Mistral3Config(
        text_config=hf.MistralConfig(**DECODER, **vocabulary(tokenizer), sliding_window=None),
        vision_config=hf.PixtralVisionConfig(**ENCODER, image_size=56, patch_size=14, head_dim=16),
        spatial_merge_size=2,
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        tie_word_embeddings=False,
    )
    processor = hf.PixtralProcessor(
        hf.PixtralImageProcessor(size={"longest_edge": 56}, patch_size={"height": 14, "width": 14}),
        tokenizer,
        patch_size=14,
        spatial_merge_size=2,
        chat_template=templates.MISTRAL3,
    )
    return hf.Mistral3ForConditionalGeneration(config), processor


def mllama() -> tuple[Any, Any]:
    usual = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "pad_token": "<|finetune_right_pad_id|>"}
    tokenizer = byte_level_tokenizer(usual, ("<|start_header_id|>", "<|end_header_id|>", "<|python_tag|>", "<|image|>"))
    decoder = {key: value for key, value in DECODER.items() if key != "head_dim"} | vocabulary(tokenizer)
    decoder["vocab_size"] = len(tokenizer) - 1  # its image token has an embedding, but no logit
    config = hf.MllamaConfig(
        text_config=decoder
        | {"cross_attention_layers": [1], "num_hidden_layers": 3, "rope_scaling": {"rope_type": "default"}},
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 2,
            "image_size": 56,
            "patch_size": 14,
            "max_num_tiles": 2,
            "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]],
            "intermediate_layers_indices": [0],
            "vision_output_dim": 64,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<|image|>"),
        tie_word_embeddings=False,
    )
    images = hf.MllamaImageProcessor(size={"height": 56, "width": 56}, max_image_tiles=2)
    processor = hf.MllamaProcessor(images, tokenizer, chat_template=templates.MLLAMA)
    return hf.MllamaForConditionalGeneration(config), processor


def paligemma() -> tuple[Any, Any]:
    usual = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    tokenizer = sentence_piece_tokenizer(usual | {"image_token": "<image>"}, prepended=False, kind="GemmaTokenizerFast")
    images = hf.SiglipImageProcessor(size={"height": 56, "width": 56})
    images.image_seq_length = 16
    processor = hf.PaliGemmaProcessor(images, tokenizer, chat_template=templates.PALIGEMMA)
    config = hf.PaliGemmaConfig(
        text_config=DECODER | vocabulary(tokenizer) | {"model_type": "gemma"},
        vision_config=ENCODER | {"image_size": 56, "patch_size": 14, "vision_use_head": False},
        projection_dim=64,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    return hf.PaliGemmaForConditionalGeneration(config), processor


FAMILIES: dict[str, Callable[[], tuple[Any, Any]]] = {
    builder.__name__: builder
    for builder in (
        qwen2_vl,
        qwen2_5_vl,
        qwen3_vl,
        llava,
        llava_onevision,
        idefics3,
        smolvlm,
        internvl,
        gemma3,
        mistral3,
        mllama,
        paligemma,
    )
}
