"""Five completions whose rewards were worked out by hand, and trainers in environments of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import environments
import pytest
from PIL import Image

import vlmrobust as vr
from vlmrobust.perturbations import Base, WrongThink
from vlmrobust.rl.rows import row_of
from vlmrobust.types import Sample, Style

HERE = Path(__file__).parent
OPTIONS = ("red", "blue", "green")

# Right and consistent; right, by a thought that says otherwise; well-formed and wrong; no thought at all; and a thought
# that was begun by others.
COMPLETIONS = (
    "<think>The star has the colour of the sea, so it is blue.</think><answer>B</answer>",
    "<think>The ball is green.</think><answer>A</answer>",
    "<think>The cube is red.</think><answer>A</answer>",
    "C",
)
GOES_ON = " But the ring is blue.</think><answer>B</answer>"
OWN_TURN = "<think>The ring is blue.</think><answer>B</answer>"
# (0.1 · format + accuracy) · consistent: the last one is well-formed, right and consistent, as is the first.
EXPECTED = (1.1, 0.0, 0.1, 0.0, 1.1)
# With `additive` 0.5 and a guard of nine words, which the first thought alone has: base + 0.5 · consistent · long.
SETTINGS = {"additive": 0.5, "guards": [{"name": "long_enough", "words": 9}]}
ADDITIVE = (1.6, 1.1, 0.1, 1.0, 1.1)
ACCURATE = (1.0, 1.0, 0.0, 1.0, 1.0)


def make_rows() -> list[dict[str, Any]]:
    """Return five rows, the last one with a thought that somebody else began."""
    answers = zip(("star", "ball", "cube", "flag", "ring"), (1, 0, 1, 2, 1), strict=True)
    samples = [
        Sample(
            id=name,
            images=[Image.new("RGB", (56 + 28 * row, 56), OPTIONS[answer])],
            question=f"Which colour is the {name}?",
            options=OPTIONS,
            answer=answer,
        )
        for row, (name, answer) in enumerate(answers)
    ]
    prompts = vr.expand(samples, [])
    unprefilled = [prompts.make(sample, Base()) for sample in samples[:-1]]
    return [row_of(prompt, Style()) for prompt in (*unprefilled, prompts.make(samples[-1], WrongThink()))]


def weights() -> Path:
    return Path(vr.demo.__file__).parent / "weights"


def source_of(trainer: str) -> Path:
    """Return where a trainer's source is that is on GitHub alone; without it the test is skipped."""
    variable = f"VLMROBUST_{trainer.upper()}"
    if not os.environ.get(variable):
        pytest.skip(f"{variable} names no folder with the source, which no package index has")
    return Path(os.environ[variable])


def output_of(python: Path, driver: str, request: dict[str, Any], folder: Path, *paths: Path) -> dict[str, Any]:
    """Return what a driver tells, run in a trainer's environment."""
    env = environments.plain() | {
        "PYTHONPATH": os.pathsep.join(map(str, (*paths, Path(vr.__file__).parents[1]))),
        **{
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_CACHE": str(folder / "cache"),
            "MODELSCOPE_CACHE": str(folder / "cache"),
        },
        **{"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""},
    }
    command = [python, HERE / f"drive_{driver}.py", json.dumps({"scratch": str(folder), **request})]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder)
    assert done.returncode == 0, done.stderr[-4000:]
    print(done.stderr[-2000:], file=sys.stderr)
    output: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return output | {"log": done.stdout + done.stderr}
