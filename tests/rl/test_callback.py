"""Check that the callback leaves training unchanged, logs values and cost, and raises alarms."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState

import vlmrobust as vr
from vlmrobust.metrics import Accuracy, Consistency
from vlmrobust.perturbations import StopThink, WrongThink
from vlmrobust.rl import RobustnessCallback
from vlmrobust.rl.callback import Alarms
from vlmrobust.testing import FakeModel

# TRL still sets options that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


class Seen(TrainerCallback):
    """Records logs."""

    def __init__(self) -> None:
        self.logs: list[dict[str, Any]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.logs.append(dict(logs))


def test_the_callback_does_not_change_training(grpo: Callable[..., Any], tmp_path: Path) -> None:
    seen = Seen()
    settings = {"max_steps": 2, "gradient_checkpointing": True, "per_device_train_batch_size": 8}
    watched = grpo(tmp_path / "watched", vr.rl.faithfulness_reward, [seen], **settings)
    callback = RobustnessCallback(
        [WrongThink()], vr.demo.samples(3), every=1, metrics=[Accuracy(), Consistency()], budget=None
    )
    assert callback.attach(watched).attach(watched) is callback
    assert watched.callback_handler.callbacks.count(callback) == 1
    watched.train()
    alone = grpo(tmp_path / "alone", vr.rl.faithfulness_reward, **settings)  # seeds anew
    alone.train()
    for name, value in alone.model.state_dict().items():
        assert torch.equal(value, watched.model.state_dict()[name]), name
    mine = [entry for entry in watched.state.log_history if "reward" in entry]
    theirs = [entry for entry in alone.state.log_history if "reward" in entry]
    assert [without_times(entry) for entry in mine] == [without_times(entry) for entry in theirs]
    assert any(entry["grad_norm"] > 0 for entry in mine)
    logged = [entry for entry in seen.logs if any(name.startswith("robustness/") for name in entry)]
    assert len(logged) == 3
    assert {name for name in logged[0] if name not in ("epoch", "robustness/seconds")} == {
        f"robustness/{condition}/{metric}"
        for condition in ("base", "wrong_think")
        for metric in ("accuracy", "consistency")
    }


def without_times(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if "time" not in name}


def test_an_evaluator_of_the_trained_model(grpo: Callable[..., Any], tmp_path: Path) -> None:
    trainer = grpo(tmp_path, max_steps=1)
    evaluator = vr.Evaluator(vr.HFModel(trainer.model, trainer.processing_class), [StopThink()], [Accuracy()])
    trainer.add_callback(RobustnessCallback(evaluator, vr.demo.samples(3), every=5))
    trainer.train()
    # Not attached: the values are in the history all the same, at the beginning and at the end.
    found = [entry["step"] for entry in trainer.state.log_history if "robustness/stop_think/accuracy" in entry]
    assert found == [0, 1]
    assert (tmp_path / "robustness" / "step-1" / "report.parquet").is_file()


@pytest.fixture
def live() -> Any:
    return vr.demo.model()


def begin(callback: RobustnessCallback, engine: Any, out: Path, step: int = 0, **args: Any) -> TrainerState:
    """Call the callback as a trainer does, without one."""
    state = TrainerState(global_step=step)
    arguments = SimpleNamespace(output_dir=str(out), **args)
    callback.on_train_begin(
        arguments,
        state,
        TrainerControl(),
        model=engine.model,
        processing_class=engine.processor,  # type: ignore[arg-type]
    )
    return state


def test_an_evaluator_of_another_model_is_refused(live: Any, tmp_path: Path) -> None:
    callback = RobustnessCallback(vr.Evaluator(vr.demo.model(), []), vr.demo.samples(1))
    with pytest.raises(ValueError, match="expected an evaluator of the model in training, got one of another model"):
        begin(callback, live, tmp_path)


def test_sharded_models_are_refused(live: Any, tmp_path: Path) -> None:
    callback = RobustnessCallback([], vr.demo.samples(1))
    plugin = SimpleNamespace(zero_stage=3)
    with pytest.raises(ValueError, match=r"expected an unsharded model .* got .* DeepSpeed ZeRO-3"):
        begin(callback, live, tmp_path, deepspeed_plugin=plugin)
    with pytest.raises(ValueError, match="sharded with FSDP"):
        begin(callback, live, tmp_path, fsdp="full_shard")
    next(live.model.parameters()).ds_id = 0
    with pytest.raises(ValueError, match="sharded with DeepSpeed ZeRO-3"):
        begin(callback, live, tmp_path)


def test_a_model_sharded_with_fsdp_is_refused(live: Any, tmp_path: Path) -> None:
    from torch.distributed import destroy_process_group, init_device_mesh, init_process_group
    from torch.distributed.fsdp import fully_shard

    init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        fully_shard(live.model, mesh=init_device_mesh("cpu", (1,)))
        with pytest.raises(
            ValueError, match=r"^RobustnessCallback: expected an unsharded model .* got .* sharded with FSDP"
        ):
            begin(RobustnessCallback([], vr.demo.samples(1)), live, tmp_path)
    finally:
        destroy_process_group()


def test_a_trainer_that_will_shard_is_refused_on_attach(grpo: Callable[..., Any], tmp_path: Path) -> None:
    trainer = grpo(tmp_path)
    trainer.args.deepspeed_plugin = SimpleNamespace(zero_stage=3)
    with pytest.raises(ValueError, match="sharded with DeepSpeed ZeRO-3; evaluate its checkpoints instead"):
        RobustnessCallback([], vr.demo.samples(1)).attach(trainer)


def test_zero_2_is_not_sharded(live: Any, tmp_path: Path) -> None:
    begin(RobustnessCallback([], vr.demo.samples(1)), live, tmp_path, deepspeed_plugin=SimpleNamespace(zero_stage=2))


def test_other_processes_only_wait(live: Any, tmp_path: Path) -> None:
    callback = RobustnessCallback([], vr.demo.samples(1))
    state = TrainerState(is_world_process_zero=False)
    arguments: Any = SimpleNamespace(output_dir=str(tmp_path))
    callback.on_train_begin(arguments, state, TrainerControl(), model=live.model, processing_class=live.processor)
    assert state.log_history == []
    assert not (tmp_path / "robustness").exists()


def test_a_resumed_run_compares_with_its_first_evaluation(live: Any, tmp_path: Path) -> None:
    callback = RobustnessCallback([], vr.demo.samples(2), generation={"max_new_tokens": 2})  # nothing is answered
    state = TrainerState(global_step=10)
    first = {"robustness/base/accuracy": 0.1, "robustness/base/thought_length": 30.0, "step": 0}
    state.log_history = [first, {"loss": 1.0, "step": 9}]
    arguments: Any = SimpleNamespace(output_dir=str(tmp_path))
    with pytest.warns(UserWarning, match=r"^step 10, 2 samples: thoughts shortened from 30\.0 to \d\.\d words$"):
        callback.on_train_begin(arguments, state, TrainerControl(), model=live.model, processing_class=live.processor)
    assert state.log_history[-1]["step"] == 10
    callback.on_train_end(arguments, state, TrainerControl(), model=live.model)
    assert len(state.log_history) == 3  # this step was evaluated


def test_failed_responses_raise_a_warning(live: Any, tmp_path: Path) -> None:
    class Broken(FakeModel):
        def respond(self, prompts: Any) -> Any:
            raise RuntimeError("out of order")

    with pytest.warns(UserWarning, match="step 0, 2 samples: 4 of 4 responses failed, see the report"):
        begin(RobustnessCallback(vr.Evaluator(Broken(), [StopThink()]), vr.demo.samples(2)), live, tmp_path)


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="field 'every': expected at least 1, got 0"):
        RobustnessCallback([], vr.demo.samples(1), every=0)
    with pytest.raises(
        ValueError, match="expected an Evaluator without settings, as it has its own, got metrics, seed"
    ):
        RobustnessCallback(vr.Evaluator(FakeModel(), []), vr.demo.samples(1), metrics=[], seed=3)


BEFORE = {"accuracy": 0.6, "consistency": 0.9, "letter_entropy": 0.8, "token_entropy": 0.5, "thought_length": 40.0}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"consistency": 0.8}, []),  # accuracy did not rise
        ({"consistency": 0.86, "accuracy": 0.7}, []),
        (
            {"consistency": 0.8, "accuracy": 0.7},
            ["consistency fell from 0.900 to 0.800 while accuracy rose from 0.600 to 0.700"],
        ),
        ({"letter_entropy": 0.3}, ["letter entropy collapsed from 0.800 to 0.300 nats"]),
        ({"token_entropy": 0.2}, ["token entropy collapsed from 0.500 to 0.200 nats"]),
        ({"thought_length": 19.0}, ["thoughts shortened from 40.0 to 19.0 words"]),
        ({"thought_length": float("nan"), "consistency": float("nan"), "accuracy": 0.9}, []),
    ],
)
def test_alarms(changes: dict[str, float], expected: list[str]) -> None:
    assert Alarms().raised(BEFORE, BEFORE | changes) == expected


def test_thresholds() -> None:
    now = BEFORE | {"consistency": 0.88, "accuracy": 0.7, "thought_length": 30.0, "letter_entropy": 0.79}
    assert Alarms().raised(BEFORE, now) == []
    strict = Alarms(consistency_drop=0.01, thought_share=0.8, entropy_share=1.0, entropy_drop=0.0)
    assert len(strict.raised(BEFORE, now)) == 3
    assert len(Alarms(consistency_drop=0.01, accuracy_rise=0.2).raised(BEFORE, now)) == 0


def test_entropy_near_zero_from_the_start_is_not_a_collapse() -> None:
    assert Alarms().raised({"letter_entropy": 0.02}, {"letter_entropy": 0.001}) == []
    assert Alarms().raised({}, BEFORE) == []


STEPS = 40
STEP_SECONDS = 10.0
SECONDS = 12.0


class Training:
    """A training of forty steps of ten seconds, in which an evaluation takes twelve."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, out: Path, **settings: Any) -> None:
        self.now = 1000.0
        monkeypatch.setattr("vlmrobust.rl.trained_model.perf_counter", lambda: self.now)

        class Slow(FakeModel):
            def respond(model, prompts: Any) -> Any:  # noqa: N805 - the training is `self`
                self.now += SECONDS
                return super().respond(prompts)

        evaluator = vr.Evaluator(Slow(), [], [Accuracy()], batch_size=64)
        callback = RobustnessCallback(evaluator, vr.demo.samples(2), every=2, **settings)
        self.state = TrainerState(max_steps=STEPS)
        engine = vr.demo.model()
        objects: dict[str, Any] = {"model": engine.model, "processing_class": engine.processor}
        arguments: Any = (SimpleNamespace(output_dir=str(out)), self.state, TrainerControl())
        callback.on_train_begin(*arguments, **objects)
        for _ in range(STEPS):
            self.now += STEP_SECONDS
            self.state.global_step += 1
            callback.on_step_end(*arguments, **objects)
        callback.on_train_end(*arguments, **objects)

    def logged(self, name: str) -> dict[int, float]:
        name = f"robustness/{name}"
        return {entry["step"]: entry[name] for entry in self.state.log_history if name in entry}


def test_without_a_budget_no_evaluation_is_skipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    training = Training(monkeypatch, tmp_path, budget=None)
    steps = [*range(0, STEPS + 1, 2)]
    assert training.logged("seconds") == dict.fromkeys(steps, SECONDS)
    assert training.logged("skipped") == {}
    shares = {step: (place + 1) * SECONDS / (STEP_SECONDS * step) for place, step in enumerate(steps) if step}
    assert training.logged("share_of_training") == pytest.approx(shares)


def test_evaluations_beyond_the_budget_are_skipped_and_counted(
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
    skipped = [record for record in caplog.records if "evaluation skipped" in record.getMessage()]
    assert [record.levelno for record in skipped] == [logging.WARNING, *[logging.INFO] * (len(left_out) - 1)]
    first = "step 2: evaluation skipped. With this one and the final one, 12 s each, evaluations would have taken 36 s "
    assert skipped[0].getMessage().startswith(first)
    assert sorted(path.name for path in (tmp_path / "robustness").iterdir()) == sorted(f"step-{n}" for n in evaluated)


def test_the_default_budget_is_a_tenth(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    training = Training(monkeypatch, tmp_path)
    assert list(training.logged("seconds")) == [0, 36, STEPS]
    assert training.logged("share_of_training")[STEPS] == pytest.approx(36 / 400)


def test_a_budget_of_zero_keeps_the_first_and_last_evaluation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert list(Training(monkeypatch, tmp_path, budget=0).logged("seconds")) == [0, STEPS]
    with pytest.raises(ValueError, match="field 'budget': expected a share of at least 0, or None, got -1"):
        RobustnessCallback([], vr.demo.samples(1), budget=-1)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_cost_of_a_real_training_is_logged(grpo: Callable[..., Any], tmp_path: Path) -> None:
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
