"""Classes that `HFModel` refuses: image captioners without chat templates, encoder–decoders, one robot policy."""

from typing import Any

import transformers as hf

from . import more_templates, templates
from .gemmas import gemma4_parts
from .parts import config, family, kind_of, processor, text, tokenizer_of, vision

_USUAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
_SQUARE = {"height": 56, "width": 56}
_IMAGE = {"image": "<image>"}


def _tokenizer(*added: str) -> Any:
    return tokenizer_of(_IMAGE, *added, usual=_USUAL)


def _bare(name: str, tokenizer: Any, images: Any, **parts: Any) -> Any:
    """Return a processor as published: without a chat template."""
    return processor(name, tokenizer, None, image_processor=images, **parts)


def _clip() -> Any:
    return hf.CLIPImageProcessor(size={"shortest_edge": 56}, crop_size=_SQUARE)


@family("blip")
def blip() -> tuple[Any, Any]:
    tokenizer = _tokenizer()
    parts = {
        "text_config": text("BlipTextConfig", tokenizer, encoder_hidden_size=32, sep_token_id=0).to_dict(),
        "vision_config": vision("BlipVisionConfig").to_dict(),
    }
    return hf.BlipConfig(**parts), _bare("BlipProcessor", tokenizer, hf.BlipImageProcessor(size=_SQUARE))


def _querying(kind: str, tokenizer: Any, use: str = "image") -> Any:
    querying = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    return kind_of(f"{kind}Config")(
        text_config=text("OPTConfig", tokenizer, ffn_dim=96, word_embed_proj_dim=64).to_dict(),
        vision_config=vision(f"{kind}VisionConfig").to_dict(),
        qformer_config=kind_of(f"{kind}QFormerConfig")(**querying, encoder_hidden_size=32).to_dict(),
        num_query_tokens=4,
        **{f"{use}_token_index": tokenizer.convert_tokens_to_ids("<image>")},
    )


@family("blip-2")
def blip_2() -> tuple[Any, Any]:
    tokenizer = _tokenizer()
    images = hf.BlipImageProcessor(size=_SQUARE)
    return _querying("Blip2", tokenizer), _bare("Blip2Processor", tokenizer, images, num_query_tokens=4)


@family("instructblip")
def instructblip() -> tuple[Any, Any]:
    tokenizer = _tokenizer()
    more = {"qformer_tokenizer": _tokenizer(), "num_query_tokens": 4}
    made = _bare("InstructBlipProcessor", tokenizer, hf.BlipImageProcessor(size=_SQUARE), **more)
    return _querying("InstructBlip", tokenizer), made


@family("instructblipvideo")
def instructblipvideo() -> tuple[Any, Any]:
    tokenizer = _tokenizer()
    videos = hf.InstructBlipVideoVideoProcessor(size=_SQUARE)
    more = {"qformer_tokenizer": _tokenizer(), "num_query_tokens": 4, "video_processor": videos}
    made = processor("InstructBlipVideoProcessor", tokenizer, None, **more)
    return _querying("InstructBlipVideo", tokenizer, "video"), made


@family("git")
def git() -> tuple[Any, Any]:
    tokenizer = _tokenizer()
    settings = text("GitConfig", tokenizer, vision_config=vision("GitVisionConfig").to_dict())
    return settings, _bare("GitProcessor", tokenizer, _clip())


@family("idefics")
def idefics() -> tuple[Any, Any]:
    tokenizer = _tokenizer("<fake_token_around_image>", "<end_of_utterance>")
    settings = text("IdeficsConfig", tokenizer, vision_config=vision("IdeficsVisionConfig").to_dict())
    return settings, _bare("IdeficsProcessor", tokenizer, hf.IdeficsImageProcessor(image_size=56), image_size=56)


@family("kosmos-2")
def kosmos_2() -> tuple[Any, Any]:
    tokenizer = _tokenizer("</image>", "<phrase>", "</phrase>", "<object>", "</object>")
    language = {"embed_dim": 64, "layers": 2, "ffn_dim": 96, "attention_heads": 4}
    parts = {
        "text_config": text("Kosmos2TextConfig", tokenizer, **language).to_dict(),
        "vision_config": vision("Kosmos2VisionConfig").to_dict(),
    }
    made = _bare("Kosmos2Processor", tokenizer, _clip(), num_patch_index_tokens=4)
    return hf.Kosmos2Config(**parts, latent_query_num=4), made


@family("kosmos-2.5")
def kosmos_2_5() -> tuple[Any, Any]:
    tokenizer = tokenizer_of({}, usual=_USUAL, image_token="<image>", boi_token="<img>", eoi_token="</img>")
    language = {"embed_dim": 64, "layers": 2, "ffn_dim": 96, "attention_heads": 4}
    parts = {
        "text_config": text("Kosmos2_5TextConfig", tokenizer, **language).to_dict(),
        "vision_config": vision("Kosmos2_5VisionConfig", max_num_patches=16, patch_embed_hidden_size=588).to_dict(),
    }
    made = _bare("Kosmos2_5Processor", tokenizer, hf.Kosmos2_5ImageProcessor(max_patches=16))
    return hf.Kosmos2_5Config(**parts, latent_query_num=4), made


@family("fuyu")
def fuyu() -> tuple[Any, Any]:
    tokenizer = _tokenizer("|SPEAKER|", "|NEWLINE|")
    settings = hf.FuyuConfig(text_config=text("PersimmonConfig", tokenizer).to_dict(), image_size=60, patch_size=30)
    return settings, _bare("FuyuProcessor", tokenizer, hf.FuyuImageProcessor())


@family("florence2")
def florence2() -> tuple[Any, Any]:
    tokenizer = tokenizer_of({}, usual=_USUAL, image_token="<image>")
    towers = {"depths": [1, 1], "embed_dim": [16, 32], "num_heads": [2, 2], "num_groups": [2, 2]}
    towers |= {"patch_size": [7, 3], "patch_stride": [4, 2], "patch_padding": [3, 1], "patch_prenorm": [False, True]}
    language = {"d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96}
    language |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    parts = {
        "text_config": text("BartConfig", tokenizer, **language),
        "vision_config": hf.Florence2VisionConfig(**towers, projection_dim=64, window_size=4),
    }
    images = _clip()
    images.image_seq_length = 4
    return config("Florence2Config", tokenizer, _IMAGE, **parts), _bare("Florence2Processor", tokenizer, images)


_T5 = {"d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4}


@family("pix2struct")
def pix2struct() -> tuple[Any, Any]:
    tokenizer = _tokenizer()
    encoder = {"hidden_size": 64, "patch_embed_hidden_size": 768, "d_ff": 96, "d_kv": 16, "seq_len": 16}
    parts = {
        "text_config": text("Pix2StructTextConfig", tokenizer, **_T5).to_dict(),
        "vision_config": vision("Pix2StructVisionConfig", **encoder, num_attention_heads=4).to_dict(),
    }
    images = hf.Pix2StructImageProcessor(max_patches=16)
    return hf.Pix2StructConfig(**parts), _bare("Pix2StructProcessor", tokenizer, images)


@family("udop")
def udop() -> tuple[Any, Any]:
    tokenizer = _tokenizer()
    settings = text("UdopConfig", tokenizer, **_T5, image_size=56, patch_size=14)
    return settings, _bare("UdopProcessor", tokenizer, hf.LayoutLMv3ImageProcessor(apply_ocr=False))


@family("pp_formulanet")
def pp_formulanet() -> tuple[Any, Any]:
    tokenizer = _tokenizer()
    language = {"d_model": 64, "decoder_layers": 1, "decoder_ffn_dim": 96, "decoder_attention_heads": 4}
    language |= {"encoder_layers": 1, "encoder_attention_heads": 4}
    sam = {"output_channels": 16, "image_size": 128, "patch_size": 16, "window_size": 4, "mlp_dim": 48}
    sam |= {"post_conv_in_channels": 16, "post_conv_mid_channels": 32, "post_conv_out_channels": 64}
    parts = {
        "text_config": text("PPFormulaNetTextConfig", tokenizer, **language),
        "vision_config": vision("PPFormulaNetVisionConfig", **sam, decoder_hidden_size=64, global_attn_indexes=[1]),
    }
    return hf.PPFormulaNetConfig(**parts), _bare("PPFormulaNetProcessor", tokenizer, hf.PPFormulaNetImageProcessor())


@family("vision-encoder-decoder")
def vision_encoder_decoder() -> tuple[Any, Any]:
    tokenizer = _tokenizer()
    decoder = {"d_model": 64, "decoder_layers": 1, "decoder_attention_heads": 4, "decoder_ffn_dim": 96}
    settings = hf.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        vision("ViTConfig"), text("TrOCRConfig", tokenizer, **decoder)
    )
    return settings, _bare("TrOCRProcessor", tokenizer, hf.ViTImageProcessor(size=_SQUARE))


@family("evolla")
def evolla() -> tuple[Any, Any]:
    tokenizer = tokenizer_of({}, "<|start_header_id|>", "<|end_header_id|>", usual=_USUAL)
    protein = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    sizes = {"aligner_num_add_layers": 1, "resampler_depth": 1, "resampler_heads": 2, "resampler_num_latents": 4}
    settings = text("EvollaConfig", tokenizer, protein_encoder_config=protein, **sizes)
    made = processor("EvollaProcessor", tokenizer, None, protein_tokenizer=_tokenizer())
    tokenizer.chat_template = more_templates.llama("")  # it reads proteins, and knows no images
    return hf.EvollaForProteinText2Text(settings), made


@family("pi0")
def pi0() -> tuple[Any, Any]:
    tokenizer = tokenizer_of({}, usual=_USUAL, image_token="<image>")
    vlm = config(
        "PaliGemmaConfig",
        tokenizer,
        _IMAGE,
        text_config=text("GemmaConfig", tokenizer),
        vision_config=vision("SiglipVisionConfig"),
        projection_dim=64,
        hidden_size=64,
    )
    settings = hf.PI0Config(vlm_config=vlm, dit_config=text("GemmaConfig", tokenizer), chunk_size=2)
    return settings, _bare("PI0Processor", tokenizer, hf.PI0ImageProcessor())


@family("mistral4")
def mistral4() -> tuple[Any, Any]:
    special = ("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")
    tokenizer = tokenizer_of({"image": "[IMG]"}, *special, usual=_USUAL)
    tokenizer.chat_template = templates.MISTRAL3
    return text("Mistral4Config", tokenizer, num_key_value_heads=4), tokenizer


@family("diffusion_gemma")
def diffusion_gemma() -> tuple[Any, Any]:
    tokenizer, made = gemma4_parts()
    parts = {
        "text_config": text("DiffusionGemmaTextConfig", tokenizer, global_head_dim=16, top_k_experts=2),
        "vision_config": vision("Gemma4VisionConfig", patch_size=8, position_embedding_size=64),
    }
    tokens = {"image": "<|image|>", "start": "<|image>", "end": "<image|>"}
    return config("DiffusionGemmaConfig", tokenizer, tokens, **parts, canvas_length=4), made
