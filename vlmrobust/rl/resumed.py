"""Whether a resumed run goes on with the weights that it stopped with: a Trainer may restore none, and say nothing."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["check_weights", "moved", "note_weights"]

_NOTE = "vlmrobust_weights"  # among what callbacks keep in `trainer_state.json`, which goes with a checkpoint
_VALUES = 4096  # of each parameter are looked at


def note_weights(state: Any, model: Any) -> None:
    """Put into a trainer's state what the trained weights are, so that a checkpoint that is saved now has it.

    Args:
        state: the trainer's `TrainerState`.
        model: the model that is trained.
    """
    state.stateful_callbacks[_NOTE] = {"args": {}, "attributes": {"step": state.global_step, "weights": _marks(model)}}


def check_weights(state: Any, model: Any) -> bool:
    """Refuse a resumed run whose weights are not those that its checkpoint was saved with.

    Returns whether that could be seen: not where the checkpoint has no note of them.

    Args:
        state: the trainer's `TrainerState`, as it came from the checkpoint.
        model: the model that is trained on.

    Raises:
        ValueError: some are others; the message says how many, and how to resume.
    """
    note = state.stateful_callbacks.get(_NOTE)
    noted = note["attributes"] if note else {}
    if noted.get("step") != state.global_step:
        return False
    saved, now = noted["weights"], _marks(model)
    others = [name for name, mark in saved.items() if now.get(name) != mark]
    if others:
        raise ValueError(
            f"RobustnessCallback, resumed at step {state.global_step}: expected the weights that the checkpoint was "
            f"saved with, got others in {len(others)} of {len(saved)} trained tensors (the first is {others[0]!r}): "
            "the trainer has not restored them, and would train on from where the run began. (transformers 5.24 "
            "restores none of a Qwen2.5-VL.) Load the model from the checkpoint, "
            "`from_pretrained('.../checkpoint-N')`, give it to the trainer, and resume then"
        )
    return True


def moved(before: Mapping[str, float], now: Mapping[str, float], samples: int) -> list[str]:
    """Return which values a resumed run does not find as they were logged at its step: `<name> was …, is …`.

    The same weights give the same values but for what rounding does: a few answers of the samples may change.

    Args:
        before: values by `<condition>/<metric>`, as logged.
        now: the values of the resumed run.
        samples: how many samples they are of.
    """
    messages = []
    for name, value in before.items():
        allowed = max(0.02, 2 / samples, 0.05 * abs(value))
        if name in now and abs(now[name] - value) > allowed:
            messages.append(f"{name} was {value:.3f}, is {now[name]:.3f}")
    return messages


def _marks(model: Any) -> dict[str, str]:
    """Return a short digest of each trained parameter: of some of its values, whatever they are stored as."""
    marks = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            values = parameter.detach().flatten()
            some = values[:: max(1, values.numel() // _VALUES)].to("cpu", torch.bfloat16).view(torch.int16)
            marks[name] = hashlib.sha256(some.numpy().tobytes()).hexdigest()[:8]
    return marks
