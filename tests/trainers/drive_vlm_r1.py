"""VLM-R1's own source, of which two pieces are run: how its script loads rows, and how its trainer asks for rewards.

Its modules import what no longer goes together (flash-attn, an old TRL); these pieces need none of it.
"""

import ast
import json
import os
import pathlib
import sys
from types import SimpleNamespace

import torch

from vlmrobust.rl import AccuracyReward, FaithfulnessReward

request = json.loads(sys.argv[1])
source = pathlib.Path(request["source"]) / "src" / "open-r1-multimodal" / "src" / "open_r1"
folder = str(pathlib.Path(request["rows"]).parent)
trainer_arguments = {}


class Trainer:
    def __init__(self, **arguments):
        trainer_arguments.update(arguments)

    def train(self, *_, **__):
        pass

    save_model = train


def compiled(file, find):
    """Return a piece of a file, compiled."""
    [node] = [node for node in ast.walk(ast.parse((source / file).read_text())) if find(node)]
    return compile(ast.Module([node], []), str(source / file), "exec")


rewards = {"faithful": FaithfulnessReward(none_value=0.0), "accurate": AccuracyReward(none_value=0.0)}
script = {
    "os": os,
    "pathlib": pathlib,
    "get_vlm_module": lambda name: type(
        "Module", (), {"get_question_template": staticmethod(lambda task_type: "{Question}")}
    ),
    "reward_funcs_registry": rewards,
    "initialize_tokenizer": lambda name: None,
    "VLMGRPOTrainer": Trainer,
    "get_peft_config": lambda arguments: None,
}
exec(compiled("grpo_jsonl.py", lambda node: isinstance(node, ast.FunctionDef) and node.name == "main"), script)


class Arguments(SimpleNamespace):
    def __getattr__(self, name):
        return None


options = {
    "data_file_paths": request["rows"],
    "image_folders": folder,
    "reward_funcs": list(rewards),
}
training = Arguments(output_dir=folder, eval_strategy="no")
script["main"](Arguments(**options, val_split_ratio=0.0), training, Arguments(model_name_or_path="qwen"))

inputs = [dict(row) for row in trainer_arguments["train_dataset"]]
state = {
    "torch": torch,
    "PreTrainedModel": torch.nn.Module,
    "self": SimpleNamespace(
        reward_funcs=trainer_arguments["reward_funcs"], reward_processing_classes=[None] * len(rewards)
    ),
    "inputs": inputs,
    "prompts": [row["prompt"] for row in inputs],
    "completions": [[{"role": "assistant", "content": text}] for text in request["completions"]],
    "rewards_per_func": torch.zeros(len(inputs), len(rewards)),
    "device": "cpu",
}
exec(
    compiled(
        "trainer/grpo_trainer.py",
        lambda node: (
            isinstance(node, ast.For)
            and "output_reward_func" in ast.unparse(node)
            and "reward_kwargs" in ast.unparse(node)
        ),
    ),
    state,
)
prompts = ["".join(part["text"] or "<image>" for part in row["prompt"][0]["content"]) for row in inputs]
images = [len(row["image_path"]) for row in inputs]
print(json.dumps({"prompts": prompts, "images": images, "rewards": state["rewards_per_func"].tolist()}))
