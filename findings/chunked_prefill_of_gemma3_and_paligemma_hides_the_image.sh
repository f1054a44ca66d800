#!/usr/bin/env bash
# transformers 5.24.0: `prefill_chunk_size`, which saves memory, changes the logits of Gemma 3 and PaliGemma.
#
# Image tokens of Gemma 3 attend to each other both ways, and so does the whole prompt of PaliGemma. A chunk of the
# prompt sees what came before it and itself: an image that is cut between chunks, or a prompt longer than one chunk,
# attends to less than it does in one piece. Models that cannot be cut raise (Mllama does), these two do not, and text
# comes out. Causal models (Qwen2.5-VL, LLaVA, InternVL) are not affected, nor is a Gemma 3 whose images are not cut.
# Seen with random models of two layers and 16 image tokens, logits at the first new token: Gemma 3 off by 0.32 with
# chunks of 8, by less than 1e-5 with 19, where the cut is behind the image; PaliGemma by 0.71 and 0.17; with one chunk 0.
# Gemma 3's images have 256 tokens: every size below that cuts each of them.
# Exits with 0 while that is so, with 1 once it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.14.1" "transformers==5.24.0"
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from transformers import Gemma3Config, Gemma3ForConditionalGeneration
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

IMAGE = 60
text = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 16}
text |= {"num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
vision |= {"image_size": 56, "patch_size": 14, "vision_use_head": False}
gemma = Gemma3Config(
    text_config=text | {"sliding_window": 64, "query_pre_attn_scalar": 16}, vision_config=vision,
    mm_tokens_per_image=16, image_token_index=IMAGE, boi_token_index=61, eoi_token_index=62,
)
pali = PaliGemmaConfig(
    text_config=text | {"model_type": "gemma"}, vision_config=vision, image_token_index=IMAGE, projection_dim=32
)


def off(model, ids):
    """Return the largest difference of logits by size of a chunk."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    image, ids = torch.randn(1, 3, 56, 56), torch.tensor([ids])
    kinds = (ids == IMAGE).long() if isinstance(model, Gemma3ForConditionalGeneration) else torch.zeros_like(ids)
    found = {
        chunk: model.eval().generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), token_type_ids=kinds, pixel_values=image,
            prefill_chunk_size=chunk, do_sample=False, max_new_tokens=1, min_new_tokens=1,
            output_logits=True, return_dict_in_generate=True,
        ).logits[0]
        for chunk in (None, 8, 19, 64)
    }
    return {chunk: float((logits - found[None]).abs().max()) for chunk, logits in found.items() if chunk}


of_gemma = off(Gemma3ForConditionalGeneration(gemma), [1, 5, 61, *[IMAGE] * 16, 62, 6, 7, 8, 9])
of_pali = off(PaliGemmaForConditionalGeneration(pali), [*[IMAGE] * 16, 1, 5, 6, 7, 8, 9])
print("Gemma 3, size of a chunk -> off by:", of_gemma)
print("PaliGemma, size of a chunk -> off by:", of_pali)
cut = of_gemma[8] > 0.02 and of_pali[8] > 0.02 and of_pali[19] > 0.02
raise SystemExit(0 if cut and of_gemma[19] < 1e-4 and of_gemma[64] == of_pali[64] == 0 else 1)
PYTHON
