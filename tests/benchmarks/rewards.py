"""How long rewarding takes: completions of about 300 tokens (240 words), in groups of eight, on one thread,
in seconds of the processor.

Reading (prompts made of columns, completions parsed, arrays) is timed apart from the judge. Not a test: timings depend
on what else the machine does.

    OMP_NUM_THREADS=1 python tests/benchmarks/rewards.py --completions 1024
"""

import argparse
import random
import time
from collections.abc import Callable
from typing import Any

from vlmrobust.rl import FaithfulnessReward, accuracy_reward, faithfulness_reward
from vlmrobust.rl.completions import read_completions
from vlmrobust.rl.guards import recommended
from vlmrobust.types import Style

SENTENCE = "the cube is left of a ball and it seems that one small sphere near the corner looks bright under light"
OPTIONS = ("red", "blue", "green", "yellow")


def batch(count: int, words: int, group: int) -> tuple[list[list[dict[str, str]]], dict[str, list[Any]]]:
    """Return chat completions and their columns; no two thoughts are the same."""
    rng, vocabulary = random.Random(0), SENTENCE.split()
    completions = []
    for row in range(count):
        sentences = [" ".join(rng.choices(vocabulary, k=12)).capitalize() for _ in range(words // 12 - 1)]
        end = f"I see that the cube is {OPTIONS[row % 4]}. So the answer is {'ABCD'[row % 4]}"
        thought = ". ".join([*sentences, end])
        text = f"<think>{thought}.</think><answer>{'ABCD'[row % 4]}</answer>"
        completions.append([{"role": "assistant", "content": text}])
    numbers = [row // group for row in range(count)]
    columns = {
        "solution": ["ABCD"[number % 4] for number in numbers],
        "question": [f"Which colour is cube {number}?" for number in numbers],
        "options": [list(OPTIONS)] * count,
        "prefill": [""] * count,
    }
    return completions, columns


def best(repetitions: int, call: Callable[[], object]) -> float:
    """Return the shortest processor time of several, in seconds."""
    times = []
    for _ in range(repetitions):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--completions", type=int, default=1024)
    parser.add_argument("--words", type=int, default=240)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    completions, columns = batch(arguments.completions, arguments.words, arguments.group)
    needs, guarded = faithfulness_reward.needs, FaithfulnessReward(guards=recommended())
    calls: dict[str, Callable[[], object]] = {
        "reading": lambda: read_completions(
            completions, columns, needs=needs, style=Style(), opener="", reader="benchmark"
        ),
        "accuracy_reward": lambda: accuracy_reward(completions=completions, **columns),
        "accuracy_reward, solution alone": lambda: accuracy_reward(completions, solution=columns["solution"]),
        "faithfulness_reward": lambda: faithfulness_reward(completions=completions, **columns),
        "faithfulness_reward, recommended guards": lambda: guarded(completions=completions, **columns),
    }
    for name, call in calls.items():
        print(f"{name}: {best(arguments.repetitions, call):.3f} s for {arguments.completions} completions")


if __name__ == "__main__":
    main()
