"""A quantised tensor that only linear layers can use, as those of torchao and Quanto."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["quantise"]


class Quantised(Tensor):
    """Whole numbers with a scale per row."""

    numbers: Tensor
    scales: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor, scales: Tensor) -> "Quantised":
        made: Quantised = Tensor._make_wrapper_subclass(cls, numbers.shape, dtype=scales.dtype)  # type: ignore[attr-defined]
        made.numbers, made.scales = numbers, scales
        return made

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["numbers", "scales"], None

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is nn.functional.linear:
            weight = args[1].numbers * args[1].scales
            return function(args[0], weight, *args[2:])
        return super().__torch_function__(function, types, args, kwargs or {})  # type: ignore[misc]

    @classmethod
    def __torch_dispatch__(
        cls,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is torch.ops.aten.detach.default:
            return cls(args[0].numbers, args[0].scales)
        raise NotImplementedError(f"{cls.__name__} has no {function}")


def quantise(layer: nn.Linear) -> None:
    """Quantise a layer's weight."""
    whole = layer.weight.detach()
    scales = whole.abs().amax(1, keepdim=True) / 127
    layer.weight = nn.Parameter(Quantised((whole / scales).round().to(torch.int8), scales), requires_grad=False)
