#!/usr/bin/env bash
# transformers 5.24.0: Janus generates text as if no logits processor had been passed.
#
# `JanusForConditionalGeneration.generate` takes `logits_processor`, as any `generate` does, but hands it on in its image
# mode only. In text mode, the default, constrained decoding, watermarks, and sampling with noise of one's own do nothing,
# and nothing is logged. `prefix_allowed_tokens_fn`, options of the generation config, and stopping criteria do act.
# Seen with a random model: a processor that allows a single token is never called, and the text is the greedy one.
# Exits with 0 while that is so, with 1 once it is not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.14.1" "transformers==5.24.0"
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from transformers import JanusConfig, JanusForConditionalGeneration, LlamaForCausalLM

heads = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
text = {"model_type": "llama", "vocab_size": 64, "intermediate_size": 32, **heads}
text |= {"bos_token_id": 1, "eos_token_id": None, "pad_token_id": 0}
vision = {"projection_dim": 32, "image_size": 32, "patch_size": 16, "num_image_tokens": 4, **heads}
pixels = {"embed_dim": 8, "num_embeddings": 16, "latent_channels": 32, "base_channels": 32, "channel_multiplier": [1, 1]}
pixels |= {"num_res_blocks": 1, "num_patches": 4, "projection_dim": 32, "image_token_embed_dim": 32}
config = JanusConfig(text_config=text, vision_config=vision, vq_config=pixels, image_token_id=63)
prompt = torch.arange(5, 11)[None]
settings = {"attention_mask": torch.ones_like(prompt), "max_new_tokens": 6, "do_sample": False}


def written(model, **options):
    return model.generate(prompt, **settings, **options)[0, prompt.shape[1] :].tolist()


def only_seven(calls):
    def process(tokens, scores):
        calls.append(len(tokens))
        allowed = torch.full_like(scores, -torch.inf)
        allowed[:, 7] = 0.0
        return allowed

    return [process]


found = {}
for name, model in (("Janus", JanusForConditionalGeneration(config)), ("Llama", LlamaForCausalLM(config.text_config))):
    torch.manual_seed(0)
    for parameter in model.eval().parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    calls = []
    greedy, processed = written(model), written(model, logits_processor=only_seven(calls))
    allowed = written(model, prefix_allowed_tokens_fn=lambda row, tokens: [7])
    found[name] = (len(calls), processed == greedy, processed == [7] * 6, allowed == [7] * 6)
    print(f"{name}: processor called {len(calls)} times; greedy {greedy}, processed {processed}, allowed {allowed}")
raise SystemExit(0 if found == {"Janus": (0, True, False, True), "Llama": (6, False, True, True)} else 1)
PYTHON
