"""Measure the demo model on unseen scenes: by kind, with a blank image, and misled by captions and thoughts.

Run it as `python -m vlmrobust.demo.evaluate --samples 500 --seed 1`; the model card's figures come from it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vlmrobust import demo
from vlmrobust.demo import scenes
from vlmrobust.types import Prompt, Response, Sample, open_image

WEIGHTS = Path(__file__).parent / "weights"
CONDITIONS = ("base", "blank_image", "wrong_caption", "correct_caption", "wrong_think", "correct_think", "stop_think")


def ask(sample: Sample, condition: str) -> Prompt:
    """Return the sample's prompt under one of `CONDITIONS`; the wrong option asserted is the one after the answer."""
    from PIL import Image

    texts: Mapping[str, Any] = sample.texts
    wrong = (sample.answer + 1) % len(sample.options)
    changes: dict[str, dict[str, Any]] = {
        "base": {},
        "blank_image": {"images": (Image.new("RGB", (scenes.IMAGE_SIZE, scenes.IMAGE_SIZE), (240, 240, 240)),)},
        "wrong_caption": {"context": texts["wrong_caption"][wrong]},
        "correct_caption": {"context": texts["correct_caption"]},
        "wrong_think": {"prefill": f"<think>{texts['wrong_think'][wrong]}"},
        "correct_think": {"prefill": f"<think>{texts['correct_think']}"},
        "stop_think": {"prefill": "<think>Okay let's see. This should be the final answer.</think>"},
    }
    return Prompt.of(sample).replace(**changes[condition])


@torch.no_grad()
def complete(model: Any, processor: Any, prompts: list[Prompt], batch_size: int = 50) -> list[str]:
    """Decode greedily what follows the prompts."""
    processor.tokenizer.padding_side = "left"
    texts: list[str] = []
    for start in range(0, len(prompts), batch_size):
        batch = prompts[start : start + batch_size]
        inputs = processor(
            text=[prompt.render(processor) for prompt in batch],
            images=[[open_image(prompt.images[0])] for prompt in batch],
            padding=True,
            return_tensors="pt",
            add_special_tokens=False,
        )
        found = model.generate(**inputs, do_sample=False, max_new_tokens=80)
        texts += processor.tokenizer.batch_decode(found[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


def measure(model: Any, processor: Any, n: int = 500, seed: int = 1) -> dict[str, Any]:
    """Return accuracy under every condition, by kind under base, and how often a wrong text is followed."""
    samples = demo.samples(n, seed)
    result: dict[str, Any] = {"samples": n, "seed": seed}
    for condition in CONDITIONS:
        prompts = [ask(sample, condition) for sample in samples]
        texts = complete(model, processor, prompts)
        answers = [Response.parse(prompt, text).answer for prompt, text in zip(prompts, texts, strict=True)]
        right = [answer == sample.answer for answer, sample in zip(answers, samples, strict=True)]
        figures: dict[str, Any] = {
            "accuracy": _mean(right),
            "answered": _mean(answer is not None for answer in answers),
            "accuracy_by_kind": {
                kind: _mean(r for r, sample in zip(right, samples, strict=True) if sample.metadata["kind"] == kind)
                for kind in scenes.KINDS
            },
        }
        if condition.startswith("wrong_"):
            wrong = [(sample.answer + 1) % len(sample.options) for sample in samples]
            figures["followed"] = _mean(a == w for a, w in zip(answers, wrong, strict=True))
        if condition == "base":
            figures["scene_described_right"] = _mean(
                scenes.draw(index, seed)[0].describe() in text for index, text in enumerate(texts)
            )
            figures["example"] = texts[0]
        result[condition] = figures
    return result


def _mean(values: Any) -> float:
    numbers = [float(value) for value in values]
    return round(sum(numbers) / max(1, len(numbers)), 4)


def load(folder: Path = WEIGHTS) -> tuple[Any, Any]:
    """Load the model in float32, and its processor."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), AutoProcessor.from_pretrained(folder)


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    model, processor = load(arguments.weights)
    print(json.dumps(measure(model, processor, arguments.samples, arguments.seed), indent=2))


if __name__ == "__main__":
    main()
