"""Check the example's runs: a killed one resumes, and a page is built from their files."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import vlmrobust as vr

# TRL still sets options that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = example("train_grpo")
    size = {"per_device_train_batch_size": 8, "num_generations": 4, "temperature": 2.0, "max_completion_length": 40}
    monkeypatch.setattr(module, "GRPO", module.GRPO | size)
    monkeypatch.setattr(module, "CONDITIONS", module.CONDITIONS[:2])
    return module


@pytest.fixture
def start(tmp_path: Path) -> Path:
    folder = tmp_path / "start"
    shutil.copytree(Path(vr.demo.__file__).parent / "weights", folder)
    (folder / "start.json").write_text(json.dumps({"sha256": "of the bundled weights"}))
    return folder


def without_seconds(run: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in run.items() if "seconds" not in name}


def test_a_killed_run_resumes_with_the_same_result(
    small: Any, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"configuration": "both", "seed": 3, "steps": 4, "every": 2, "held_out": 2, "rate": 1e-4}
    whole = small.train(start, tmp_path / "whole", **settings)
    assert [evaluation["step"] for evaluation in whole["evaluations"]] == [0, 2, 4]
    assert len({entry["reward"] for entry in whole["training"]}) > 1

    step = vr.rl.SharedGRPOTrainer.training_step

    def killed(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    parts = tmp_path / "parts"
    with monkeypatch.context() as patch:
        patch.setattr(vr.rl.SharedGRPOTrainer, "training_step", killed)
        with pytest.raises(KeyboardInterrupt):
            small.train(start, parts, **settings)
    # A checkpoint that was being written when the process ended is none.
    (parts / "checkpoint-4").mkdir()
    (parts / "checkpoint-4" / "trainer_state.json").write_text('{"epoch": ')
    assert small.last_checkpoint(parts) == str(parts / "checkpoint-2")
    again = small.train(start, parts, **settings)
    assert without_seconds(again) == without_seconds(whole)


def run_of(configuration: str, seed: int, accuracy: tuple[float, float], consistency: tuple[float, float]) -> Any:
    def values(at: int) -> dict[str, float]:
        return {
            "accuracy": accuracy[at] + 0.01 * seed * at,
            "consistency": consistency[at] - 0.01 * seed * at,
            "letter_entropy": 0.5,
            "token_entropy": 0.1,
            "correct_probability": 0.5,
            "thought_length": 20.0 + seed * at,
        }

    names = ("base", "stop_think", "wrong_think", "wrong_think_but", "wrong_caption", "wrong_caption_disclaimer")
    evaluations = [{"step": 600 * at, **{name: values(at) for name in names}} for at in (0, 1)]
    return {
        "configuration": configuration,
        "seed": seed,
        "steps": 600,
        "held_out": 200,
        "grpo": {"learning_rate": 5e-5},
        "seconds": 400,
        "cpu_seconds": 360,
        "alarms": [],
        "evaluations": evaluations,
    }


def write_start(results: Path) -> None:
    names = ("base", "stop_think", "blank_image", "correct_caption", "wrong_caption", "correct_think", "wrong_think")
    start = {
        "parameters": 1_400_000,
        "steps_after_noise": 60,
        "cpu_seconds": 600,
        "recipe": {"held_out": 150},
        "card": dict.fromkeys(names, 0.6),
    }
    (results / "start.json").write_text(json.dumps(start))


def test_the_page_reports_every_finding(tmp_path: Path) -> None:
    pages = example("grpo_page")
    for configuration in pages.CONFIGURATIONS:
        for seed in range(5):
            run = run_of(configuration, seed, (0.6, 0.7), (0.9, 0.8))
            (tmp_path / f"{configuration}-{seed}.json").write_text(json.dumps(run))
    (tmp_path / "rates.json").write_text("{}")
    write_start(tmp_path)
    text = pages.write_page(tmp_path, tmp_path / "page.md").read_text()
    verdicts = dict(
        line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ") and "**" in line
    )
    by_number = {int(title[0]): text.strip("*") for title, text in verdicts.items()}
    assert by_number == {
        1: "did not appear",
        2: "appeared",
        3: "did not appear",
        4: "appeared in part",
        5: "did not appear",
        6: "did not appear",
    }
    # 0.10 to 0.14 in five seeds: mean 0.12, and 2.776 standard errors of 0.00707 to each side.
    assert "accuracy, first to last: +0.120 (+0.100 to +0.140), seen" in text
    assert text.index("What may be concluded") < text.index("| finding of the paper")
    assert "1.4 million parameters" in text
    assert "| without a thought | 0.60 |" in text
    # There is no follow rate in these files, and a metric that is nowhere is no number.
    assert "| base (5 seeds) | 0.72 (0.70–0.74) | – | 0.78 (0.76–0.80) |" in text
    assert (tmp_path / "images" / "grpo_runs.svg").stat().st_size > 1000
    again = pages.write_page(tmp_path, tmp_path / "again.md").read_text()
    assert again == text


def test_a_single_seed_has_no_tests(tmp_path: Path) -> None:
    pages = example("grpo_page")
    (tmp_path / "base-0.json").write_text(json.dumps(run_of("base", 0, (0.6, 0.7), (0.9, 0.8))))
    runs = pages.read(tmp_path)
    assert {pages.verdict(signs) for _, signs in pages.findings(runs)} == {"could not be tested"}


def test_a_seed_without_thoughts_is_counted_and_not_averaged(tmp_path: Path) -> None:
    pages = example("grpo_page")
    runs = {"base": {seed: run_of("base", seed, (0.6, 0.7), (0.9, 0.8)) for seed in range(5)}}
    del runs["base"][4]["evaluations"][-1]["base"]["consistency"]
    text = str(pages.sign(runs, "base", "consistency", pages.change("base", "consistency"), falls=True))
    # -0.10 to -0.13 in four seeds: mean -0.115, and 3.182 standard errors of 0.00645 to each side.
    assert text == "`base`, consistency: -0.115 (-0.136 to -0.094), seen; undefined in 1 of 5 seeds"
    assert "0.79 (0.77–0.80), 4 of 5 |" in pages.table(runs, [("base", "consistency")])


def test_without_runs_there_is_no_page(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="expected files of runs"):
        example("grpo_page").write_page(tmp_path)


def test_the_second_judge_uses_the_last_option_named(small: Any) -> None:
    sample = vr.Sample(id="q", images=["x.png"], question="What colour?", options=["red", "blue", "green"], answer=0)
    thoughts = {
        "I see a red one. So the answer is Green.": 2,
        "blue, or rather red": 0,
        "The reddish one is greenish.": None,
        "": None,
    }
    prompt = vr.Prompt.of(sample)
    responses = [
        vr.Response(sample_id="q", condition="base", think=think, answer=1, status="answered") for think in thoughts
    ]
    verdicts = small.Conclusion().verdicts(vr.Responses.of([prompt] * len(responses), responses))
    found = [
        None if unsure else option
        for option, unsure in zip(verdicts.option.tolist(), verdicts.unsure.tolist(), strict=True)
    ]
    assert found == list(thoughts.values())


def test_the_second_judge_is_compared_with_the_rules(small: Any, start: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    run = small.train(start, tmp_path / "runs" / "base-0", "base", 0, steps=1, every=1, held_out=6, rate=1e-5)
    small.write(results / "base-0.json", run)
    small.judge(tmp_path, results, "conclusion", None)
    entries = json.loads((results / "base-0.json").read_text())["judges"]["Conclusion"]
    assert [entry["step"] for entry in entries] == [0, 1]
    assert 0 <= entries[0]["base"]["consistency"] <= 1
    assert entries[0]["base"]["consistency_coverage"] > 0.5
    # A run that the judge has read is not read again, so that its reports may be gone.
    shutil.rmtree(tmp_path / "runs")
    small.judge(tmp_path, results, "conclusion", None)
