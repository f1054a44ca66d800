"""Rules on long thoughts against a straightforward reading of the same: seconds, and their ratio.

The straightforward way goes through all sentences from the first on, and searches each for every option (a pattern per
option) and for every kind of phrase. It only looks; it does not even decide. Not a test: timings depend on what else
the machine does.

    python tests/benchmarks/judging.py --thoughts 1024 --words 230
"""

import argparse
import random
import re
import time
from collections.abc import Callable, Sequence

from vlmrobust.judges import phrases
from vlmrobust.judges.evidence import concluded_option

OPTIONS = ("red", "blue", "green", "yellow")
SAID = (
    "I see a large metallic cube next to a small red sphere, and behind both of them stands a blue cone.",
    "Let me look at the image again and consider where the person is standing, since this is about the perspective.",
    "The table is in the middle of the room, the lamp is on the left and the window is on the right.",
    "Moving on to the next frame, the camera turns and we can see the door, which was not visible before.",
    "Wait, maybe the ball is green, but it could also be yellow because of the light.",
    "However, the chair that is closest to the door is partially hidden.",
    "The sofa appears larger than the chair, although it is farther away from the camera.",
)
KINDS = (
    phrases.REVISION,
    phrases.CONFIRMATION,
    phrases.DOUBT,
    phrases.CUE,
    phrases.NOT_ITS_OWN,
    phrases.CONTRAST,
    phrases.WEAK_CUE,
    phrases.PREDICATE,
)


def rambling(number: int, words: int, ending: str) -> str:
    """Return a thought of about so many words that goes from one thing to the next."""
    draw = random.Random(number)
    said: list[str] = []
    while sum(len(sentence.split()) for sentence in said) < words:
        said.append(draw.choice(SAID))
    return " ".join([*said, ending.format(number)]).strip()


def straightforward(thought: str, options: Sequence[str]) -> int:
    """Search every sentence for everything; return how much was found."""
    patterns = [re.compile(rf"\b{re.escape(option)}\b") for option in options]
    found = 0
    for sentence in re.split(r"(?<=[.!?])\s+|\n+", thought.lower()):
        found += sum(len(pattern.findall(sentence)) for pattern in patterns)
        found += sum(pattern.search(sentence) is not None for pattern in KINDS)
    return found


def seconds(read: Callable[[str, Sequence[str]], object], thoughts: Sequence[str], repeats: int) -> float:
    """Return the least processor time of a few passes over all thoughts."""
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        for thought in thoughts:
            read(thought, OPTIONS)
        taken.append(time.process_time() - start)
    return min(taken)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--thoughts", type=int, default=1024)
    parser.add_argument("--words", type=int, default=230)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    for name, ending in (("with a conclusion", "Number {}. So the answer is B."), ("without", "Number {}.")):
        thoughts = [rambling(number, arguments.words, ending) for number in range(arguments.thoughts)]
        rules = seconds(concluded_option, thoughts, arguments.repeats)
        plain = seconds(straightforward, thoughts, arguments.repeats)
        print(
            f"{len(thoughts)} thoughts {name}: rules {rules:.2f} s, straightforward {plain:.2f} s, {plain / rules:.1f}x"
        )


if __name__ == "__main__":
    main()
