"""One's own inference loop, without `HFModel`: plain transformers, prompts from `expand`, a report at the end."""

import torch

import vlmrobust as vr
from vlmrobust.types import open_image

loaded = vr.HFModel.from_pretrained("Qwen/Qwen2.5-VL-3B-Instruct")  # any way to get a model and its processor
model, processor = loaded.model, loaded.processor


def complete(prompt: vr.Prompt) -> str:
    """Continue one prompt; the rendered text holds its special tokens, so none are added."""
    inputs = processor(
        text=[prompt.render(processor)],
        images=[open_image(image) for image in prompt.images],
        return_tensors="pt",
        add_special_tokens=False,
    ).to(model.device)
    with torch.inference_mode():
        tokens = model.generate(**inputs, max_new_tokens=128, do_sample=False)
    return str(processor.tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


prompts = vr.expand(vr.demo.samples(20), vr.paper_conditions(), seed=0)
responses = [vr.Response.parse(prompt, complete(prompt)) for prompt in prompts]
print(vr.Report.from_responses(prompts, responses, seed=0))
