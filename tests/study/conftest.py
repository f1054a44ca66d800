"""Provide a small study without weights, with fake models in a file of their own."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from vlmrobust.judges import Judge, LMJudge, RuleJudge, Verdicts
from vlmrobust.study import Study, StudyResult

MODELS = '''\
"""Models of the study, which log each call of a factory and each response."""

import json
import os
import sys
from pathlib import Path

from vlmrobust.testing import FakeModel

HERE = Path(__file__).parent


class Logged(FakeModel):
    def respond(self, prompts):
        responses = super().respond(prompts)
        with (HERE / "asked.log").open("a") as log:
            log.write("".join(json.dumps([self.seed, *response.key]) + "\\n" for response in responses))
        if os.environ.get("TELL"):
            print("asked", flush=True)
            sys.stdin.readline()
        return responses


def planted(**shares):
    with (HERE / "made.log").open("a") as log:
        log.write(json.dumps(shares) + "\\n")
    return Logged(opens_images=False, **shares)


def broken():
    raise RuntimeError("no such <b>engine</b>")


def no_model():
    return "a string"
'''

STUDY: dict[str, Any] = {
    "conditions": ["base", "wrong_think", "wrong_caption"],
    "judges": ["rules"],
    "models": [
        {
            "name": "trained",
            "factory": "models.py:planted",
            "arguments": {"follow_think": 0.8},
            "checkpoints": [
                {"step": 500, "arguments": {"accuracy": 0.9, "contradict": 0.4, "seed": 2}},
                {"step": 250, "arguments": {"accuracy": 0.6, "seed": 1}},
            ],
        },
        {"name": "other", "factory": "models.py:planted", "arguments": {"seed": 3}},
    ],
    "benchmarks": [{"name": "colours", "data": "rows.jsonl"}, {"name": "few", "data": "rows.jsonl", "limit": 10}],
}


def write_files(folder: Path) -> None:
    """Put models.py and rows.jsonl into a folder."""
    from PIL import Image

    Image.new("RGB", (56, 56), "red").save(folder / "red.png")
    options = ["red", "blue", "green"]
    rows = [
        {"id": f"q{n}", "image": "red.png", "question": f"Which is {n}?", "options": options, "answer": "ABC"[n % 3]}
        for n in range(24)
    ]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "models.py").write_text(MODELS)


def write_study(folder: Path, **changes: Any) -> Path:
    """Write the small study with some fields changed, next to its models."""
    import tomli_w

    path = folder / "study.toml"
    path.write_text(tomli_w.dumps(STUDY | changes))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path)
    return tmp_path


@pytest.fixture
def write(folder: Path) -> Callable[..., Path]:
    return partial(write_study, folder)


@pytest.fixture
def study(write: Callable[..., Path]) -> Callable[..., Study]:
    return lambda **changes: Study.from_toml(write(**changes))


class Contrary(RuleJudge):
    """A rule judge that is wrong about every third thought."""

    def conclude(self, responses: Any) -> Verdicts:
        verdicts = RuleJudge().conclude(responses)
        turned = (torch.arange(len(responses)) % 3 == 0) & (verdicts.option >= 0)
        return Verdicts.of(torch.where(turned, (verdicts.option + 1) % 3, verdicts.option), verdicts.unsure)

    def identity(self) -> dict[str, Any]:
        return {"name": "org/contrary"}


@pytest.fixture
def contrary() -> Judge:
    return Contrary()


def load_judge(names: list[str]) -> Callable[..., Judge]:
    """Return a replacement for loading a judge, where `org/gone` cannot be loaded."""

    def load(name: str, **_: Any) -> Judge:
        names.append(name)
        if name == "org/gone":
            raise OSError("no such checkpoint")
        return Contrary()

    return load


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the names of loaded judges."""
    names: list[str] = []
    monkeypatch.setattr(LMJudge, "from_pretrained", load_judge(names))
    return names


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the slowest parts of reports and studies: pictures and garbage collection."""
    monkeypatch.setattr("vlmrobust.study.running.free_memory", lambda: None)
    monkeypatch.setattr("vlmrobust.plots.panels.svgs", lambda report: [])
    monkeypatch.setattr("vlmrobust.study.study.drawn", lambda result: [])


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    """The small study with two judges, run once."""
    folder = tmp_path_factory.mktemp("study")
    write_files(folder)
    path = write_study(folder, judges=["rules", "hf:org/contrary"], metrics=["brier_score"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LMJudge, "from_pretrained", load_judge([]))
        patch.setattr("vlmrobust.plots.panels.svgs", lambda report: [])
        patch.setattr("vlmrobust.study.running.free_memory", lambda: None)
        return Study.from_toml(path).run(folder / "out")


@pytest.fixture
def lines(folder: Path) -> Callable[[str], list[Any]]:
    """Read a log of the models."""

    def read(name: str) -> list[Any]:
        path = folder / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    return read
