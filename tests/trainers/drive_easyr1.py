"""EasyR1's own code, in an environment of its own: data set, prompts, and the manager that asks for rewards."""

import json
import sys

import torch
from transformers import AutoProcessor
from verl.protocol import DataProto
from verl.utils.dataset import RLHFDataset, collate_fn
from verl.workers.reward.config import RewardConfig
from verl.workers.reward.function import AutoRewardManager

request = json.loads(sys.argv[1])
processor = AutoProcessor.from_pretrained(request["model"])
tokenizer = processor.tokenizer
data = RLHFDataset(
    request["rows"], tokenizer, processor, prompt_key="problem", max_prompt_length=2048, filter_overlong_prompts=False
)
rows = [data[index] for index in range(len(data))]
prompts = [tokenizer.decode(row["raw_prompt_ids"]) for row in rows]
images = [[list(image.size) for image in row["multi_modal_data"]["images"]] for row in rows]

turns = [tokenizer(text + tokenizer.eos_token)["input_ids"] for text in request["completions"]]
longest = max(map(len, turns))
responses = torch.tensor([turn + [tokenizer.pad_token_id] * (longest - len(turn)) for turn in turns])
mask = torch.tensor([[1] * len(turn) + [0] * (longest - len(turn)) for turn in turns])
results = []
for path in request["paths"]:
    config = RewardConfig(reward_function=f"{path}:compute_score", reward_function_kwargs=request["settings"])
    config.post_init()
    manager = AutoRewardManager(config, tokenizer)
    ground_truths = collate_fn(rows)["ground_truth"]
    batch = DataProto.from_single_dict({"responses": responses, "response_mask": mask, "ground_truth": ground_truths})
    try:
        rewards, metrics = manager.compute_reward(batch)
        results.append({"rewards": rewards.sum(dim=1).tolist(), "metrics": dict(metrics)})
    except ValueError as error:
        results.append(str(error))
print(json.dumps({"prompts": prompts, "images": images, "rewards": results}))
