"""Find weights that accelerate keeps on the CPU or on disk (`device_map`), and loads for each pass of their layer.

Outside such a pass, the layer's parameters are on the "meta" device, without values.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["device_of", "value_of"]


def device_of(model: Any) -> torch.device:
    """Return the device on which a model takes its inputs: where its first layers run, whatever holds their weights."""
    device: torch.device = model.device
    if device.type != "meta":
        return device
    runs_on = (getattr(hook, "execution_device", None) for module in model.modules() for hook in _hooks(module))
    found = next((place for place in runs_on if place is not None), device)
    return torch.device(found)


def value_of(module: nn.Module, name: str) -> Tensor:
    """Return a parameter or buffer of a module, by its dotted name; if it is offloaded, from where it is kept."""
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    tensor: Tensor = getattr(owner, leaf)
    if tensor.device.type != "meta":
        return tensor
    kept = (getattr(hook, "weights_map", None) for hook in _hooks(owner))
    return next((weights[leaf] for weights in kept if weights is not None), tensor)


def _hooks(module: nn.Module) -> Iterator[Any]:
    left = [getattr(module, "_hf_hook", None)]
    while left:
        hook = left.pop(0)
        left += getattr(hook, "hooks", ())
        if hook is not None:
            yield hook
