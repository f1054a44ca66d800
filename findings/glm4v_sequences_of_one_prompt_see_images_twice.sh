#!/usr/bin/env bash
# transformers 5.24.0: GLM-4V, asked for several sequences of a prompt with two images, shows each sequence one image twice.
#
# `generate` encodes images once and repeats the features per sequence. What all families share repeats them by prompt
# (A, B, A, B); `Glm4vForConditionalGeneration` has a method of its own that repeats them by image (A, A, B, B): the
# first sequence sees the first image in both places, the second one the second. `num_return_sequences` and `num_beams`
# both do so. Nothing is raised or logged, the shapes are right, and a prompt of one image is not affected, so that
# self-consistency, best-of-n and beam search on comparisons of images are silently about other images.
# Seen with a random model of one layer, logits at the first new token against those of a single sequence: 0 with one
# image; with two, 0.19 and 0.24 in the two sequences, which equal those of the prompts (A, A) and (B, B).
# Qwen2.5-VL does it right. Of use: repeat the prompt in a batch instead (`input_ids` and images twice).
# Exits with 0 while that is so, with 1 once it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.14.1" "transformers==5.24.0"
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from transformers import Glm4vConfig, Glm4vForConditionalGeneration

rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10_000.0, "partial_rotary_factor": 1.0}
text = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "rope_parameters": rope}
text |= {"num_attention_heads": 2, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
tokens = {"image_token_id": 60, "image_start_token_id": 61, "image_end_token_id": 62, "video_token_id": 59}
torch.manual_seed(0)
config = Glm4vConfig(text_config=text, vision_config=vision | {"image_size": 28, "patch_size": 14}, **tokens)
model = Glm4vForConditionalGeneration(config).eval()
for parameter in model.parameters():  # far enough from 0 for an image to matter
    torch.nn.init.normal_(parameter, std=0.3)
first, second = torch.randn(2, 4, 3 * 2 * 14 * 14)  # four patches each: one token after merging


def logits(*images, sequences=1):
    ids = torch.tensor([[1, *(61, 60, 62) * len(images), 5, 6, 7]])
    found = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=(ids == 60).long(),
        pixel_values=torch.cat(images), image_grid_thw=torch.tensor([[1, 2, 2]] * len(images)),
        do_sample=True, num_return_sequences=sequences, max_new_tokens=1, min_new_tokens=1,
        output_logits=True, return_dict_in_generate=True,
    )
    return found.logits[0]


def off(some, others):
    return [round(float((one - other).abs().max()), 4) for one, other in zip(some, others, strict=True)]


alone = logits(first).repeat(2, 1)
one = off(logits(first, sequences=2), alone)
asked = logits(first, second, sequences=2)
two = off(asked, logits(first, second).repeat(2, 1))
doubled = off(asked, torch.cat([logits(first, first), logits(second, second)]))
print("two sequences of a prompt with one image, off a single one:", one)
print("two sequences of a prompt with two images, off a single one:", two)
print("the same, off prompts with the first image twice and the second twice:", doubled)
raise SystemExit(0 if max(one) < 1e-3 and min(two) > 0.1 and max(doubled) < 1e-3 else 1)
PYTHON
