"""A model borrowed from its training: put into the state for answering, and given back as it was."""

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

__all__ = ["check_not_sharded", "undisturbed"]

_MISSING = object()


@contextmanager
def undisturbed(model: Any, autocast: torch.dtype | None = None) -> Iterator[None]:
    """Answer with a model in training, and leave no trace.

    Inside, the model is in eval mode, without gradient checkpointing and with the cache in use. Afterwards every
    module's mode, gradient checkpointing, `use_cache`, what Qwen's models keep of the last prompt's positions, and the
    random states of Python, NumPy, torch and CUDA are what they were.

    A trainer hides its autocast inside the model's forward pass, and that of a PEFT model has none in its layers'. Here
    it is around the whole, so that all models compute alike, and whoever reads logits knows how they were rounded.

    Args:
        model: a Hugging Face model on any device.
        autocast: what is computed in by autocast, whatever the trainer does; None = in what the weights are.

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
    """Refuse a model of which each process holds a part only.

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
