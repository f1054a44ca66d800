#!/usr/bin/env bash
# transformers 5.24.0: two penalties of `generate` count left padding as text, so that a text depends on its batch.
#
# `repetition_penalty` skips padding since transformers 5, but `encoder_repetition_penalty`, which raises the tokens of a
# prompt, and `no_repeat_ngram_size` get the padded prompt as it is. Where the padding token is the end token, as in many
# scripts, the former makes the end likelier in every prompt but the longest of a batch, and the latter can rule it out.
# The attention mask is passed; nothing is logged.
# Seen with a random model, for a prompt alone and beside one that is five tokens longer: with
# `encoder_repetition_penalty=3.0` its text has 12 tokens alone, and ends at once beside the other; with
# `no_repeat_ngram_size=1` it ends after 6 tokens alone, and not at all beside the other; with `repetition_penalty=3.0`,
# and without penalties, it is the same.
# Exits with 0 while that is so, with 1 once it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.14.1" "transformers==5.24.0"
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from transformers import LlamaConfig, LlamaForCausalLM

END, NEW = 2, 12
heads = {"num_hidden_layers": 2, "num_attention_heads": 2}
config = LlamaConfig(vocab_size=32, hidden_size=32, intermediate_size=32, eos_token_id=END, pad_token_id=END, **heads)
model = LlamaForCausalLM(config).eval()
torch.manual_seed(8)
for parameter in model.parameters():
    torch.nn.init.normal_(parameter, std=0.4)
short, long = [5, 6, 7], [8, 9, 10, 11, 12, 13, 14, 15]


def text(prompts, **penalty):
    width = max(map(len, prompts))
    rows = torch.tensor([[END] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    written = model.generate(rows, attention_mask=mask, max_new_tokens=NEW, do_sample=False, **penalty)[0, width:]
    tokens = written.tolist()
    return tokens[: tokens.index(END) + 1] if END in tokens else tokens


same = {}
for penalty in ({}, {"repetition_penalty": 3.0}, {"encoder_repetition_penalty": 3.0}, {"no_repeat_ngram_size": 1}):
    alone, beside = text([short], **penalty), text([short, long], **penalty)
    name = next(iter(penalty), "none")
    same[name] = alone == beside
    print(f"{name}: alone {alone}, beside a longer prompt {beside}")
counting = [name for name, is_same in same.items() if not is_same]
raise SystemExit(0 if counting == ["encoder_repetition_penalty", "no_repeat_ngram_size"] else 1)
PYTHON
