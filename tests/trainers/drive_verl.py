"""verl's own code, in its own environment: loader, prompts as its agent loop builds them, and reward workers."""

import asyncio
import json
import sys

import numpy as np
import torch
from omegaconf import OmegaConf
from verl import DataProto
from verl.experimental.reward_loop.reward_loop import RewardLoopWorker
from verl.utils import hf_processor, hf_tokenizer
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn
from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

request = json.loads(sys.argv[1])
tokenizer, processor = hf_tokenizer(request["model"]), hf_processor(request["model"])
config = OmegaConf.create({"max_prompt_length": 4096, "filter_overlong_prompts": True, "cache_dir": request["scratch"]})
data = RLHFDataset(request["rows"], tokenizer, config, processor)
rows = [data[index] for index in range(len(data))]

builder = create_continuous_token_builder(tokenizer, hf_model_type=processor.config.model_type, processor=processor)
prompts, images = [], []
for row in rows:
    shown, _, _ = asyncio.run(
        RLHFDataset.process_multi_modal_info(row["raw_prompt"], image_patch_size=14, config=config)
    )
    images.append([list(image.size) for image in shown])
    prompts.append(tokenizer.decode(builder.build_initial_tokens(list(row["raw_prompt"]), images=shown)))

results = []
for manager in request["managers"]:
    for path in request["paths"]:
        reward = {
            "custom_reward_function": {"path": path, "name": "compute_score", "reward_kwargs": request["settings"]},
            "reward_manager": {"source": "register", "name": manager},
            "reward_model": {"enable": False},
            "reward_kwargs": {"overlong_buffer_cfg": {"enable": False}, "max_resp_len": None},
        }
        model = {"path": request["model"], "tokenizer_path": None}
        worker = RewardLoopWorker(OmegaConf.create({"actor_rollout_ref": {"model": model}, "reward": reward}))
        turns = [tokenizer(text + tokenizer.eos_token)["input_ids"] for text in request["completions"]]
        longest = max(map(len, turns))
        padded = [turn + [tokenizer.pad_token_id] * (longest - len(turn)) for turn in turns]
        mask = [[1] * (1 + len(turn)) + [0] * (longest - len(turn)) for turn in turns]  # a prompt of one token
        batch = DataProto.from_single_dict(
            {
                **{name: value for name, value in collate_fn(rows).items() if isinstance(value, np.ndarray)},
                "responses": torch.tensor(padded),
                "attention_mask": torch.tensor(mask),
            }
        )
        try:
            found = asyncio.get_event_loop().run_until_complete(worker.compute_score_batch(batch))
            results.append(found)
        except ValueError as error:
            results.append(str(error))
print(json.dumps({"prompts": prompts, "images": images, "rewards": results}))
