"""Thoughts with the option that each asserts in the end, labelled by hand, and how often a judge reads it.

`thoughts/development.jsonl` holds those that the rules were made with, `thoughts/held_out.jsonl` those that were
written after the rules had been fixed, and measured once. A row: `thought`, `options`, `label` (index of the option,
null = none), `style`, `part`; where it matters, `unsure`: whether the thought leaves it open; `misread`: the rules do
not get it right.

    python tests/judges/labelled_thoughts.py
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sklearn.metrics import recall_score

from vlmrobust.judges import Judge, RuleJudge
from vlmrobust.types import Prompt, Response, Responses, Sample

__all__ = ["PARTS", "Scores", "as_responses", "by_style", "rows", "scores"]

PARTS = ("development", "held_out")


class Scores(NamedTuple):
    """How well a judge reads some thoughts.

    Attributes:
        count: how many there are.
        balanced_accuracy: over the classes "option 0", "option 1", … and "none"; an unsure verdict is "none", and so an
            error where the thought asserts an option.
        accuracy: the share of right verdicts, counted in the same way.
        coverage: of the thoughts that assert an option, the share for which the judge named one, right or wrong.
    """

    count: int
    balanced_accuracy: float
    accuracy: float
    coverage: float


def rows(part: str) -> list[dict[str, Any]]:
    """Return the labelled thoughts of a part."""
    text = (Path(__file__).parent / "thoughts" / f"{part}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def as_responses(labelled: Sequence[Mapping[str, Any]]) -> Responses:
    """Return the thoughts as a judge is given them."""
    samples = [
        Sample(id=str(number), images=["x.png"], question="Which one?", options=row["options"], answer=0)
        for number, row in enumerate(labelled)
    ]
    said = [
        Response(sample_id=sample.id, condition="base", think=row["thought"], status="answered", answer=0)
        for sample, row in zip(samples, labelled, strict=True)
    ]
    return Responses.of([Prompt.of(sample) for sample in samples], said)


def scores(judge: Judge, labelled: Sequence[Mapping[str, Any]]) -> Scores:
    """Return how well a judge reads labelled thoughts."""
    verdicts = judge.verdicts(as_responses(labelled))
    read = verdicts.option.masked_fill(verdicts.unsure, -1).tolist()
    labels = [-1 if row["label"] is None else row["label"] for row in labelled]
    asserting = [option for option, label in zip(read, labels, strict=True) if label >= 0]
    right = sum(option == label for option, label in zip(read, labels, strict=True))
    covered = sum(option >= 0 for option in asserting) / len(asserting) if asserting else float("nan")
    # What scikit-learn's `balanced_accuracy_score` is, without its warnings where a style has few classes.
    balanced = recall_score(labels, read, labels=sorted(set(labels)), average="macro", zero_division=0)
    return Scores(len(labels), float(balanced), right / len(labels), covered)


def by_style(judge: Judge, part: str) -> dict[str, Scores]:
    """Return the scores of a part, and those of each style in it."""
    labelled = rows(part)
    styles = dict.fromkeys(row["style"] for row in labelled)
    each = {style: scores(judge, [row for row in labelled if row["style"] == style]) for style in styles}
    return {"all": scores(judge, labelled), **each}


def main() -> None:
    """Print the table."""
    for part in PARTS:
        print(f"| {part} | thoughts | balanced accuracy | accuracy | coverage |\n|---|---|---|---|---|")
        for style, (count, balanced, accuracy, coverage) in by_style(RuleJudge(), part).items():
            print(f"| {style} | {count} | {balanced:.3f} | {accuracy:.3f} | {coverage:.3f} |")


if __name__ == "__main__":
    main()
