#!/usr/bin/env bash
# transformers 5.24.0: `generate(inputs_embeds=…)` of a Qwen2.5-VL takes image tokens for text when it numbers positions.
#
# The model gives image tokens positions in time, height and width, which it reads off `input_ids`. Embeddings alone, as
# for a soft prompt or an adversarial change of the embeddings, have no ids: all tokens get the positions of text, while
# the image is put in its place as usual. Nothing is raised, and no warning is given, though `mm_token_type_ids` and
# `image_grid_thw`, which say where the image is, were passed.
# Seen with a random model of one layer and an image of 16 tokens, logits at the first new token: the same embeddings,
# unchanged, are off by 0.16 from the ids that they are of; passed beside these ids they are exact, and so are
# embeddings of a prompt without an image. LLaVA and InternVL, which number in order, are exact.
# Exits with 0 while that is so, with 1 once it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.14.1" "transformers==5.24.0"
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10_000.0}
text = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "rope_parameters": rope}
text |= {"num_attention_heads": 2, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
tokens = {"image_token_id": 60, "video_token_id": 61, "vision_start_token_id": 62, "vision_end_token_id": 63}
config = Qwen2_5_VLConfig(text_config=text, vision_config=vision | {"fullatt_block_indexes": [0]}, **tokens)
torch.manual_seed(0)
model = Qwen2_5_VLForConditionalGeneration(config).eval()
for parameter in model.parameters():
    torch.nn.init.normal_(parameter, std=0.3)
image = {"pixel_values": torch.randn(64, 3 * 2 * 14 * 14), "image_grid_thw": torch.tensor([[1, 8, 8]])}


def logits(ids, **inputs):
    found = model.generate(
        attention_mask=torch.ones_like(ids), **inputs, do_sample=False, max_new_tokens=1, min_new_tokens=1,
        output_logits=True, return_dict_in_generate=True,
    )
    return found.logits[0]


def off(ids, **image):
    ids = torch.tensor([ids])
    image |= {"mm_token_type_ids": (ids == 60).long()} if image else {}
    with torch.no_grad():
        embeddings = model.get_input_embeddings()(ids)
    by_ids = logits(ids, input_ids=ids, **image)
    alone, beside = {"inputs_embeds": embeddings}, {"inputs_embeds": embeddings, "input_ids": ids}
    return [round(float((logits(ids, **given, **image) - by_ids).abs().max()), 5) for given in (alone, beside)]


pictured, plain = off([1, 5, 62, *[60] * 16, 63, 6, 7, 8], **image), off([1, 5, 6, 7, 8])
print("with an image, (embeddings alone, beside their ids) off the ids by:", pictured)
print("without:", plain)
raise SystemExit(0 if pictured[0] > 0.05 and max(pictured[1], *plain) < 1e-4 else 1)
PYTHON
