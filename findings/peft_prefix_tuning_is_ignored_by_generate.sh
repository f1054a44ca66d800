#!/usr/bin/env bash
# peft 0.21.2 with transformers 5.24.0: a prefix-tuned model generates as if it had not been tuned.
#
# peft hands the prefix over as `past_key_values`; transformers 5 calls its cache `cache`, has made an empty one by
# then, and takes that: a FutureWarning says that the deprecated of the two is ignored, among others about renamed
# arguments. `forward` takes the prefix, so that losses and log-probabilities are the tuned model's, while the texts are
# the base model's: an evaluation by text finds that tuning has changed nothing.
# Seen with a random Llama of two layers and a prefix of 4, logits at the first new token: `generate` of the tuned model
# equals that of the base model within 1e-6 and is off its own `forward` by 0.79. Prompt tuning, which goes through
# embeddings, is exact.
# Exits with 0 while that is so, with 1 once it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.14.1" "transformers==5.24.0" "peft==0.21.2"
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import copy

import torch
from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2, pad_token_id=0,
)
base = LlamaForCausalLM(config).eval()
for parameter in base.parameters():
    torch.nn.init.normal_(parameter, std=0.2)
ids = torch.tensor([[1, 5, 6, 7]])
inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def generated(model):
    found = model.generate(
        **inputs, do_sample=False, max_new_tokens=1, output_logits=True, return_dict_in_generate=True
    )
    return found.logits[0]


def off(kind):
    tuned = get_peft_model(copy.deepcopy(base), kind(task_type="CAUSAL_LM", num_virtual_tokens=4)).eval()
    for name, parameter in tuned.named_parameters():
        if "prompt_encoder" in name:
            torch.nn.init.normal_(parameter, std=1.0)
    with torch.no_grad():
        others = tuned(**inputs).logits[:, -1], generated(base)
    return [float((generated(tuned) - other).abs().max()) for other in others]


prefix, prompt = off(PrefixTuningConfig), off(PromptTuningConfig)
print("prefix tuning: generate is off its own forward by", prefix[0], "and off the base model's generate by", prefix[1])
print("prompt tuning: generate is off its own forward by", prompt[0], "and off the base model's generate by", prompt[1])
raise SystemExit(0 if prefix[0] > 0.1 and prefix[1] < 1e-5 and prompt[0] < 1e-5 and prompt[1] > 0.1 else 1)
PYTHON
