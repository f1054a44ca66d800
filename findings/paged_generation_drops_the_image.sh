#!/usr/bin/env bash
# transformers 5.24.0: `generate(cache_implementation="paged")` of a LLaVA answers without its image.
#
# The paged cache sends the prompt's ids to continuous batching, which takes token ids alone: `pixel_values`, though
# passed, go nowhere, and the image's placeholders are embedded like any other token. Nothing is raised, and the answer
# depends on the question only. (What comes back is a list of the request's tokens, not a tensor.)
# Seen with a random model of one layer: the greedy texts of two images differ with the usual cache, and are equal with
# the paged one, where they are also the text of no image at all, placeholders left in.
# Exits with 0 while that is so, with 1 once it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.14.1" "transformers==5.24.0"
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

text = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
text |= {"num_attention_heads": 2, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
vision = CLIPVisionConfig(**vision, image_size=28, patch_size=14)
config = LlavaConfig(text_config=LlamaConfig(**text), vision_config=vision, image_token_index=60)
torch.manual_seed(0)
model = LlavaForConditionalGeneration(config).eval()
for parameter in model.parameters():
    torch.nn.init.normal_(parameter, std=1.0)
model.generation_config.eos_token_id, model.generation_config.pad_token_id = None, 0
NEW = 4
ids = torch.tensor([[1, 5, *[60] * 4, 6, 7, 8]])
images = 3 * torch.randn(8, 1, 3, 28, 28)


def answer(**inputs):
    found = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), **inputs, do_sample=False, max_new_tokens=NEW
    )
    return torch.as_tensor(found).flatten()[-NEW:].tolist()


usual = [answer(pixel_values=image) for image in images]
other = next(row for row, text in enumerate(usual) if text != usual[0])  # StopIteration: no image matters
usual = [usual[0], usual[other]]
paged = [answer(pixel_values=images[row], cache_implementation="paged") for row in (0, other)]
blind = answer(cache_implementation="paged")
print("usual cache, two images:", *usual)
print("paged cache, two images:", *paged, "no image:", blind)
raise SystemExit(0 if paged[0] == paged[1] == blind and blind not in usual else 1)
PYTHON
