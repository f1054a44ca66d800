"""Logs that the real harnesses write while the test runs are read: `tests/harnesses/write_logs.py` runs them.

lmms-eval and VLMEvalKit have an environment each; inspect is among the packages of the tests. The answers are canned,
so what has to be read is known without the logs.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import environments
import pytest

from vlmrobust import demo
from vlmrobust.harnesses import Imported, read_inspect, read_lmms_eval, read_vlmevalkit

pytestmark = pytest.mark.engines

ROOT = Path(__file__).parents[2]
# Right and consistent; right behind a wrong thought; wrong and consistent; no answer at all.
CORRECT, ANSWERED = [True, True, False, False], [True, True, True, False]


def written(python: str | Path, harness: str, folder: Path) -> Path:
    done = subprocess.run(
        [python, ROOT / "tests" / "harnesses" / "write_logs.py", harness],
        env={**environments.plain(), "VLMROBUST_LOGS": str(folder), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return folder / harness


def check(read: Imported, draws: int = 1) -> None:
    """Compare what was read with what was asked and canned."""
    samples = [sample for sample in demo.samples(4, seed=0) for _ in range(draws)]
    assert read.problems == ()
    for prompt, sample in zip(read.prompts, samples, strict=True):
        own = prompt.sample
        assert (own.question, own.options, own.answer) == (sample.question, sample.options, sample.answer)
    answers = list(zip(read.responses, samples, strict=True))
    assert [response.status == "answered" for response, _ in answers] == [a for a in ANSWERED for _ in range(draws)]
    assert [response.answer == sample.answer for response, sample in answers] == [
        c for c in CORRECT for _ in range(draws)
    ]
    assert all(response.think for response in read.responses)
    assert read.responses[-1].think == "One cannot tell."


def test_lmms_eval(python_of: Callable[[str], Path], tmp_path: Path) -> None:
    logs = written(python_of("lmms_eval"), "lmms_eval", tmp_path)
    [once] = logs.rglob("*_samples_shapes.jsonl")
    check(read_lmms_eval(once))
    [twice] = logs.rglob("*_samples_shapes_twice.jsonl")
    check(read_lmms_eval(twice), draws=2)
    [found] = read_lmms_eval(once).disagreements()
    assert (found.sample_id, found.harness, found.ours) == ("3", 3, None), "the task's rule takes the D of Don't"


@pytest.fixture(scope="module")
def vlmevalkit(python_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(python_of("vlmevalkit"), "vlmevalkit", tmp_path_factory.mktemp("logs"))


@pytest.mark.parametrize("suffix", ["xlsx", "tsv", "json"])
def test_vlmevalkit(vlmevalkit: Path, suffix: str) -> None:
    check(read_vlmevalkit(vlmevalkit / f"Canned_Shapes.{suffix}", images=vlmevalkit / "Shapes.tsv"))
    check(read_vlmevalkit(vlmevalkit / f"Split_Shapes.{suffix}"))  # the thought in a column of its own
    silent = read_vlmevalkit(vlmevalkit / f"Silent_Shapes.{suffix}")
    assert [response.status for response in silent.responses] == ["answered", "answered", "unparsed", "unparsed"]
    assert silent.problems == (), "an empty prediction is an answer that is missing, and no row that is"


def test_vlmevalkits_verdict(vlmevalkit: Path) -> None:
    read = read_vlmevalkit(vlmevalkit / "Canned_Shapes_exact_matching_result.xlsx")
    check(read)
    # Its own exact matching finds no letter in <answer>A</answer>: ours differs where that is the right one.
    assert [(found.sample_id, found.harness, found.ours) for found in read.disagreements()] == [
        ("0", False, True),
        ("1", False, True),
    ]


def test_inspect(tmp_path: Path) -> None:
    logs = written(sys.executable, "inspect", tmp_path)
    samples = demo.samples(4, seed=0)
    for name, draws in (("base", 2), ("wrong_think", 1), ("rotated", 1), ("multiple_choice", 1)):
        read = read_inspect(logs / f"{name}.eval")
        assert len(read) == 4 * draws
        assert read.problems == ()
        assert {prompt.sample.id for prompt in read.prompts} == {sample.id for sample in samples}
        assert [one.status for one in read.responses if one.sample_id == samples[3].id] == ["error"] * draws
    base = read_inspect(logs / "base.eval")
    of_first_draw = {one.sample_id: one.answer for one in base.responses if one.draw == 0}
    assert [of_first_draw[sample.id] == sample.answer for sample in samples] == CORRECT


def test_the_kept_logs_are_those_that_are_written(vlmevalkit: Path) -> None:
    """What the quick tests read beside `write_logs.py` is what the package writes today."""
    kept = ROOT / "tests" / "harnesses" / "logs" / "vlmevalkit"
    assert sorted(file.name for file in kept.iterdir()) == sorted(file.name for file in vlmevalkit.iterdir())
    for file in (*kept.glob("*_Shapes.tsv"), *kept.glob("*_Shapes.json")):  # not the pictures, nor what is packed
        assert (vlmevalkit / file.name).read_bytes() == file.read_bytes(), file.name
