"""Borrow the model of a running training: ask it as its trainer does, leave no trace, recognise it when resumed."""

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from ..prompting import check_template_arguments

__all__ = [
    "AsTrained",
    "Precision",
    "as_trained",
    "autocast_of",
    "check_not_sharded",
    "check_weights",
    "note_weights",
    "undisturbed",
]

Precision = Literal["float32", "bfloat16", "float16"]

_LIMITS = ("max_completion_length", "max_new_tokens")
# Generation settings about where a text ends, by the names of `generate` and of vLLM.
_ENDS = {
    **{name: name for name in ("max_new_tokens", "min_new_tokens", "eos_token_id", "stop_strings")},
    **{"max_tokens": "max_new_tokens", "min_tokens": "min_new_tokens", "stop": "stop_strings"},
}
_KINDS = {"bf16": torch.bfloat16, "fp16": torch.float16}
_MISSING = object()
_NOTE = "vlmrobust_weights"  # among what callbacks keep in `trainer_state.json`, which goes with a checkpoint
_VALUES = 4096  # of each parameter are looked at


class AsTrained(NamedTuple):
    """What an evaluation takes over from a trainer's settings.

    Attributes:
        generation: options for `generate`: the token limit, and what else ends a text. How rollouts are sampled is not
            among them: an evaluation is greedy.
        template: arguments for the chat template.
        autocast: the data type of the trainer's autocast; None = that of the weights.
    """

    generation: dict[str, Any]
    template: dict[str, Any]
    autocast: torch.dtype | None


def as_trained(args: Any, model: Any, processor: Any) -> AsTrained:
    """Return what an evaluation takes over from a trainer, so that it measures what is trained.

    Args:
        args: the trainer's arguments; TRL's names are read, and those of others that are the same.
        model: the model that is trained.
        processor: the trainer's `processing_class`.

    Example:
        >>> from types import SimpleNamespace
        >>> from vlmrobust import demo
        >>> args = SimpleNamespace(max_completion_length=64, chat_template_kwargs={"enable_thinking": False}, bf16=True)
        >>> engine = demo.model()
        >>> as_trained(args, engine.model, engine.processor)  # the bundled template has no such argument
        AsTrained(generation={'max_new_tokens': 64}, template={}, autocast=torch.bfloat16)
    """
    generation: dict[str, Any] = {}
    limit = next((value for name in _LIMITS if (value := getattr(args, name, None)) is not None), None)
    if limit is not None:
        generation["max_new_tokens"] = int(limit)
    own = getattr(model, "generation_config", None)
    known = _tokens(getattr(own, "eos_token_id", None))
    ends = _tokens(getattr(getattr(processor, "tokenizer", processor), "eos_token_id", None))
    if known and not ends <= known:  # TRL ends a rollout at either
        generation["eos_token_id"] = sorted(known | ends)
    given = getattr(args, "generation_kwargs", None)
    for name, value in (given if isinstance(given, Mapping) else {}).items():
        if name in _ENDS and value is not None:
            generation[_ENDS[name]] = value
    given = getattr(args, "chat_template_kwargs", None)
    template = dict(given) if isinstance(given, Mapping) else {}
    known_here = {name: value for name, value in template.items() if _reads_argument(name, processor)}
    return AsTrained(generation, known_here, autocast_of(args))


def autocast_of(args: Any) -> torch.dtype | None:
    """Return the data type of a trainer's autocast; None = that of the weights, as with DeepSpeed.

    Args:
        args: the trainer's arguments.
    """
    if getattr(args, "deepspeed_plugin", None) is not None:
        return None
    stated = getattr(args, "mixed_precision", None)  # the launcher's word included
    kind = stated or next((name for name in _KINDS if getattr(args, name, False)), None)
    return _KINDS.get(str(kind))


def _reads_argument(name: str, processor: Any) -> bool:
    """Return whether the chat template reads an argument; others make no difference to the trainer either."""
    try:
        check_template_arguments(processor, {name: None})
    except ValueError:
        return False
    return True


def _tokens(value: Any) -> set[int]:
    return set() if value is None else {value} if isinstance(value, int) else set(value)


@contextmanager
def undisturbed(model: Any, autocast: torch.dtype | None = None) -> Iterator[None]:
    """Answer with a model in training, and leave no trace.

    Inside, the model is in eval mode, without gradient checkpointing and with the cache in use. Afterwards every
    module's mode, gradient checkpointing, `use_cache`, what Qwen's models keep of the last prompt's positions, and the
    random states of Python, NumPy, torch and CUDA are what they were.

    A trainer hides its autocast inside the model's forward pass, where the layers of a PEFT model have none. Here it is
    around everything, so that all models compute alike, and readers of logits know how they were rounded.

    Args:
        model: a Hugging Face model on any device.
        autocast: the data type of autocast, whatever the trainer does; None = that of the weights.

    Example:
        >>> layer = torch.nn.Linear(2, 2)
        >>> with undisturbed(layer):
        ...     layer.training, float(torch.rand(1)) >= 0
        (False, True)
        >>> layer.training
        True
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global one is what others draw from
    kept: list[tuple[Any, str, Any]] = []

    def put(owner: Any, name: str, value: Any) -> None:
        kept.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    for module in model.modules():
        put(module, "training", False)
        if getattr(module, "gradient_checkpointing", False):
            put(module, "gradient_checkpointing", False)
        if getattr(module, "rope_deltas", _MISSING) is not _MISSING:
            put(module, "rope_deltas", None)
        if "_original_forward" in vars(module):  # where accelerate keeps what it put its autocast around
            put(module, "forward", module._original_forward)
    for config in _configs(model):
        put(config, "use_cache", True)
    device = next(model.parameters()).device.type
    try:
        with torch.random.fork_rng(), nullcontext() if autocast is None else torch.autocast(device, autocast):
            yield
    finally:
        torch.clear_autocast_cache()  # what is cached was made without gradients
        for owner, name, value in kept:
            setattr(owner, name, value)
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def _configs(model: Any) -> list[Any]:
    config = getattr(model, "config", None)
    if config is None:
        return []
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    unique = {id(found): found for found in (config, text)}.values()
    return [found for found in unique if hasattr(found, "use_cache")]


def check_not_sharded(model: Any, args: Any) -> None:
    """Refuse a model of which each process holds only a part.

    Args:
        model: the model that is trained.
        args: the trainer's `TrainingArguments`.

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
            "RobustnessCallback: expected a model that every process holds as a whole (one process, or data parallel), "
            f"got one that is sharded with {'DeepSpeed ZeRO-3' if zero else 'FSDP'}; evaluate its checkpoints instead"
        )


def note_weights(state: Any, model: Any) -> None:
    """Note digests of the trained weights in a trainer's state, so that a checkpoint that is saved now has them.

    Args:
        state: the trainer's `TrainerState`.
        model: the model that is trained.
    """
    state.stateful_callbacks[_NOTE] = {
        "args": {},
        "attributes": {"step": state.global_step, "weights": _digests(model)},
    }


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
    saved, now = noted["weights"], _digests(model)
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


def _digests(model: Any) -> dict[str, str]:
    """Return a short digest of each trained parameter: of some of its values, whatever their data type."""
    marks = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            values = parameter.detach().flatten()
            some = values[:: max(1, values.numel() // _VALUES)].to("cpu", torch.bfloat16).view(torch.int16)
            marks[name] = hashlib.sha256(some.numpy().tobytes()).hexdigest()[:8]
    return marks
