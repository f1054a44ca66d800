"""Evaluate a model in training: with its trainer's settings, at a limited cost, and without changing it.

A resumed run is checked: its weights, and the values that it had before.
"""

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from time import perf_counter
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from ..prompting import check_template_arguments

__all__ = [
    "Budget",
    "Precision",
    "TrainerSettings",
    "autocast_of",
    "check_not_sharded",
    "check_weights",
    "moved",
    "record_weights",
    "trainer_settings",
    "undisturbed",
]

Precision = Literal["float32", "bfloat16", "float16"]

_TOKEN_LIMITS = ("max_completion_length", "max_new_tokens")
# Settings that limit or stop generation, by the names of `generate` and of vLLM.
_STOP_SETTINGS = {
    **{name: name for name in ("max_new_tokens", "min_new_tokens", "eos_token_id", "stop_strings")},
    **{"max_tokens": "max_new_tokens", "min_tokens": "min_new_tokens", "stop": "stop_strings"},
}
_AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_MISSING = object()
_STATE_KEY = "vlmrobust_weights"  # among the callbacks' states in a checkpoint's `trainer_state.json`
_DIGEST_VALUES = 4096  # sampled from each parameter


class TrainerSettings(NamedTuple):
    """Settings that an evaluation inherits from a trainer.

    Attributes:
        generation: options for `generate`: the token limit and stopping criteria, but not how rollouts are sampled, as
            evaluations decode greedily.
        template: arguments for the chat template.
        autocast: data type of the trainer's autocast; None = that of the weights.
    """

    generation: dict[str, Any]
    template: dict[str, Any]
    autocast: torch.dtype | None


def trainer_settings(args: Any, model: Any, processor: Any) -> TrainerSettings:
    """Return the settings that an evaluation inherits from a trainer, so that it measures what is trained.

    Args:
        args: the trainer's arguments, with TRL's names.
        model: the model in training.
        processor: the trainer's `processing_class`.

    Example:
        >>> from types import SimpleNamespace
        >>> from vlmrobust import demo
        >>> args = SimpleNamespace(max_completion_length=64, chat_template_kwargs={"enable_thinking": False}, bf16=True)
        >>> bundled = demo.model()
        >>> trainer_settings(args, bundled.model, bundled.processor)  # the bundled template has no such argument
        TrainerSettings(generation={'max_new_tokens': 64}, template={}, autocast=torch.bfloat16)
    """
    generation: dict[str, Any] = {}
    limit = next((value for name in _TOKEN_LIMITS if (value := getattr(args, name, None)) is not None), None)
    if limit is not None:
        generation["max_new_tokens"] = int(limit)
    model_ends = _token_set(getattr(getattr(model, "generation_config", None), "eos_token_id", None))
    tokenizer_ends = _token_set(getattr(getattr(processor, "tokenizer", processor), "eos_token_id", None))
    if model_ends and not tokenizer_ends <= model_ends:  # TRL ends a rollout at either
        generation["eos_token_id"] = sorted(model_ends | tokenizer_ends)
    options = getattr(args, "generation_kwargs", None)
    for name, value in (options if isinstance(options, Mapping) else {}).items():
        if name in _STOP_SETTINGS and value is not None:
            generation[_STOP_SETTINGS[name]] = value
    arguments = getattr(args, "chat_template_kwargs", None)
    arguments = arguments if isinstance(arguments, Mapping) else {}
    template = {name: value for name, value in arguments.items() if _reads_argument(name, processor)}
    return TrainerSettings(generation, template, autocast_of(args))


def autocast_of(args: Any) -> torch.dtype | None:
    """Return the data type of a trainer's autocast; None = that of the weights, as with DeepSpeed."""
    if getattr(args, "deepspeed_plugin", None) is not None:
        return None
    stated = getattr(args, "mixed_precision", None)  # includes the launcher's setting
    name = stated or next((name for name in _AUTOCAST_DTYPES if getattr(args, name, False)), None)
    return _AUTOCAST_DTYPES.get(str(name))


def _reads_argument(name: str, processor: Any) -> bool:
    """Return whether the chat template uses an argument; others have no effect in the trainer either."""
    try:
        check_template_arguments(processor, {name: None})
    except ValueError:
        return False
    return True


def _token_set(value: Any) -> set[int]:
    return set() if value is None else {value} if isinstance(value, int) else set(value)


@contextmanager
def undisturbed(model: Any, autocast: torch.dtype | None = None) -> Iterator[None]:
    """Evaluate a model in training, then restore its state.

    Inside, the model is in eval mode, without gradient checkpointing and with the cache enabled. Afterwards every
    module's mode, gradient checkpointing, `use_cache`, the position offsets cached by Qwen's models, and the random
    states of Python, NumPy, torch and CUDA are restored.

    A trainer applies autocast inside the model's forward pass, which the layers of a PEFT model bypass. Here it wraps
    everything, so that all models compute alike and code that reads logits knows how they were rounded.

    Args:
        model: a Hugging Face model on any device.
        autocast: data type of autocast, regardless of the trainer's; None = that of the weights.

    Example:
        >>> layer = torch.nn.Linear(2, 2)
        >>> with undisturbed(layer):
        ...     layer.training, float(torch.rand(1)) >= 0
        (False, True)
        >>> layer.training
        True
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - others draw from the global generator
    previous: list[tuple[Any, str, Any]] = []

    def set_temporarily(owner: Any, name: str, value: Any) -> None:
        previous.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    for module in model.modules():
        set_temporarily(module, "training", False)
        if getattr(module, "gradient_checkpointing", False):
            set_temporarily(module, "gradient_checkpointing", False)
        if getattr(module, "rope_deltas", _MISSING) is not _MISSING:
            set_temporarily(module, "rope_deltas", None)
        if "_original_forward" in vars(module):  # accelerate wrapped the forward pass in its autocast
            set_temporarily(module, "forward", module._original_forward)
    config: Any = getattr(model, "config", None)
    text_config = config.get_text_config() if hasattr(config, "get_text_config") else None
    for found in (config, text_config):  # often the same object; restored in reverse order
        if hasattr(found, "use_cache"):
            set_temporarily(found, "use_cache", True)
    device = next(model.parameters()).device.type
    try:
        with torch.random.fork_rng(), nullcontext() if autocast is None else torch.autocast(device, autocast):
            yield
    finally:
        torch.clear_autocast_cache()  # cached weights have no gradients
        for owner, name, value in reversed(previous):
            setattr(owner, name, value)
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


class Budget:
    """Measures the time of training and of evaluations, and decides which evaluations to skip.

    Args:
        share: maximum seconds of evaluation per second of training; None = unlimited.

    Attributes:
        spent: seconds of all evaluations so far.
        last: seconds of the last one.
        skipped: number of skipped evaluations.

    Example:
        >>> budget = Budget(0.1)
        >>> with budget.timed():
        ...     pass
        >>> budget.spent < 1.0, budget.skipped
        (True, 0)
    """

    def __init__(self, share: float | None) -> None:
        self.share = share
        self.spent = 0.0
        self.last = 0.0
        self.skipped = 0
        self._started = perf_counter()

    @property
    def training(self) -> float:
        """Seconds since the start, without evaluations."""
        return perf_counter() - self._started - self.spent

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the time spent inside as an evaluation."""
        start = perf_counter()
        yield
        self.last = perf_counter() - start
        self.spent += self.last

    def allows_another(self) -> bool:
        """Return whether another evaluation as long as the last fits the share, along with the final one."""
        return self.share is None or self.spent + 2 * self.last <= self.share * self.training


def check_not_sharded(model: Any, args: Any) -> None:
    """Refuse a model that is sharded over processes.

    Raises:
        ValueError: it is trained with FSDP or with DeepSpeed's ZeRO stage 3.
    """
    plugin = getattr(args, "deepspeed_plugin", None)
    zero = plugin is not None and plugin.zero_stage == 3
    zero = zero or any(hasattr(parameter, "ds_id") for parameter in model.parameters())
    fsdp = bool(getattr(args, "fsdp", None)) or any(type(part).__name__ == "DTensor" for part in model.parameters())
    fsdp = fsdp or any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules())
    if zero or fsdp:
        raise ValueError(
            "RobustnessCallback: expected an unsharded model (one process, or data parallel), got one sharded with "
            f"{'DeepSpeed ZeRO-3' if zero else 'FSDP'}; evaluate its checkpoints instead"
        )


def record_weights(state: Any, model: Any) -> None:
    """Record digests of the trained weights in a trainer's state, so that the next checkpoint includes them."""
    state.stateful_callbacks[_STATE_KEY] = {
        "args": {},
        "attributes": {"step": state.global_step, "weights": _digests(model)},
    }


def check_weights(state: Any, model: Any) -> bool:
    """Refuse a resumed run whose weights differ from those of its checkpoint.

    Returns whether the check was possible: not if the checkpoint has no record of its weights.

    Raises:
        ValueError: some tensors differ; the message says how many, and how to resume.
    """
    record = state.stateful_callbacks.get(_STATE_KEY)
    attributes = record["attributes"] if record else {}
    if attributes.get("step") != state.global_step:
        return False
    saved, now = attributes["weights"], _digests(model)
    changed = [name for name, digest in saved.items() if now.get(name) != digest]
    if changed:
        raise ValueError(
            f"RobustnessCallback, resumed at step {state.global_step}: expected the weights of the checkpoint, got "
            f"different ones in {len(changed)} of {len(saved)} trained tensors (the first is {changed[0]!r}): the "
            "trainer has not restored them, and would continue from the initial weights. (transformers 5.24 restores "
            "none of a Qwen2.5-VL.) Load the model from the checkpoint, `from_pretrained('.../checkpoint-N')`, pass it "
            "to the trainer, and resume then"
        )
    return True


def _digests(model: Any) -> dict[str, str]:
    """Return a short digest of each trained parameter, computed from a sample of its values in bfloat16."""
    digests = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            values = parameter.detach().flatten()
            sampled = values[:: max(1, values.numel() // _DIGEST_VALUES)].to("cpu", torch.bfloat16).view(torch.int16)
            digests[name] = hashlib.sha256(sampled.numpy().tobytes()).hexdigest()[:8]
    return digests


def moved(before: Mapping[str, float], now: Mapping[str, float], samples: int) -> list[str]:
    """Return messages `<name> was …, is …` for values of a resumed run that differ from those logged at its step.

    The same weights give the same values up to rounding, which may change a few answers.

    Args:
        before: logged values by `<condition>/<metric>`.
        now: values of the resumed run.
        samples: number of samples evaluated.
    """
    messages = []
    for name, value in before.items():
        allowed = max(0.02, 2 / samples, 0.05 * abs(value))
        if name in now and abs(now[name] - value) > allowed:
            messages.append(f"{name} was {value:.3f}, is {now[name]:.3f}")
    return messages
