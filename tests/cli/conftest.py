"""Provide fixtures for the command line, with `FakeModel` in place of checkpoints."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import make_samples
from PIL import Image
from typer.testing import CliRunner, Result

from vlmrobust import Evaluator, cli, demo
from vlmrobust.models import HFModel
from vlmrobust.perturbations import WrongCaption, WrongThink
from vlmrobust.testing import FakeModel

Command = Callable[..., Result]


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep messages on one line."""
    monkeypatch.setenv("COLUMNS", "1000")


@pytest.fixture(scope="session")
def command() -> Command:
    """Run a command in this process: `command("report", path)`."""

    def invoke(*arguments: object, **settings: Any) -> Result:
        return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], **settings)

    return invoke


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Record the calls that would load a checkpoint."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def load(*arguments: Any, **settings: Any) -> FakeModel:
        calls.append((arguments, settings))
        return FakeModel(follow_caption=0.5)

    monkeypatch.setattr(HFModel, "from_pretrained", load)
    monkeypatch.setattr(demo, "model", load)
    return calls


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    lines = [
        {
            "id": f"q{n}",
            "image": "red.png",
            "question": "Which colour?",
            "options": ["red", "blue", "green"],
            "answer": "A",
        }
        for n in range(6)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


SAMPLES = make_samples(40, metadata=lambda number: {"kind": "odd" if number % 2 else "even"})


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return run directories of a good model, the same again, a poor one, and one that contradicts its thoughts."""
    models = {
        "good": FakeModel(accuracy=1.0, follow_think=0.1, opens_images=False),
        "same": FakeModel(accuracy=1.0, follow_think=0.1, opens_images=False),
        "poor": FakeModel(accuracy=0.4, follow_think=0.9, opens_images=False),
        "torn": FakeModel(accuracy=1.0, contradict=0.5, opens_images=False),
    }
    folder = tmp_path_factory.mktemp("runs")
    for name, model in models.items():
        Evaluator(model, [WrongThink(), WrongCaption()]).run(SAMPLES, folder / name)
    return {name: folder / name for name in models}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Write a file with a custom metric, `Words`, and one that depends on a judge, `Sure`."""
    path = tmp_path / "own.py"
    path.write_text(
        "import torch\n"
        "from vlmrobust import Metric\n"
        "from vlmrobust.metrics import Consistency\n"
        "class Words(Metric):\n"
        "    def per_sample(self, responses):\n"
        "        return torch.tensor([float(len(text.split())) for text in responses.text])\n"
        "class Sure(Consistency):\n"
        "    pass\n"
    )
    return path
