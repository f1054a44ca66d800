#!/usr/bin/env bash
# transformers 5.24.0: a static cache changes the logits of Gemma 4 Unified where an image is longer than the sliding window.
#
# `cache_implementation="static"` is meant to change the speed alone, and it does so for Gemma 3 and Gemma 4, whatever the
# length of an image. The layers of Gemma 4 Unified with a sliding window let the tokens of an image attend to each other
# both ways, and with a static cache tokens that are further apart than the window attend otherwise than without a cache
# and with the default one; nothing is logged. An image has up to 1,120 tokens, and the window of the default
# configuration has 1,024.
# Seen with a random model of two layers and an image of 64 tokens, logits at the first new token, against a pass without
# a cache: default cache 2e-6; static cache 1.7 with a window of 32, 2e-6 with a window of 64.
# Exits with 0 while that is so, with 1 once it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.14.1" "transformers==5.24.0"
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from transformers import Gemma4UnifiedConfig, Gemma4UnifiedForConditionalGeneration

IMAGE, SIDE = 60, 8  # an image of 8 × 8 tokens
text = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 16}
text |= {"num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
text |= {"layer_types": ["sliding_attention", "full_attention"], "use_bidirectional_attention": "vision"}
text |= {"final_logit_softcapping": None}
vision = {"patch_size": 2, "mm_embed_dim": 32, "mm_posemb_size": 16, "output_proj_dims": 32}
ids = torch.tensor([[1, 5, 61, *[IMAGE] * SIDE**2, 62, 6, 7, 8, 9]])
places = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE)).flip(1)[None]
pixels = torch.rand(1, SIDE**2, (3 * 2) ** 2 * 3, generator=torch.Generator().manual_seed(0))
inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": (ids == IMAGE).long()}
inputs |= {"pixel_values": pixels, "image_position_ids": places}


def off(window):
    config = Gemma4UnifiedConfig(
        text_config=text | {"sliding_window": window}, vision_config=vision, audio_config=None,
        image_token_id=IMAGE, boi_token_id=61, eoi_token_id=62, audio_token_id=59, video_token_id=58, boa_token_id=57,
    )
    model = Gemma4UnifiedForConditionalGeneration(config).eval()
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=1.0)
    first = {
        kind: model.generate(
            **inputs, cache_implementation=kind, do_sample=False, max_new_tokens=1, min_new_tokens=1,
            output_logits=True, return_dict_in_generate=True,
        ).logits[0]
        for kind in (None, "static")
    }
    with torch.no_grad():
        first["no cache"] = model(**inputs, use_cache=False).logits[:, -1]
    return {kind: float((logits - first["no cache"]).abs().max()) for kind, logits in first.items()}


longer, shorter = off(SIDE**2 // 2), off(SIDE**2)
print("image longer than the window, off from the pass without a cache by:", longer)
print("image as long as the window, off by:", shorter)
same = longer[None] < 1e-4 and shorter["static"] < 1e-4
raise SystemExit(0 if same and longer["static"] > 0.1 else 1)
PYTHON
