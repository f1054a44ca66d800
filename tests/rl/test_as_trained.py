"""The callback asks as the trainer does, unless it is told otherwise: limit, ends, template arguments, precision."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import vlmrobust as vr
from vlmrobust.metrics import Accuracy
from vlmrobust.perturbations import StopThink
from vlmrobust.rl import RobustnessCallback
from vlmrobust.rl.as_trained import as_trained
from vlmrobust.rl.undisturbed import undisturbed

# TRL still sets options that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

SMALL = {"max_steps": 1, "per_device_train_batch_size": 4, "num_generations": 2, "max_completion_length": 11}


def first_report(trainer: Any, **settings: Any) -> vr.Report:
    callback = RobustnessCallback([StopThink()], vr.demo.samples(3), metrics=[Accuracy()], **settings)
    callback.attach(trainer)
    trainer.train()
    return vr.Report.load(Path(trainer.args.output_dir) / "robustness" / "step-0")


def lengths(report: vr.Report) -> set[int]:
    """Return how many tokens the answers under base have."""
    found = report.responses
    return {int(n) for n, condition in zip(found.n_tokens, found.condition, strict=True) if condition == "base"}


def test_the_trainers_limit(grpo: Callable[..., Any], tmp_path: Path) -> None:
    report = first_report(grpo(tmp_path / "its", **SMALL))
    assert lengths(report) == {11}  # the bundled model thinks for longer
    assert "truncated" in report.responses.status
    report = first_report(grpo(tmp_path / "told", **SMALL), generation={"max_new_tokens": 5})
    assert lengths(report) == {5}
    report = first_report(grpo(tmp_path / "own", generation_kwargs={"max_new_tokens": 7}, **SMALL))
    assert lengths(report) == {7}


def test_the_trainers_template_arguments(grpo: Callable[..., Any], tmp_path: Path) -> None:
    """A template that opens the turn as it is told: a thought, or an answer straight away."""
    given = {"chat_template_kwargs": {"opens": "<think>The shape", "unheard_of": 1}}
    trainer = grpo(tmp_path, **SMALL, **given)
    trainer.processing_class.chat_template += "{{ opens | default('') }}"
    assert first_report(trainer).manifest["model"]["template"] == {"opens": "<think>The shape"}
    trainer = grpo(tmp_path, **SMALL, **given)
    trainer.processing_class.chat_template += "{{ opens | default('') }}"
    report = first_report(trainer, template={"opens": "<think>I see"})
    assert report.manifest["model"]["template"] == {"opens": "<think>I see"}


def settings(**given: Any) -> Any:
    engine = vr.demo.model()
    engine.processor.tokenizer.eos_token = given.pop("eos", engine.processor.tokenizer.eos_token)
    return as_trained(SimpleNamespace(**given), engine.model, engine.processor)


def test_what_is_taken_from_settings() -> None:
    assert settings() == ({}, {}, None)
    assert settings(max_new_tokens=30).generation == {"max_new_tokens": 30}
    rollouts = {"temperature": 0.7, "repetition_penalty": 1.2, "stop": ["</answer>"], "max_tokens": 90, "top_p": None}
    found = settings(max_completion_length=64, generation_kwargs=rollouts)
    assert found.generation == {"max_new_tokens": 90, "stop_strings": ["</answer>"]}  # no sampling, no penalty
    ends = settings(eos="<|endoftext|>").generation["eos_token_id"]
    tokenizer = vr.demo.model().processor.tokenizer
    assert tokenizer.convert_ids_to_tokens(ends) == ["<|im_end|>", "<|endoftext|>"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"mixed_precision": "no", "bf16": False}, None),
        ({"mixed_precision": "bf16"}, torch.bfloat16),
        ({"bf16": True}, torch.bfloat16),
        ({"bf16": False, "fp16": True}, torch.float16),
        ({"mixed_precision": "fp8"}, None),
        ({"bf16": True, "deepspeed_plugin": SimpleNamespace(zero_stage=2)}, None),  # its weights are bf16 themselves
    ],
)
def test_autocast(given: dict[str, Any], expected: Any) -> None:
    assert settings(**given).autocast == expected


def letters(report: vr.Report) -> torch.Tensor:
    """Return the log-probabilities of the letters right after the forced end of the thought."""
    found = report.responses
    return found.option_logprobs[torch.tensor([condition == "stop_think" for condition in found.condition])]


def by_hand(condition: Any, autocast: bool, rounded: bool = False) -> torch.Tensor:
    """Read the letters off the last hidden state under autocast, its product with the head being in float32, or not."""
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
    found, half = letters(report), by_hand(StopThink(), autocast=True)
    others = (by_hand(StopThink(), autocast=False), by_hand(StopThink(), autocast=True, rounded=True))
    assert all((found - other).abs().max() > 0.01 for other in others)  # so that they can be told apart
    assert (found - half).abs().max() < 0.005


def test_a_precision_that_is_told(grpo: Callable[..., Any], tmp_path: Path) -> None:
    trainer = grpo(tmp_path, **SMALL, bf16=True)
    report = first_report(trainer, precision="float32")
    assert "autocast" not in report.manifest["model"]
    assert (letters(report) - by_hand(StopThink(), autocast=False)).abs().max() < 1e-4
    with torch.no_grad():  # and the trainer has its own back
        logits = trainer.model(input_ids=torch.tensor([[1, 2]])).logits
    assert torch.equal(logits, logits.bfloat16().float())


def test_precisions_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="field 'precision': expected one of float32, bfloat16, float16, or None, got"):
        RobustnessCallback([], vr.demo.samples(1), precision="bf16")  # type: ignore[arg-type]
    engine = vr.demo.model()
    callback = RobustnessCallback([], vr.demo.samples(1), precision="float32")
    with pytest.raises(ValueError, match=r"'precision': expected no more than the weights have, torch\.bfloat16, got"):
        callback._autocast_for(engine.model.bfloat16(), SimpleNamespace())  # type: ignore[arg-type]


def test_letters_of_a_model_that_brings_its_autocast_along() -> None:
    """accelerate leaves its autocast inside the forward pass, where whoever evaluates the model does not see it."""
    from accelerate import Accelerator

    engine = vr.demo.model()
    prepared = Accelerator(mixed_precision="bf16", cpu=True).prepare_model(engine.model, evaluation_mode=True)
    try:
        report = vr.Evaluator(vr.HFModel(prepared, engine.processor), [StopThink()]).run(vr.demo.samples(3))
    finally:
        Accelerator._shared_state = {}
    assert (letters(report) - by_hand(StopThink(), autocast=True)).abs().max() < 0.005
    with undisturbed(prepared):
        report = vr.Evaluator(vr.HFModel(prepared, engine.processor), [StopThink()]).run(vr.demo.samples(3))
    assert (letters(report) - by_hand(StopThink(), autocast=False)).abs().max() < 1e-4
