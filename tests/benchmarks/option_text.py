"""What scoring options' texts on a shared cache saves over a loop of full forwards, one per option, as harnesses do it.

The model of `prefix.py`, one image, K options of one to six words, read after a closed thought. Both ways compute the
same log-probabilities; operations are counted, times are the smallest of some, in turn. Not a test: timings depend on
what else the machine does.

    python tests/benchmarks/option_text.py
"""

import argparse
import random
from typing import Any

import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from vlmrobust import HFModel, Prompt, Sample, Style

# Scripts of this folder see each other.
from counting import seconds  # isort: skip
from prefix import WORDS, build  # isort: skip


def prompt_of(options: int, image_tokens: int) -> Prompt:
    """Return a prompt whose thought is closed."""
    side = 28 * int(image_tokens**0.5)
    draw = random.Random(0)
    texts: set[str] = set()
    while len(texts) < options:
        texts.add(" ".join(draw.choices(WORDS, k=draw.randint(1, 6))))
    noise = Image.effect_noise((side, side), 80).convert("RGB")
    sample = Sample(id="q", images=[noise], question="the cube is", options=sorted(texts), answer=0)
    thought = " ".join(draw.choices(WORDS, k=60))
    return Prompt.of(sample, style=Style(answer_by="text")).replace(prefill=f"<think>{thought}</think>")


@torch.inference_mode()
def looped(model: Any, processor: Any, prompt: Prompt) -> None:
    """Put each option's whole text through the model, and read the logits of its last tokens."""
    for option in prompt.options:
        text = f"{prompt.render(processor)}<answer>{option}</answer>"
        inputs = processor(text=[text], images=[list(prompt.images)], return_tensors="pt")
        model(**inputs, logits_to_keep=16, use_cache=False)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--options", type=int, nargs="+", default=[2, 4, 10])
    parser.add_argument("--image-tokens", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    model, processor = build()
    ours = HFModel(model, processor)
    print(f"{'image':>6} {'K':>3} {'loop s':>8} {'ours s':>8} {'ratio':>6} {'ops':>6}")
    for image_tokens in arguments.image_tokens:
        for options in arguments.options:
            prompt = prompt_of(options, image_tokens)
            ways = (lambda: looped(model, processor, prompt), lambda: ours.respond([prompt]))  # noqa: B023 - called here
            ways[1]()  # which checks once whether prefixes can be shared
            times = [[seconds(way) for way in ways] for _ in range(arguments.repetitions)]
            best = [min(taken) for taken in zip(*times, strict=True)]
            work = []
            for way in ways:
                with FlopCounterMode(display=False) as counter:
                    way()
                work.append(counter.get_total_flops())
            ratios = f"{best[0] / best[1]:6.2f} {work[0] / work[1]:6.2f}"
            print(f"{image_tokens:>6} {options:>3} {best[0]:8.3f} {best[1]:8.3f} {ratios}", flush=True)


if __name__ == "__main__":
    main()
