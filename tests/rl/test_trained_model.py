"""Check that evaluations adopt the trainer's settings, restore its model's state, and refuse unrestored weights."""

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import zoo
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, Trainer, TrainerState

import vlmrobust as vr
from vlmrobust.metrics import Accuracy
from vlmrobust.perturbations import StopThink
from vlmrobust.rl import RobustnessCallback
from vlmrobust.rl.trained_model import check_weights, moved, record_weights, trainer_settings, undisturbed

# TRL still sets options that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

SMALL = {"max_steps": 1, "per_device_train_batch_size": 4, "num_generations": 2, "max_completion_length": 11}


def first_report(trainer: Any, **settings: Any) -> vr.Report:
    callback = RobustnessCallback([StopThink()], vr.demo.samples(3), metrics=[Accuracy()], **settings)
    callback.attach(trainer)
    trainer.train()
    return vr.Report.load(Path(trainer.args.output_dir) / "robustness" / "step-0")


def lengths(report: vr.Report) -> set[int]:
    """Return the token counts of the base responses."""
    found = report.responses
    return {int(n) for n, condition in zip(found.n_tokens, found.condition, strict=True) if condition == "base"}


def test_the_token_limit_is_the_trainers(grpo: Callable[..., Any], tmp_path: Path) -> None:
    report = first_report(grpo(tmp_path / "its", **SMALL))
    assert lengths(report) == {11}  # the bundled model thinks for longer
    assert "truncated" in report.responses.status
    report = first_report(grpo(tmp_path / "told", **SMALL), generation={"max_new_tokens": 5})
    assert lengths(report) == {5}
    report = first_report(grpo(tmp_path / "own", generation_kwargs={"max_new_tokens": 7}, **SMALL))
    assert lengths(report) == {7}


def test_the_template_arguments_are_the_trainers(grpo: Callable[..., Any], tmp_path: Path) -> None:
    """The argument sets how the template opens the turn."""
    arguments = {"chat_template_kwargs": {"opens": "<think>The shape", "unheard_of": 1}}
    trainer = grpo(tmp_path, **SMALL, **arguments)
    trainer.processing_class.chat_template += "{{ opens | default('') }}"
    assert first_report(trainer).manifest["model"]["template"] == {"opens": "<think>The shape"}
    trainer = grpo(tmp_path, **SMALL, **arguments)
    trainer.processing_class.chat_template += "{{ opens | default('') }}"
    report = first_report(trainer, template={"opens": "<think>I see"})
    assert report.manifest["model"]["template"] == {"opens": "<think>I see"}


def settings(**arguments: Any) -> Any:
    engine = vr.demo.model()
    engine.processor.tokenizer.eos_token = arguments.pop("eos", engine.processor.tokenizer.eos_token)
    return trainer_settings(SimpleNamespace(**arguments), engine.model, engine.processor)


def test_settings_are_inherited() -> None:
    assert settings() == ({}, {}, None)
    assert settings(max_new_tokens=30).generation == {"max_new_tokens": 30}
    rollouts = {"temperature": 0.7, "repetition_penalty": 1.2, "stop": ["</answer>"], "max_tokens": 90, "top_p": None}
    found = settings(max_completion_length=64, generation_kwargs=rollouts)
    assert found.generation == {"max_new_tokens": 90, "stop_strings": ["</answer>"]}  # no sampling, no penalty
    ends = settings(eos="<|endoftext|>").generation["eos_token_id"]
    tokenizer = vr.demo.model().processor.tokenizer
    assert tokenizer.convert_ids_to_tokens(ends) == ["<|im_end|>", "<|endoftext|>"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"mixed_precision": "no", "bf16": False}, None),
        ({"mixed_precision": "bf16"}, torch.bfloat16),
        ({"bf16": True}, torch.bfloat16),
        ({"bf16": False, "fp16": True}, torch.float16),
        ({"mixed_precision": "fp8"}, None),
        ({"bf16": True, "deepspeed_plugin": SimpleNamespace(zero_stage=2)}, None),  # its weights are bf16 themselves
    ],
)
def test_autocast(arguments: dict[str, Any], expected: Any) -> None:
    assert settings(**arguments).autocast == expected


def letters(report: vr.Report) -> torch.Tensor:
    """Return the letters' log-probabilities after the forced end of the thought."""
    found = report.responses
    return found.option_logprobs[torch.tensor([condition == "stop_think" for condition in found.condition])]


def expected_letters(condition: Any, autocast: bool, rounded: bool = False) -> torch.Tensor:
    """Compute the letters from the last hidden state under autocast, with the head in float32 or rounded."""
    engine = vr.demo.model()
    found = []
    for prompt in vr.expand(vr.demo.samples(3), [condition]):
        if prompt.condition == "base":
            continue
        text = engine.processor.apply_chat_template(prompt.messages(), add_generation_prompt=True, tokenize=False)
        inputs = engine.processor(
            text=text + prompt.prefill + "<answer>", images=list(prompt.images), return_tensors="pt"
        )
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            states = engine.model.model(**inputs).last_hidden_state
        logits = states[0, -1].float() @ engine.model.lm_head.weight.detach().T
        logits = logits.bfloat16().float() if rounded else logits
        tokens = [engine.processor.tokenizer(letter)["input_ids"][-1] for letter in "ABCD"]
        found.append(logits.log_softmax(-1)[tokens])
    return torch.stack(found)


@pytest.mark.parametrize("adapter", [False, True], ids=("whole", "adapter"))
def test_float32_read_out_under_the_trainers_autocast(grpo: Callable[..., Any], tmp_path: Path, adapter: bool) -> None:
    from peft import LoraConfig

    peft = {"peft_config": LoraConfig(r=2, target_modules=["q_proj"])} if adapter else {}  # does nothing yet
    report = first_report(grpo(tmp_path, **SMALL, bf16=True, **peft))
    assert report.manifest["model"]["autocast"] == "bfloat16"
    found, half = letters(report), expected_letters(StopThink(), autocast=True)
    others = (expected_letters(StopThink(), autocast=False), expected_letters(StopThink(), autocast=True, rounded=True))
    assert all((found - other).abs().max() > 0.01 for other in others)  # so that they can be told apart
    assert (found - half).abs().max() < 0.005


def test_an_explicit_precision(grpo: Callable[..., Any], tmp_path: Path) -> None:
    trainer = grpo(tmp_path, **SMALL, bf16=True)
    report = first_report(trainer, precision="float32")
    assert "autocast" not in report.manifest["model"]
    assert (letters(report) - expected_letters(StopThink(), autocast=False)).abs().max() < 1e-4
    with torch.no_grad():  # and the trainer has its own back
        logits = trainer.model(input_ids=torch.tensor([[1, 2]])).logits
    assert torch.equal(logits, logits.bfloat16().float())


def test_invalid_precisions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="field 'precision': expected one of float32, bfloat16, float16, or None, got"):
        RobustnessCallback([], vr.demo.samples(1), precision="bf16")  # type: ignore[arg-type]
    engine = vr.demo.model()
    callback = RobustnessCallback([], vr.demo.samples(1), precision="float32")
    with pytest.raises(
        ValueError, match=r"'precision': expected at most the precision of the weights, torch\.bfloat16, got"
    ):
        callback._autocast_for(engine.model.bfloat16(), SimpleNamespace())  # type: ignore[arg-type]


def test_letters_of_a_model_wrapped_in_autocast() -> None:
    """accelerate puts autocast inside the forward pass, hidden from whoever evaluates the model."""
    from accelerate import Accelerator

    engine = vr.demo.model()
    prepared = Accelerator(mixed_precision="bf16", cpu=True).prepare_model(engine.model, evaluation_mode=True)
    try:
        report = vr.Evaluator(vr.HFModel(prepared, engine.processor), [StopThink()]).run(vr.demo.samples(3))
    finally:
        Accelerator._shared_state = {}
    assert (letters(report) - expected_letters(StopThink(), autocast=True)).abs().max() < 0.005
    with undisturbed(prepared):
        report = vr.Evaluator(vr.HFModel(prepared, engine.processor), [StopThink()]).run(vr.demo.samples(3))
    assert (letters(report) - expected_letters(StopThink(), autocast=False)).abs().max() < 1e-4


def random_numbers() -> tuple[Any, ...]:
    return random.random(), float(np.random.rand()), float(torch.rand(1))  # noqa: NPY002


def test_state_is_restored_even_after_an_error(tiny: Callable[[str], zoo.Tiny]) -> None:
    made = zoo.build("qwen2_5_vl")
    model = made.model.train()
    model.gradient_checkpointing_enable()
    model.model.visual.eval()  # a frozen part
    model.config.use_cache = model.config.text_config.use_cache = False
    model.model.rope_deltas = torch.tensor([[7]])
    modes = {name: module.training for name, module in model.named_modules()}
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    expected = random_numbers()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002

    def ask() -> None:
        with undisturbed(model):
            assert not any(module.training for module in model.modules())
            assert not model.is_gradient_checkpointing
            assert model.config.text_config.use_cache
            random_numbers()
            sample = vr.demo.samples(1)[0]
            [response] = vr.HFModel(model, made.processor, {"max_new_tokens": 2}).respond([vr.Prompt.of(sample)])
            assert response.status != "error"
            raise KeyError("x")

    with pytest.raises(KeyError):
        ask()
    assert random_numbers() == expected
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert model.is_gradient_checkpointing
    assert not model.config.use_cache
    assert not model.config.text_config.use_cache
    assert model.model.rope_deltas.item() == 7


QUICK = {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 64, "learning_rate": 1e-3}
SAVED = {"save_strategy": "steps", "save_steps": 2}


def watched_trainer(build: Callable[..., Any], out: Path, steps: int, **settings: Any) -> Any:
    trainer = build(out, vr.rl.faithfulness_reward, max_steps=steps, **QUICK, **SAVED, **settings)
    callback = RobustnessCallback([StopThink()], vr.demo.samples(4), every=2, metrics=[Accuracy()], budget=None)
    callback.attach(trainer)
    return trainer


def evaluations_of(trainer: Any) -> list[dict[str, Any]]:
    return [entry for entry in trainer.state.log_history if "robustness/base/accuracy" in entry]


def has_weights_of(trainer: Any, checkpoint: Path) -> bool:
    """Compare the sorted sums of all tensors with those of the file, regardless of names."""
    own = {value.data_ptr(): value for value in trainer.model.state_dict().values()}.values()  # tied ones once
    sums = [sorted(float(value.double().sum()) for value in tensors) for tensors in (own, saved_tensors(checkpoint))]
    return sums[0] == sums[1]


def saved_tensors(checkpoint: Path) -> Any:
    return load_file(checkpoint / "model.safetensors").values()


@pytest.fixture(scope="module")
def checkpoint(grpo: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the checkpoint of a short training at its second step."""
    out = tmp_path_factory.mktemp("first")
    trainer = watched_trainer(grpo, out, 2)
    trainer.train()
    assert [entry["step"] for entry in evaluations_of(trainer)] == [0, 2]
    assert any(entry.get("grad_norm", 0) > 0 for entry in trainer.state.log_history)
    assert has_weights_of(trainer, out / "checkpoint-2")
    return out / "checkpoint-2"


def test_weights_that_transformers_does_not_restore_are_refused(
    grpo: Callable[..., Any], checkpoint: Path, tmp_path: Path
) -> None:
    trainer = watched_trainer(grpo, tmp_path, 3)
    trainer._load_from_checkpoint(str(checkpoint))
    if has_weights_of(trainer, checkpoint):
        pytest.skip("this transformers restores the bundled Qwen2.5-VL")
    with pytest.raises(
        ValueError, match=r"^RobustnessCallback, resumed at step 2: expected the weights of the checkpoint"
    ):
        trainer.train(resume_from_checkpoint=str(checkpoint))
    assert trainer.state.global_step == 2  # it has not begun
    assert not (tmp_path / "robustness").exists()


def test_weights_that_are_not_restored_are_refused(
    grpo: Callable[..., Any], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Independent of the version of transformers: first nothing is restored, then all but one tensor."""
    monkeypatch.setattr(Trainer, "_load_from_checkpoint", lambda *arguments, **named: None)
    with pytest.raises(
        ValueError, match=r"got different ones in (\d+) of \d+ trained tensors .*\bhas not restored them"
    ):
        watched_trainer(grpo, tmp_path, 3).train(resume_from_checkpoint=str(checkpoint))
    trainer = from_checkpoint(grpo, checkpoint, tmp_path)
    name, one = next((name, value) for name, value in trainer.model.named_parameters() if "q_proj.weight" in name)
    with torch.no_grad():
        one[0, 0] += 1.0
    with pytest.raises(ValueError, match=rf"got different ones in 1 of \d+ trained tensors \(the first is '{name}'\)"):
        trainer.train(resume_from_checkpoint=str(checkpoint))


def from_checkpoint(build: Callable[..., Any], checkpoint: Path, out: Path) -> Any:
    """Return a trainer whose model was loaded from the checkpoint, as the message advises."""
    trainer = watched_trainer(build, out, 3)
    trainer.model.load_state_dict(AutoModelForImageTextToText.from_pretrained(checkpoint).state_dict())
    return trainer


def test_a_restored_run_continues(grpo: Callable[..., Any], checkpoint: Path, tmp_path: Path) -> None:
    trainer = from_checkpoint(grpo, checkpoint, tmp_path)
    trainer.train(resume_from_checkpoint=str(checkpoint))  # a warning would be an error
    entries = evaluations_of(trainer)
    assert [entry["step"] for entry in entries] == [0, 2, 2, 3]
    names = [name for name in entries[1] if name.endswith("/accuracy")]
    assert [entries[1][name] for name in names] == [entries[2][name] for name in names]
    assert "robustness/share_of_training" in entries[3]
    assert (tmp_path / "robustness" / "step-2-resumed" / "report.parquet").is_file()


def test_an_adapter_is_restored(grpo: Callable[..., Any], tmp_path: Path) -> None:
    from peft import LoraConfig

    config = {"peft_config": LoraConfig(r=4, target_modules=["q_proj", "v_proj"])}
    watched_trainer(grpo, tmp_path, 2, **config).train()
    trainer = watched_trainer(grpo, tmp_path, 3, **config)
    trainer.train(resume_from_checkpoint=True)
    assert [entry["step"] for entry in evaluations_of(trainer)] == [0, 2, 2, 3]


def test_without_recorded_weights_the_evaluation_shows_the_difference(
    grpo: Callable[..., Any],
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A checkpoint of an older version, with logged values that differ from those found."""
    load = TrainerState.load_from_json

    def older(path: str) -> TrainerState:
        state = load(path)
        del state.stateful_callbacks["vlmrobust_weights"]
        [entry] = [entry for entry in state.log_history if entry["step"] == 2 and "robustness/base/accuracy" in entry]
        entry["robustness/base/accuracy"] += 2.0
        return state

    monkeypatch.setattr(TrainerState, "load_from_json", older)
    trainer = from_checkpoint(grpo, checkpoint, tmp_path)
    with pytest.warns(
        UserWarning,
        match=r"step 2, 4 samples: the resumed run differs from the values logged before: base/accuracy was ",
    ):
        trainer.train(resume_from_checkpoint=str(checkpoint))
    assert "the checkpoint has no record of its weights" in caplog.text


def test_recorded_weights() -> None:
    layer, state = torch.nn.Linear(70, 80), TrainerState(global_step=7)
    assert not check_weights(state, layer)  # nothing was noted
    record_weights(state, layer)
    assert check_weights(state, layer)
    assert check_weights(state, layer.bfloat16().float())  # rounded, as a model may be saved
    layer.weight.requires_grad = False  # what is frozen comes with the model
    with pytest.raises(ValueError, match=r"got different ones in 1 of 2 trained tensors \(the first is 'weight'\)"):
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
def test_moved(now: dict[str, float], samples: int, expected: list[str]) -> None:
    assert moved({"a/accuracy": 0.5, "a/thought_length": 30.0}, now, samples) == expected
