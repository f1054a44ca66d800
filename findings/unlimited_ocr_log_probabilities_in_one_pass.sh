#!/usr/bin/env bash
# transformers 5.24.0: one pass over a text of Unlimited OCR does not give the log-probabilities it was generated with.
#
# Trainers and evaluations read the log-probabilities of a generated text from one forward pass over prompt and text, and
# `use_cache` is described as a matter of speed. In Unlimited OCR the window of attention (128 tokens by default, counted
# from the end of the prompt, which always stays visible) is kept by the cache alone: whatever the first pass processes
# counts as prompt. So in one pass, and with `use_cache=False`, a text attends to all of itself, and once it is longer
# than the window, it is scored, and continued, by another function than the one that wrote it. Nothing is logged.
# Seen with a random model of two layers, a window of 8 and a text of 24 tokens: the log-probabilities of the first nine
# tokens agree within 9e-6 nats, those of the others differ by 0.3 to 5 nats; without a cache, the text is another one
# from the eleventh token on.
# Exits with 0 while that is so, with 1 once it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.14.1" "transformers==5.24.0"
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from transformers import UnlimitedOcrConfig, UnlimitedOcrForConditionalGeneration

WINDOW, NEW = 8, 24
heads = {"num_hidden_layers": 2, "num_attention_heads": 2}
text = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_key_value_heads": 2, **heads}
text |= {"sliding_window": WINDOW, "mlp_layer_types": ["dense", "dense"]}
text |= {"bos_token_id": 1, "eos_token_id": None, "pad_token_id": 0}
sam = {"hidden_size": 16, "mlp_dim": 16, "image_size": 64, "global_attn_indexes": [], **heads}
sam |= {"output_channels": 16, "downsample_channels": [16, 32]}
tower = {"hidden_size": 32, "intermediate_size": 32, "image_size": 64, "patch_size": 16, **heads}
vision = {"sam_config": sam, "encoder_config": tower}
config = UnlimitedOcrConfig(text_config=text, vision_config=vision, image_token_id=63)
model = UnlimitedOcrForConditionalGeneration(config).eval()
torch.manual_seed(0)
for parameter in model.parameters():
    torch.nn.init.normal_(parameter, std=0.5)

prompt = torch.arange(5, 11)[None]
settings = {"attention_mask": torch.ones_like(prompt), "max_new_tokens": NEW, "do_sample": False}
written = model.generate(prompt, **settings, output_logits=True, return_dict_in_generate=True)
drawn = torch.stack(written.logits, dim=1).log_softmax(-1)
with torch.no_grad():
    scored = model(written.sequences).logits[:, prompt.shape[1] - 1 : -1].log_softmax(-1)
off = (drawn - scored).abs().amax((0, 2))
uncached = model.generate(prompt, **settings, use_cache=False)
within, beyond = float(off[: WINDOW + 1].max()), float(off[WINDOW + 1 :].min())
same = int((uncached == written.sequences).long().cumprod(-1).sum()) - prompt.shape[1]
print(f"differences in nats: {within:.1e} at most within the window, {beyond:.2f} to {float(off.max()):.2f} beyond it")
print(f"with use_cache=False, the first {same} of {NEW} tokens are the same")
raise SystemExit(0 if within < 1e-4 and beyond > 0.1 and WINDOW <= same < NEW else 1)
PYTHON
