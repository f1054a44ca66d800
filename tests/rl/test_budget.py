"""What evaluations cost is logged, and those beyond the budget are left out: with a clock of the test's own."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState

import vlmrobust as vr
from vlmrobust.metrics import Accuracy
from vlmrobust.rl import RobustnessCallback, budget
from vlmrobust.testing import FakeModel

STEPS = 40
STEP_SECONDS = 10.0
SECONDS = 12.0


class Training:
    """A training of forty steps of ten seconds, in which an evaluation takes twelve."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, out: Path, **settings: Any) -> None:
        self.now = 1000.0
        monkeypatch.setattr(budget, "perf_counter", lambda: self.now)

        class Slow(FakeModel):
            def respond(model, prompts: Any) -> Any:  # noqa: N805 - the training is `self`
                self.now += SECONDS
                return super().respond(prompts)

        evaluator = vr.Evaluator(Slow(), [], [Accuracy()], batch_size=64)
        callback = RobustnessCallback(evaluator, vr.demo.samples(2), every=2, **settings)
        self.state = TrainerState(max_steps=STEPS)
        engine = vr.demo.model()
        told: dict[str, Any] = {"model": engine.model, "processing_class": engine.processor}
        given: Any = (SimpleNamespace(output_dir=str(out)), self.state, TrainerControl())
        callback.on_train_begin(*given, **told)
        for _ in range(STEPS):
            self.now += STEP_SECONDS
            self.state.global_step += 1
            callback.on_step_end(*given, **told)
        callback.on_train_end(*given, **told)

    def logged(self, name: str) -> dict[int, float]:
        name = f"robustness/{name}"
        return {entry["step"]: entry[name] for entry in self.state.log_history if name in entry}


def test_nothing_is_left_out_without_a_budget(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    training = Training(monkeypatch, tmp_path, budget=None)
    steps = [*range(0, STEPS + 1, 2)]
    assert training.logged("seconds") == dict.fromkeys(steps, SECONDS)
    assert training.logged("skipped") == {}
    shares = {step: (place + 1) * SECONDS / (STEP_SECONDS * step) for place, step in enumerate(steps) if step}
    assert training.logged("share_of_training") == pytest.approx(shares)


def test_what_is_beyond_the_budget_is_left_out_and_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At 10 s a step three evaluations are a fifth of 180 s, which is step 18, and four are one of 240 s."""
    with caplog.at_level(logging.INFO, "vlmrobust.rl.callback"):
        training = Training(monkeypatch, tmp_path, budget=0.2)
    evaluated = [0, 18, 24, 30, 36, STEPS]
    assert list(training.logged("seconds")) == evaluated
    left_out = [step for step in range(0, STEPS, 2) if step not in evaluated]
    assert training.logged("skipped") == {step: place + 1.0 for place, step in enumerate(left_out)}
    assert max(training.logged("share_of_training").values()) <= 0.2
    said = [record for record in caplog.records if "no evaluation" in record.getMessage()]
    assert [record.levelno for record in said] == [logging.WARNING, *[logging.INFO] * (len(left_out) - 1)]
    first = (
        "step 2: no evaluation. With this one and the last one, 12 s each, evaluations would have taken 36 s of 20 s "
    )
    assert said[0].getMessage().startswith(first)
    assert sorted(path.name for path in (tmp_path / "robustness").iterdir()) == sorted(f"step-{n}" for n in evaluated)


def test_a_tenth_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    training = Training(monkeypatch, tmp_path)
    assert list(training.logged("seconds")) == [0, 36, STEPS]
    assert training.logged("share_of_training")[STEPS] == pytest.approx(36 / 400)


def test_with_no_budget_at_all_there_are_the_first_and_the_last(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert list(Training(monkeypatch, tmp_path, budget=0).logged("seconds")) == [0, STEPS]
    with pytest.raises(ValueError, match="field 'budget': expected a share of at least 0, or None, got -1"):
        RobustnessCallback([], vr.demo.samples(1), budget=-1)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_of_a_real_training(grpo: Callable[..., Any], tmp_path: Path) -> None:
    """Seconds are those of the clock on the wall."""
    small = {"per_device_train_batch_size": 4, "num_generations": 2, "max_completion_length": 24}
    trainer = grpo(tmp_path, max_steps=4, **small)
    RobustnessCallback([], vr.demo.samples(2), every=1, metrics=[Accuracy()], budget=1e-3).attach(trainer)
    trainer.train()
    history = trainer.state.log_history
    evaluated = [entry for entry in history if "robustness/seconds" in entry]
    assert [entry["step"] for entry in evaluated] == [0, 4]
    assert [entry["robustness/skipped"] for entry in history if "robustness/skipped" in entry] == [1, 2, 3]
    [runtime] = [entry["train_runtime"] for entry in history if "train_runtime" in entry]
    assert 0 < evaluated[0]["robustness/seconds"] < runtime  # which has the first, and not the last
    spent = sum(entry["robustness/seconds"] for entry in evaluated)
    assert spent / evaluated[1]["robustness/share_of_training"] < runtime
