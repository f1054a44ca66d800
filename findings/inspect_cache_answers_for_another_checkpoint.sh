#!/usr/bin/env bash
# inspect-ai 0.3.285: with its cache on, a second checkpoint answers with the replies of the first.
#
# The key is made of the messages, the generation config, the model's name and the base URL, not of the model's
# arguments. Local weights are all named `hf/local`, and the checkpoint is an argument, `-M model_path=…`: whoever
# evaluates several checkpoints with `--cache`, or one with another data type or chat template, gets the numbers of the
# first for all of them, at once and without a warning. Training seems to have changed nothing.
# Seen with two random models of one layer: their greedy replies to a prompt differ without a cache; with it the second
# gives the first one's, word for word. With `CachePolicy(scopes={"weights": folder})` both are right.
# Of use: such a scope, or no cache across checkpoints.
# Exits with 0 while that is so, with 1 once it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.14.1" "transformers==5.24.0" "accelerate==1.15.0" "inspect-ai==0.3.285"
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error INSPECT_CACHE_DIR="$folder/cache"
"$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import asyncio
import sys

import torch
from inspect_ai.model import CachePolicy, GenerateConfig, get_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

words = ["<pad>", "<s>", "</s>", *(f"word{number}" for number in range(29))]
tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<pad>"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
tokenizer.chat_template = "{% for turn in messages %}{{ turn['content'] }} {% endfor %}"
config = LlamaConfig(
    vocab_size=32, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)
folders = []
for step in (100, 200):
    torch.manual_seed(step)
    model = LlamaForCausalLM(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    folders.append(f"{sys.argv[1]}/checkpoint-{step}")
    model.save_pretrained(folders[-1])
    tokenizer.save_pretrained(folders[-1])


async def ask(cache):
    """Ask both checkpoints the same."""
    said = []
    for folder in folders:
        policy = CachePolicy(scopes={"weights": folder}) if cache == "scoped" else cache
        local = get_model("hf/local", model_path=folder, tokenizer_path=folder, device="cpu", memoize=False)
        reply = await local.generate("word1 word2", config=GenerateConfig(max_tokens=6, top_k=1, seed=1), cache=policy)
        said.append(reply.completion)
    return said


plain, cached, scoped = (asyncio.run(ask(cache)) for cache in (False, True, "scoped"))
print("replies of the two checkpoints: without a cache", plain)
print("with it", cached, "with the folder as a scope", scoped)
raise SystemExit(0 if plain[0] != plain[1] and cached == [plain[0]] * 2 and scoped == plain else 1)
PYTHON
