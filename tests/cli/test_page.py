"""Run every command of the documentation page, with fake models in place of checkpoints and servers."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from vlmrobust import Evaluator, Labels, Report, demo
from vlmrobust.data import Samples
from vlmrobust.judges import LMJudge, OpenAIJudge, RuleJudge
from vlmrobust.models import HFModel
from vlmrobust.testing import FakeModel

PAGE = (Path(__file__).parents[2] / "docs" / "pages" / "command_line.md").read_text(encoding="utf-8")
SHELL = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
LINES = [line for block in SHELL for line in block.splitlines() if line.startswith("vlmrobust ")]
GATES = {"--fail-if-worse": 3, "--max-drop": 3}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with rows and a file of options, and fake models: the one after training is poor."""
    monkeypatch.chdir(tmp_path)
    lines = []
    for sample in demo.samples(40):
        sample.images[0].save(f"{sample.id}.png")
        row = {"id": sample.id, "image": f"{sample.id}.png", "category": sample.metadata["kind"], "split": "val"}
        lines.append(json.dumps(row | {name: getattr(sample, name) for name in ("question", "options", "answer")}))
    Path("rows.jsonl").write_text("\n".join(lines))
    [options] = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    Path("run.toml").write_text(options)

    Path("own.py").write_text(
        "import torch\n"
        "from vlmrobust import Metric\n"
        "class ShortThought(Metric):\n"
        "    def per_sample(self, responses):\n"
        "        return torch.tensor([float(len(text) < 40) for text in responses.own_think])\n"
    )

    def model(name: str, *arguments: Any, **settings: Any) -> FakeModel:
        return FakeModel(accuracy=0.1 if "checkpoints" in name else 1.0, follow_think=0.3)

    monkeypatch.setattr(HFModel, "from_pretrained", model)
    monkeypatch.setattr("vlmrobust.models.OpenAIModel", model)
    monkeypatch.setattr("vlmrobust.models.VLLMModel", model)
    monkeypatch.setattr("vlmrobust.data.load_benchmark", lambda name, **settings: Samples(demo.samples(3)))
    monkeypatch.setattr("vlmrobust.cli.construction.renderer_of", lambda options: lambda prompt: prompt.text)
    monkeypatch.setattr(LMJudge, "from_pretrained", lambda name, **settings: RuleJudge(name=name))
    monkeypatch.setattr(OpenAIJudge, "conclude", lambda self, responses: RuleJudge().conclude(responses))
    monkeypatch.setenv("MY_KEY", "secret")
    for machine, half in (("a", demo.samples(4)[:2]), ("b", demo.samples(4)[2:])):
        Evaluator(FakeModel(), []).run(half, out=f"runs/machine-{machine}")
    return tmp_path


def test_the_commands_of_the_page_work_in_order(command: Callable[..., Result], folder: Path) -> None:
    for line in LINES:
        before, _, file = line.partition("#")[0].partition(" > ")
        words = shlex.split(before)[1:]
        if words == ["--install-completion"]:
            continue
        if "labels.json" in words and not Path("labels.json").exists():
            report = Report.load("runs/before")
            read = [thought.labelled(thought.order[0]) for thought in report.draw_labels(30)]
            Labels(seed=report.seed, labels=read).save("labels.json")
        result = command(*words)
        expected = next((code for flag, code in GATES.items() if flag in words), 0)
        assert result.exit_code == expected, (line, result.output)
        if file:
            assert json.loads(result.stdout), line
    there = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    assert {"report.html", "plots.png", "runs/again/run.toml", "runs/before/report-hf-Qwen+Qwen3-32B.parquet"} <= there
