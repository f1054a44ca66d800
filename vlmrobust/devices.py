"""Validate dtypes and devices before any weights are loaded."""

from typing import Any

__all__ = ["check_device", "check_dtype"]


_ALIASES = {
    "bfloat16": ("bf16", "bfloat", "brain16"),
    "float16": ("fp16", "f16", "16", "half"),
    "float32": ("fp32", "f32", "32", "full", "single", "float"),
    "float64": ("fp64", "f64", "64", "double"),
}


def check_dtype(dtype: Any, where: str = "field 'dtype'") -> None:
    """Refuse a dtype that torch does not have, or that is not a floating-point type.

    Args:
        dtype: a torch dtype or its name; "auto" = the checkpoint's own.
        where: the setting's origin, for the message; empty = none.

    Raises:
        ValueError: it is invalid; the message suggests the intended one, if known.

    Example:
        >>> try:
        ...     check_dtype("bf16")
        ... except ValueError as error:
        ...     print(str(error).partition("; ")[2])
        did you mean 'bfloat16'?
    """
    import torch

    if dtype == "auto":
        return
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if isinstance(found, torch.dtype) and found.is_floating_point:
        return
    plain = str(dtype).lower().removeprefix("torch.").replace("-", "").replace("_", "")
    meant = next((name for name, others in _ALIASES.items() if plain in (name, *others)), None)
    hint = f"; did you mean {meant!r}?" if meant else ""
    prefix = f"{where}: " if where else ""
    raise ValueError(
        f"{prefix}expected auto, bfloat16, float16, float32 or another of torch's floating-point dtypes, "
        f"got {dtype!r}{hint}"
    )


def check_device(device: Any, where: str = "field 'device'") -> None:
    """Refuse a device that this machine does not have.

    Args:
        device: a torch device or its name; None = chosen later.
        where: the setting's origin, for the message.

    Raises:
        ValueError: the name is invalid, or there is no such device; the message says which ones there are.

    Example:
        >>> check_device("graphics card")
        Traceback (most recent call last):
        ValueError: field 'device': expected cpu, cuda, cuda:1 or another of torch's devices, got 'graphics card'
    """
    import torch

    if device is None:
        return
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"{where}: expected cpu, cuda, cuda:1 or another of torch's devices, got {device!r}") from None
    if found.type in ("cpu", "meta"):
        return
    count = _count(found.type)
    if (found.index or 0) >= count:
        available = f"{count} of this kind, the last one {found.type}:{count - 1}" if count else "none of this kind"
        raise ValueError(f"{where}: expected a device of this machine, got {str(device)!r}; torch finds {available}")


def _count(kind: str) -> int:
    """Return the number of devices of a kind that torch can use."""
    import torch

    if kind == "mps":
        return int(torch.backends.mps.is_available())
    module = getattr(torch, kind, None)
    if module is None or not getattr(module, "is_available", lambda: False)():
        return 0
    return int(module.device_count())
