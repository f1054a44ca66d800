"""ms-swift's own code, in its own environment: data set, prompts as its template makes them, and rewards."""

import json
import sys

import torch
from swift.dataset import load_dataset
from swift.model import get_processor
from swift.rewards import orms
from swift.rl_core.data import GRPOSample
from swift.rl_core.grpo_algorithm import score_completions
from swift.template import TemplateInputs, get_template
from swift.utils import import_external_file, remove_response

request = json.loads(sys.argv[1])
processor = get_processor(request["model"], model_type="qwen2_5_vl")
template = get_template(processor, template_type="qwen2_5_vl")
template.set_mode("transformers")
data, _ = load_dataset([request["rows"]], remove_unused_columns=False, load_from_cache_file=False, strict=True)
import_external_file(request["plugin"])

prompts, images, samples = [], [], []
for row, text in zip(data, request["completions"], strict=True):
    remove_response(row["messages"])  # what the trainer does before a rollout
    encoded = template.encode(TemplateInputs.from_dict({"messages": row["messages"], "images": row["images"]}))
    prompts.append(processor.tokenizer.decode(encoded["input_ids"]))
    images.append(len(row["images"]))
    messages = [*row["messages"], {"role": "assistant", "content": text}]
    extra = {name: value for name, value in row.items() if name not in ("messages", "images")}
    samples.append(GRPOSample(messages=messages, extra=extra))
rewards = [orms[name](args=None) for name in request["rewards"]]
found = score_completions(samples, rewards, [None] * len(rewards), False, torch.device("cpu"))
print(json.dumps({"prompts": prompts, "images": images, "rewards": found.tolist()}))
