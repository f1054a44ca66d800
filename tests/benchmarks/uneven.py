"""What it saves that texts which have ended leave the batch: thoughts of uneven lengths, against another build.

A random Qwen2.5-VL of about 80 million parameters counts down from a number in its prompt, so that every text has the
length that it is given, whatever decodes it: 64 prompts of 8 samples, thoughts of 20 to 400 tokens (mean 116), or all
of one length. `demo` is the bundled model's run of 50 samples under 8 conditions.

Counted are passes and row-steps, that is the rows of every pass that decodes; the ideal is a row-step for each token
but the first, which the prompt's own pass gives, in as few passes as the rows allow. Timed is the CPU time of all
threads. Not a test: timings depend on what else the machine does.

    python tests/benchmarks/uneven.py run                              # this build: counts, and one time
    python tests/benchmarks/uneven.py pairs --other FOLDER --pairs 7   # both, in turn, each run a process of its own
    python tests/benchmarks/uneven.py pairs --other FOLDER --task equal
    python tests/benchmarks/uneven.py pairs --other FOLDER --task demo
    python tests/benchmarks/uneven.py pairs --other FOLDER --task forced   # nothing is decoded: letters alone
"""

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import prefix
import torch
from PIL import Image

import vlmrobust as vr
from vlmrobust import HFModel, Prompt, Sample, Style

SHORTEST, LONGEST, MEAN = 20, 400, 116
EQUAL = 116
SAMPLES, CONDITIONS = 8, 8


def lengths() -> list[int]:
    """Return 64 lengths: quantiles of an exponential distribution that is cut off, of the mean asked for."""
    count = SAMPLES * CONDITIONS

    def at(rate: float) -> list[int]:
        span = 1 - math.exp(-(LONGEST - SHORTEST) / rate)
        draws = [SHORTEST - rate * math.log(1 - span * (place + 0.5) / count) for place in range(count)]
        return [SHORTEST, *(round(draw) for draw in draws[1:-1]), LONGEST]

    low, high = 1.0, 1000.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if statistics.mean(at(middle)) > MEAN else (middle, high)
    found = at(low)
    random.Random(0).shuffle(found)
    return found


def counting_down(model: Any, tokenizer: Any, written: int | None = None) -> None:
    """Let a model write the number below the last one that it was given, and stop below 1.

    In a prompt a number is three digits behind a "#"; what is written has a token for each.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        written: the token before that of the number 1; None = tokens that have no text.
    """
    mark, *digits = (tokenizer(character)["input_ids"][0] for character in "#0123456789")
    table = torch.full((prefix.VOCABULARY,), 0)
    table[digits] = torch.arange(10)
    stop = model.generation_config.eos_token_id
    first = stop - LONGEST - 1 if written is None else written  # as it were of the number 0, which is never written

    def force(module: Any, arguments: Any, keywords: Any, output: Any) -> None:
        ids = keywords["input_ids"]
        number = (ids[:, -1] - first).where((ids[:, -1] > first) & (ids[:, -1] <= first + LONGEST), 0)
        for row, place in (ids == mark).nonzero().tolist():
            hundreds, tens, ones = table[ids[row, place + 1 : place + 4]].tolist()
            number[row] = 100 * hundreds + 10 * tens + ones
        following = torch.where(number > 1, number - 1 + first, stop)
        for row in number.nonzero()[:, 0].tolist():
            output.logits[row, :, following[row]] = output.logits[row].max() + 3

    model.register_forward_hook(force, with_kwargs=True)


def prompts_of(wanted: list[int], image_tokens: int, *, forced: bool = False) -> list[Prompt]:
    """Return prompts that ask for lengths, or for a letter at once."""
    side = 28 * int(image_tokens**0.5)
    draw = random.Random(0)
    prompts = []
    for index in range(SAMPLES):
        noise = Image.effect_noise((side, side), 80 + index).convert("RGB")
        options = ["red", "blue", "green", "one"]
        sample = Sample(id=f"q{index}", images=[noise], question="the cube is", options=options, answer=1)
        base = Prompt.of(sample, style=Style(instruction="Answer.", mode="direct" if forced else "think"))
        for condition in range(CONDITIONS):
            length = wanted[index * CONDITIONS + condition]
            words = " ".join(draw.choices(prefix.WORDS, k=draw.randint(12, 68)))
            prompts.append(base.replace(condition=f"c{condition}", context=f"{words} #{length:03d}"))
    return prompts


def counted(model: Any) -> dict[str, int]:
    """Count the passes that decode, and their rows."""
    found = {"passes": 0, "row_steps": 0}

    def count(module: Any, arguments: Any, keywords: Any) -> None:
        if keywords["input_ids"].shape[1] == 1:
            found["passes"] += 1
            found["row_steps"] += len(keywords["input_ids"])

    model.register_forward_pre_hook(count, with_kwargs=True)
    return found


def run(task: str, image_tokens: int, batch_size: int | None) -> dict[str, Any]:
    """Return the counts and the CPU time of one run of the build that is imported."""
    if task == "demo":
        engine = vr.demo.model()
        evaluator = vr.Evaluator(engine, vr.paper_conditions())
        evaluator.run(vr.demo.samples(2, seed=1))  # what is checked once
        found, samples = counted(engine.model), vr.demo.samples(50)
        wanted: list[int] = []
        respond = engine.respond

        def noting(prompts: Any) -> Any:
            responses = respond(prompts)
            wanted.extend(response.n_tokens for response in responses if response.n_tokens)
            return responses

        engine.respond = noting
        begun = time.process_time()
        evaluator.run(samples)
        seconds = time.process_time() - begun
    else:
        torch.manual_seed(0)
        model, processor = prefix.build()
        counting_down(model, processor.tokenizer)
        wanted = [EQUAL] * SAMPLES * CONDITIONS if task == "equal" else lengths()
        prompts = prompts_of(wanted, image_tokens, forced=task == "forced")
        engine = HFModel(model, processor, {"max_new_tokens": LONGEST}, batch_size=batch_size)
        once = prompts_of([3] * len(wanted), image_tokens, forced=task == "forced")
        engine.respond(once[: 2 * CONDITIONS])  # what is checked once
        found = counted(model)
        begun = time.process_time()
        responses = engine.respond(prompts)
        seconds = time.process_time() - begun
        got = [response.n_tokens for response in responses]
        wanted = [0] * len(got) if task == "forced" else wanted
        assert got == wanted, (got, wanted)
    ideal = sum(max(0, length - 1) for length in wanted)
    return {"seconds": seconds, **found, "tokens": sum(wanted), "texts": len(wanted), "ideal_row_steps": ideal}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "pairs"])
    parser.add_argument("--task", choices=["uneven", "equal", "demo", "forced"], default="uneven")
    parser.add_argument("--image-tokens", type=int, default=64)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--other", type=Path, help="the folder of another build")
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    if arguments.what == "run":
        print(json.dumps(run(arguments.task, arguments.image_tokens, arguments.batch_size)))
        return
    own = Path(__file__).parents[2]
    command = [sys.executable, __file__, "run", "--task", arguments.task, "--image-tokens", str(arguments.image_tokens)]
    if arguments.batch_size:
        command += ["--batch-size", str(arguments.batch_size)]

    def measured(folder: Path) -> dict[str, Any]:
        done = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": str(folder)}, stdout=subprocess.PIPE, text=True, check=True
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    ratios = []
    for pair in range(arguments.pairs):
        order = [arguments.other, own] if pair % 2 == 0 else [own, arguments.other]
        found = {folder: measured(folder) for folder in order}
        ratios.append(found[arguments.other]["seconds"] / found[own]["seconds"])
        print(json.dumps({"other": found[arguments.other], "own": found[own], "ratio": ratios[-1]}), flush=True)
    print(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) times as fast")


if __name__ == "__main__":
    main()
