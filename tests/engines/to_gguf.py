"""Converts the bundled model to llama.cpp's format; runs in the engine's environment: `python to_gguf.py WEIGHTS OUT`.

llama.cpp's own converter does not know the demo's tokenizer, and takes its tower for one with window attention.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file

Arrays = Iterator[tuple[str, np.ndarray]]


def text_model(weights: Path, config: dict[str, Any], out: Path) -> None:
    """Write the language model and its tokenizer."""
    text = config["text_config"]
    writer = gguf.GGUFWriter(out, "qwen2vl")
    writer.add_block_count(text["num_hidden_layers"])
    writer.add_context_length(text["max_position_embeddings"])
    writer.add_embedding_length(text["hidden_size"])
    writer.add_feed_forward_length(text["intermediate_size"])
    writer.add_head_count(text["num_attention_heads"])
    writer.add_head_count_kv(text["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(text["rms_norm_eps"])
    writer.add_rope_freq_base(text["rope_theta"])
    writer.add_rope_dimension_sections([*text["rope_scaling"]["mrope_section"], 0])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    tokenizer(writer, weights, text)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2VL, text["num_hidden_layers"])
    arrays = load_file(weights / "model.safetensors").items()
    write(writer, names, ((name, array) for name, array in arrays if not name.startswith("visual.")))


def tokenizer(writer: gguf.GGUFWriter, weights: Path, text: dict[str, Any]) -> None:
    saved = json.loads((weights / "tokenizer.json").read_text())
    tokens = {number: (token, gguf.TokenType.NORMAL) for token, number in saved["model"]["vocab"].items()}
    for added in saved["added_tokens"]:
        kind = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        tokens[added["id"]] = added["content"], kind
    ordered = [tokens[number] for number in range(text["vocab_size"])]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")  # whose rules for splitting words the demo's tokenizer has
    writer.add_token_list([token for token, _ in ordered])
    writer.add_token_types([kind for _, kind in ordered])
    writer.add_token_merges([" ".join(pair) for pair in saved["model"]["merges"]])
    writer.add_eos_token_id(text["eos_token_id"])
    writer.add_pad_token_id(text["pad_token_id"])
    writer.add_add_bos_token(False)
    writer.add_chat_template((weights / "chat_template.jinja").read_text())


def vision_tower(weights: Path, config: dict[str, Any], out: Path) -> None:
    """Write the vision tower and the projector."""
    vision = config["vision_config"]
    processor = json.loads((weights / "preprocessor_config.json").read_text())
    writer = gguf.GGUFWriter(out, "clip")
    writer.add_type(gguf.GGUFType.MMPROJ)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(gguf.VisionProjectorType.QWEN25VL)
    writer.add_vision_projection_dim(vision["out_hidden_size"])
    writer.add_vision_image_size(560)  # of the largest picture; pictures have sizes of their own
    writer.add_vision_patch_size(vision["patch_size"])
    writer.add_vision_embedding_length(vision["hidden_size"])
    writer.add_vision_feed_forward_length(vision["intermediate_size"])
    writer.add_vision_block_count(vision["depth"])
    writer.add_vision_head_count(vision["num_heads"])
    writer.add_vision_image_mean(processor["image_mean"])
    writer.add_vision_image_std(processor["image_std"])
    writer.add_vision_use_silu(True)
    writer.add_vision_attention_layernorm_eps(1e-6)
    if vision["fullatt_block_indexes"] != [*range(vision["depth"])]:
        raise ValueError(f"expected a tower that attends fully in every layer, got {vision}")
    writer.add_vision_n_wa_pattern(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, vision["depth"])
    arrays = load_file(weights / "model.safetensors").items()
    write(writer, names, split((name, array) for name, array in arrays if name.startswith("visual.")))


def split(arrays: Arrays) -> Arrays:
    """Yield arrays as llama.cpp wants them: queries, keys and values apart, and one of both pictures' patches."""
    patches = gguf.TENSOR_NAMES[gguf.MODEL_TENSOR.V_ENC_EMBD_PATCH]
    for name, array in arrays:
        if ".qkv." in name:
            yield from zip((name.replace("qkv", part) for part in "qkv"), np.split(array, 3), strict=True)
        elif "patch_embed.proj.weight" in name:
            yield f"{patches}.weight", array[:, :, 0]
            yield f"{patches}.weight.1", array[:, :, 1]
        else:
            yield name, array


def write(writer: gguf.GGUFWriter, names: gguf.TensorNameMap, arrays: Arrays) -> None:
    for name, array in arrays:
        known = names.get_name(name, try_suffixes=(".weight", ".bias")) or name
        writer.add_tensor(known, np.ascontiguousarray(array.astype(np.float32)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    folder, target = map(Path, sys.argv[1:])
    settings = json.loads((folder / "config.json").read_text())
    text_model(folder, settings, target / "model.gguf")
    vision_tower(folder, settings, target / "mmproj.gguf")
