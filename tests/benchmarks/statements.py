"""Kinds of questions and how many of them rules make statements of, as the table on the page about conditions.

Sentences to read are drawn by a seed: a question with its options, and the statement that asserts one of them.

    python tests/benchmarks/statements.py [--real FILE] [--demo COUNT] [--examples COUNT --seed SEED --out FILE]

`--real` takes JSON lines with question and options, of which each question is counted once.
"""

import argparse
import json
import random
import re
from collections import Counter
from pathlib import Path

from vlmrobust import demo
from vlmrobust.perturbations.statements import statements

Asked = tuple[str, tuple[str, ...]]

_AUXILIARY = r"(?:is|are|was|were|does|do|did|can|could|has|have|will|would|should)\b"
KINDS = {
    "how many": r"\bhow (?:many|much)\b",
    "colour": r"\bcolou?r\b",
    "nearer, taller, …": r"^(?:which|who|what|is|are)\b.*(?:\bmore \w+\b|,.+ or "
    r"|\b(?:closer|nearer|taller|larger|bigger|smaller|farther|further)\b)",
    "where, position": r"^where\b|\b(?:position|located|location|direction|side|relation)\b|\b(?:left|right) or\b",
    "yes or no": None,
    "why": r"^why\b|\breason\b|\bpurpose\b",
    "which": r"^(?:\w+ )?which\b|^(?:of|among)\b.*\bwhich\b",
    "who": r"^who(?:se)?\b",
    "what": r"\bwhat\b",
    "request or blank": r"^(?:select|choose|pick|find|identify|determine|calculate|complete|fill)\b|_{2,}",
}
OTHER = "other"


def kind_of(question: str, options: tuple[str, ...]) -> str:
    """Return the first kind that a question is of; its last sentence tells, which is the question proper."""
    text = " ".join(re.sub(r"<image[ _]?\d*>", " ", question).split())
    asked = re.findall(r"[^.?!]+\?", text)
    proper = (asked[-1] if asked else text).strip().casefold()
    for kind, pattern in KINDS.items():
        closed = pattern is None and re.match(_AUXILIARY, proper) and _are_yes_or_no(options)
        if closed or (pattern is not None and re.search(pattern, proper)):
            return kind
    return OTHER


def _are_yes_or_no(options: tuple[str, ...]) -> bool:
    return all(re.match(r"(?:yes|no|true|false)\b", option, re.IGNORECASE) for option in options)


def table(asked: list[Asked]) -> str:
    """Return how many questions of each kind there are, and of how many of them rules are sure."""
    counts = Counter(kind_of(*one) for one in asked)
    sure = Counter(kind_of(*one) for one in asked if statements(*one))
    lines = ["| kind | questions | sure | share |", "|---|---:|---:|---:|"]
    for kind in (*KINDS, OTHER):
        if counts[kind]:
            lines.append(f"| {kind} | {counts[kind]} | {sure[kind]} | {sure[kind] / counts[kind]:.0%} |")
    total = sum(sure.values())
    return "\n".join([*lines, f"| all | {len(asked)} | {total} | {total / len(asked):.0%} |"])


def examples(asked: list[Asked], count: int, seed: int) -> str:
    """Return questions that rules are sure of, drawn by a seed, each with what asserts one of its options."""
    draw = random.Random(seed)
    blocks = []
    for number, (question, options) in enumerate(draw.sample([one for one in asked if statements(*one)], count), 1):
        said, place = statements(question, options), draw.randrange(len(options))
        assert said is not None
        blocks.append(f"{number}. {question}\n   {' | '.join(options)}\n   [{options[place]}] → {said[place]}")
    return "\n\n".join(blocks) + "\n"


def main() -> None:
    """Print a table for each source, and write the examples where they are to be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--demo", type=int, default=500)
    parser.add_argument("--examples", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    sources = {"demo": [(sample.question, tuple(sample.options)) for sample in demo.samples(given.demo)]}
    if given.real is not None:
        rows = map(json.loads, given.real.read_text(encoding="utf-8").splitlines())
        sources["real"] = [(row["question"], tuple(row["options"])) for row in rows if row["options"]]
    for name, asked in sources.items():
        sources[name] = list(dict.fromkeys(asked))
        print(f"{name}\n\n{table(sources[name])}\n")
    if given.out is not None:
        drawn = sources["real"] if "real" in sources else sources["demo"]
        given.out.write_text(examples(drawn, given.examples, given.seed), encoding="utf-8")


if __name__ == "__main__":
    main()
