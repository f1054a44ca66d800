"""What it costs to look one token past a letter: the bundled model with and without, in turn.

Not a test: timings depend on what else the machine does.

    python tests/benchmarks/letters.py --repetitions 9
"""

import argparse
from collections.abc import Sequence
from functools import partial
from statistics import median

from prefix import seconds

from vlmrobust import HFModel, Prompt, demo, expand
from vlmrobust.perturbations import OptionLetters, Perturbation, RotatedOptions, StopThink


def asked(count: int, conditions: Sequence[Perturbation], *, forced: bool) -> list[Prompt]:
    """Return the prompts whose thought is closed, or those of base."""
    prompts = expand(demo.samples(count), conditions, seed=0)
    return [prompt for prompt in prompts if ("stop_think" in prompt.condition) is forced]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=9)
    arguments = parser.parse_args()
    bundled = demo.model()
    ahead, without = (HFModel(bundled.model, bundled.processor, {"max_new_tokens": 48}) for _ in range(2))
    without._engine._ahead.works = False
    several = [StopThink(), RotatedOptions() + StopThink(), OptionLetters() + StopThink()]
    for name, prompts in (
        ("forced, each prompt alone", asked(32, [StopThink()], forced=True)),
        ("forced, prompts that share a prefix", asked(8, several, forced=True)),
        ("the model's own thought, 48 tokens", asked(16, [], forced=False)),
    ):
        for model in (ahead, without):
            model.respond(prompts)
        before = ahead._engine._ahead.steps
        pairs = []
        for repetition in range(arguments.repetitions):
            calls = [partial(model.respond, prompts) for model in (ahead, without)]
            if repetition % 2:
                pairs.append((seconds(calls[0]), seconds(calls[1])))
            else:
                pairs.append((seconds(calls[1]), seconds(calls[0]))[::-1])
        steps = (ahead._engine._ahead.steps - before) / arguments.repetitions / len(prompts)
        ratios = [one / other for one, other in pairs]
        print(
            f"{name}: {len(prompts)} prompts, {median(one for one, _ in pairs):.3f} s, without "
            f"{median(other for _, other in pairs):.3f} s; ratio {median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}), {steps:.2f} tokens more a prompt"
        )


if __name__ == "__main__":
    main()
