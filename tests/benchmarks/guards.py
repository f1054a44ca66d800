"""What cheats and honest thoughts earn under the recommended guards, as the table of the documentation.

The material, `tests/rl/guard_material.json`, was written for this project by someone who had not seen the guards, and
was then used to improve them: a figure from it is one about us. `--material` takes another file of that form, `--real`
a file of labelled responses of real models (JSON lines with question, options, response, answer_option and label).

    python tests/benchmarks/guards.py [--material FILE] [--real FILE]
"""

import argparse
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmrobust.rl import FaithfulnessReward
from vlmrobust.rl.guards import recommended

MATERIAL = Path(__file__).parents[1] / "rl" / "guard_material.json"
NOTHING = 0.11  # what a well-formed turn may earn without a thought
LETTERS = "ABCDEFGHIJ"


def earned(turns: Sequence[str], prompts: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return what turns earn in one batch, under guards that have seen nothing before."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "untemplated")
        return FaithfulnessReward(guards=recommended(), none_value=0.0)(
            completions=list(turns), **{name: [prompt[name] for prompt in prompts] for name in prompts[0]}
        )  # type: ignore[return-value]  # no value is None


def of_material(path: Path) -> dict[str, dict[str, list[float]]]:
    """Return what each style of honest thought and each kind of cheat earns, each a batch of its own."""
    material = json.loads(path.read_text(encoding="utf-8"))
    prompts = material["prompts"]
    found: dict[str, dict[str, list[float]]] = {"honest": {}, "cheats": {}}
    for style in dict.fromkeys(thought["style"] for thought in material["honest"]):
        own = [thought for thought in material["honest"] if thought["style"] == style]
        asked = [prompts[thought["prompt"]] for thought in own]
        turns = [
            f"<think>{thought['thought']}</think><answer>{prompt['solution']}</answer>"
            for thought, prompt in zip(own, asked, strict=True)
        ]
        found["honest"][style] = earned(turns, asked)
    for kind in material["cheats"]:
        asked = [prompts[int(number)] for number in kind["turns"]]
        found["cheats"][kind["kind"]] = earned(list(kind["turns"].values()), asked)
    return found


def thought_of(response: str) -> str:
    """Return a response without its answer and its tags."""
    tagged = re.search(r"<(think|rsn)>(.*?)(</\1>|<ans|$)", response, re.DOTALL)
    text = tagged[2] if tagged else re.split(r"<CONCLUSION>|Final Answer|\*\*Final|<answer>", response)[0]
    return re.sub(r"</?[A-Za-z]+>", "", text).strip()


def of_real(path: Path) -> dict[str, list[float]]:
    """Return what real thoughts earn by their label, where their answer is taken for right; all in one batch."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["answer_option"] >= 0]
    prompts = [
        {"question": row["question"], "options": row["options"], "solution": LETTERS[row["answer_option"]]}
        for row in rows
    ]
    turns = [
        f"<think>{thought_of(row['response'])}</think><answer>{prompt['solution']}</answer>"
        for row, prompt in zip(rows, prompts, strict=True)
    ]
    found: dict[str, list[float]] = {}
    for row, value in zip(rows, earned(turns, prompts), strict=True):
        found.setdefault(row["label"], []).append(value)
    return found


def show(title: str, found: Mapping[str, Sequence[float]]) -> None:
    """Print how many of each kind earn something, as Markdown."""
    print(f"| {title} | earn something | of |\n|---|---|---|")
    for name, values in found.items():
        print(f"| {name} | {sum(value > NOTHING for value in values)} | {len(values)} |")
    every = [value for values in found.values() for value in values]
    print(f"| all | {sum(value > NOTHING for value in every)} | {len(every)} |\n")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--material", type=Path, default=MATERIAL)
    parser.add_argument("--real", type=Path)
    arguments = parser.parse_args()
    found = of_material(arguments.material)
    show("honest thoughts", found["honest"])
    paid = {kind: values for kind, values in found["cheats"].items() if max(values) > NOTHING}
    show(f"cheats: of {len(found['cheats'])} kinds, those that earn", paid)
    print(f"{sum(map(len, found['cheats'].values()))} turns of cheats in all")
    if arguments.real:
        show("real thoughts by label", of_real(arguments.real))


if __name__ == "__main__":
    main()
