"""OpenRLHF's own code, in its own environment: data sets, prompts, and the executor that asks for a reward."""

import asyncio
import json
import sys
from functools import partial
from types import SimpleNamespace

import torch
from openrlhf.datasets.prompts_dataset import PromptDataset
from openrlhf.datasets.utils import blending_datasets
from openrlhf.utils.agent import SingleTurnAgentExecutor
from openrlhf.utils.vlm_utils import process_prompt_with_images
from transformers import AutoProcessor

request = json.loads(sys.argv[1])
processor = AutoProcessor.from_pretrained(request["model"])
keys = SimpleNamespace(input_key="input", label_key="label", image_key="images", apply_chat_template=True)
strategy = SimpleNamespace(
    args=SimpleNamespace(data=keys, use_ms=False), is_rank_0=lambda: True, print=partial(print, file=sys.stderr)
)
data = PromptDataset(blending_datasets(request["rows"], strategy=strategy), processor, strategy)


class Engine:
    """Answers with what it is told, in place of vLLM."""

    def __init__(self, text):
        self.tokens = processor.tokenizer(text + processor.tokenizer.eos_token)["input_ids"]

    async def generate(self, prompt_token_ids, sampling_params, multi_modal_data=None):
        completion = SimpleNamespace(token_ids=self.tokens, finish_reason="stop", logprobs=None)
        return SimpleNamespace(outputs=[completion])


results = []
for path in request["paths"]:
    executor, found = SingleTurnAgentExecutor(path), []
    for row, text in enumerate(request["completions"]):
        _, prompt, label, images = data[row]
        sampling = SimpleNamespace(max_tokens=256, logprobs=None)
        result = asyncio.run(executor.execute(prompt, label, sampling, 4096, processor, Engine(text), images))
        # As its samples generator makes tensors of them, which cannot be imported without vLLM.
        named = {"reward": result["reward"], "score": result["scores"], **result["extra_logs"]}
        found.append({name: None if value is None else torch.tensor([value]).item() for name, value in named.items()})
    results.append(found)
read = [process_prompt_with_images(processor, data[row][1], data[row][3]) for row in range(len(data))]
prompts = [processor.tokenizer.decode(tokens) for tokens, _, _ in read]
images = [[list(image.size) for image in pictures] for _, _, pictures in read]
print(json.dumps({"prompts": prompts, "images": images, "rewards": results}))
