"""A resumed run: evaluated at once, compared with what was logged, refused where its weights were not restored."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, Trainer, TrainerState

import vlmrobust as vr
from vlmrobust.metrics import Accuracy
from vlmrobust.perturbations import StopThink
from vlmrobust.rl import RobustnessCallback
from vlmrobust.rl.resumed import check_weights, moved, note_weights

# TRL still sets options that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

SMALL = {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 64, "learning_rate": 1e-3}
SAVED = {"save_strategy": "steps", "save_steps": 2}


def watched(build: Callable[..., Any], out: Path, steps: int, **settings: Any) -> Any:
    trainer = build(out, vr.rl.faithfulness_reward, max_steps=steps, **SMALL, **SAVED, **settings)
    callback = RobustnessCallback([StopThink()], vr.demo.samples(4), every=2, metrics=[Accuracy()], budget=None)
    callback.attach(trainer)
    return trainer


def robust(trainer: Any) -> list[dict[str, Any]]:
    return [entry for entry in trainer.state.log_history if "robustness/base/accuracy" in entry]


def is_at(trainer: Any, checkpoint: Path) -> bool:
    """Compare with the file itself, whatever its tensors are called: the sorted sums of all of them."""
    own = {value.data_ptr(): value for value in trainer.model.state_dict().values()}.values()  # tied ones once
    sums = [sorted(float(value.double().sum()) for value in tensors) for tensors in (own, saved(checkpoint))]
    return sums[0] == sums[1]


def saved(checkpoint: Path) -> Any:
    return load_file(checkpoint / "model.safetensors").values()


@pytest.fixture(scope="module")
def checkpoint(grpo: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what a short training has left at its second step."""
    out = tmp_path_factory.mktemp("first")
    trainer = watched(grpo, out, 2)
    trainer.train()
    assert [entry["step"] for entry in robust(trainer)] == [0, 2]
    assert any(entry.get("grad_norm", 0) > 0 for entry in trainer.state.log_history)
    assert is_at(trainer, out / "checkpoint-2")
    return out / "checkpoint-2"


def test_what_transformers_does_not_restore_is_refused(
    grpo: Callable[..., Any], checkpoint: Path, tmp_path: Path
) -> None:
    trainer = watched(grpo, tmp_path, 3)
    trainer._load_from_checkpoint(str(checkpoint))
    if is_at(trainer, checkpoint):
        pytest.skip("this transformers restores the bundled Qwen2.5-VL")
    with pytest.raises(ValueError, match=r"^RobustnessCallback, resumed at step 2: expected the weights that the ch"):
        trainer.train(resume_from_checkpoint=str(checkpoint))
    assert trainer.state.global_step == 2  # it has not begun
    assert not (tmp_path / "robustness").exists()


def test_weights_that_are_not_restored_are_refused(
    grpo: Callable[..., Any], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same whatever transformers does: here it restores nothing, and then all but one tensor."""
    monkeypatch.setattr(Trainer, "_load_from_checkpoint", lambda *arguments, **named: None)
    with pytest.raises(ValueError, match=r"got others in (\d+) of \d+ trained tensors .*\bhas not restored them"):
        watched(grpo, tmp_path, 3).train(resume_from_checkpoint=str(checkpoint))
    trainer = from_checkpoint(grpo, checkpoint, tmp_path)
    name, one = next((name, value) for name, value in trainer.model.named_parameters() if "q_proj.weight" in name)
    with torch.no_grad():
        one[0, 0] += 1.0
    with pytest.raises(ValueError, match=rf"got others in 1 of \d+ trained tensors \(the first is '{name}'\)"):
        trainer.train(resume_from_checkpoint=str(checkpoint))


def from_checkpoint(build: Callable[..., Any], checkpoint: Path, out: Path) -> Any:
    """Return a trainer to whose model the checkpoint was loaded, as the message says."""
    trainer = watched(build, out, 3)
    trainer.model.load_state_dict(AutoModelForImageTextToText.from_pretrained(checkpoint).state_dict())
    return trainer


def test_a_restored_run_goes_on_where_it_was(grpo: Callable[..., Any], checkpoint: Path, tmp_path: Path) -> None:
    trainer = from_checkpoint(grpo, checkpoint, tmp_path)
    trainer.train(resume_from_checkpoint=str(checkpoint))  # a warning would be an error
    entries = robust(trainer)
    assert [entry["step"] for entry in entries] == [0, 2, 2, 3]
    names = [name for name in entries[1] if name.endswith("/accuracy")]
    assert [entries[1][name] for name in names] == [entries[2][name] for name in names]
    assert "robustness/share_of_training" in entries[3]
    assert (tmp_path / "robustness" / "step-2-resumed" / "report.parquet").is_file()


def test_an_adapter_is_restored(grpo: Callable[..., Any], tmp_path: Path) -> None:
    from peft import LoraConfig

    config = {"peft_config": LoraConfig(r=4, target_modules=["q_proj", "v_proj"])}
    watched(grpo, tmp_path, 2, **config).train()
    trainer = watched(grpo, tmp_path, 3, **config)
    trainer.train(resume_from_checkpoint=True)
    assert [entry["step"] for entry in robust(trainer)] == [0, 2, 2, 3]


def test_without_a_note_the_evaluation_tells(
    grpo: Callable[..., Any],
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A checkpoint of an older version, after which other values are found than were logged."""
    load = TrainerState.load_from_json

    def older(path: str) -> TrainerState:
        state = load(path)
        del state.stateful_callbacks["vlmrobust_weights"]
        [entry] = [entry for entry in state.log_history if entry["step"] == 2 and "robustness/base/accuracy" in entry]
        entry["robustness/base/accuracy"] += 2.0
        return state

    monkeypatch.setattr(TrainerState, "load_from_json", older)
    trainer = from_checkpoint(grpo, checkpoint, tmp_path)
    with pytest.warns(UserWarning, match=r"step 2, 4 samples: the resumed run is not where it was: base/accuracy was "):
        trainer.train(resume_from_checkpoint=str(checkpoint))
    assert "the checkpoint has no note of its weights" in caplog.text


def test_notes_of_weights() -> None:
    layer, state = torch.nn.Linear(70, 80), TrainerState(global_step=7)
    assert not check_weights(state, layer)  # nothing was noted
    note_weights(state, layer)
    assert check_weights(state, layer)
    assert check_weights(state, layer.bfloat16().float())  # rounded, as a model may be saved
    layer.weight.requires_grad = False  # what is frozen comes with the model
    with pytest.raises(ValueError, match=r"got others in 1 of 2 trained tensors \(the first is 'weight'\)"):
        check_weights(state, layer)
    state.global_step = 8  # an older note
    assert not check_weights(state, layer)


@pytest.mark.parametrize(
    ("now", "samples", "expected"),
    [
        ({"a/accuracy": 0.5, "a/thought_length": 31.0}, 100, []),
        ({"a/accuracy": 0.53}, 100, ["a/accuracy was 0.500, is 0.530"]),
        ({"a/accuracy": 0.53}, 50, []),  # an answer or two
        ({"a/thought_length": 28.0}, 1000, ["a/thought_length was 30.000, is 28.000"]),
        ({"b/accuracy": 0.0}, 100, []),
    ],
)
def test_what_counts_as_another_place(now: dict[str, float], samples: int, expected: list[str]) -> None:
    assert moved({"a/accuracy": 0.5, "a/thought_length": 30.0}, now, samples) == expected
