"""Resolve and check names that users give: objects to import, dtypes and devices; suggest similar names."""

import importlib
import importlib.util
import sys
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

__all__ = ["check_device", "check_dtype", "did_you_mean", "imported", "made_at", "unknown_name"]

_ALIASES = {
    "bfloat16": ("bf16", "bfloat", "brain16"),
    "float16": ("fp16", "f16", "16", "half"),
    "float32": ("fp32", "f32", "32", "full", "single", "float"),
    "float64": ("fp64", "f64", "64", "double"),
}


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Return a suggestion of the most similar known name, ignoring case; None = none is similar.

    Example:
        >>> did_you_mean("CVBench", ["blink", "cv-bench"])
        "did you mean 'cv-bench'?"
        >>> did_you_mean("pope", ["blink", "cv-bench"])
    """
    as_written = {each.lower(): each for each in known}
    nearest = get_close_matches(name.lower(), as_written, n=1)
    return f"did you mean {as_written[nearest[0]]!r}?" if nearest else None


def unknown_name(name: str, known: Collection[str]) -> str:
    """Return the end of a message about an unknown name: the name, the most similar known one, if any, and all of them.

    Example:
        >>> unknown_name("red", ["Red", "blue"])
        "got 'red'; did you mean 'Red'? Known are Red, blue"
        >>> unknown_name("x", ["Red", "blue"])
        "got 'x'; known are Red, blue"
    """
    nearest = did_you_mean(name, known)
    begun = f"{nearest} Known" if nearest else "known"
    return f"got {name!r}; {begun} are {', '.join(known)}"


def imported(name: str, kind: str, where: str) -> Any:
    """Return the object named `module:name` or `file.py:name`; its module is imported, which runs its code.

    Args:
        name: the object's name.
        kind: the expected kind of object, for messages.
        where: start of messages.

    Raises:
        ValueError: the name has another form, or the file, the module or the name in it does not exist.

    Example:
        >>> imported("vlmrobust.text:readable", "function", where="example")("wrong_think")
        'wrong think'
    """
    place, _, wanted = name.rpartition(":")
    if not place or not wanted:
        raise ValueError(f"{where}: expected module:{kind} or file.py:{kind}, got {name!r}")
    module = _file_module(Path(place), where) if place.endswith(".py") else _module(place, where)
    found = getattr(module, wanted, None)
    if found is None:
        raise ValueError(f"{where}: expected a {kind.lower()} {wanted!r} in {place}, found none")
    return found


def made_at(name: str, kinds: tuple[type, ...], what: str) -> Any:
    """Return the object named `module:Class` or `file.py:Class`; a class is instantiated without arguments.

    Args:
        name: the object's name.
        kinds: the allowed classes.
        what: name of such an object in messages.

    Raises:
        ValueError: the file, module or name does not exist, the object is of another kind, or its class needs
            arguments.

    Example:
        >>> from fractions import Fraction
        >>> made_at("fractions:Fraction", (Fraction,), "number")
        Fraction(0, 1)
    """
    where = f"{what} {name!r}"
    found = imported(name, "Class", where=where)
    if isinstance(found, type) and issubclass(found, kinds):
        try:
            found = found()
        except (TypeError, ValueError) as error:  # an abstract one, or one that has to be set
            raise ValueError(
                f"{where}: expected a class that needs no settings, or a {what} that is made there: {error}"
            ) from error
    if not isinstance(found, kinds):
        raise ValueError(
            f"{where}: expected a {' or a '.join(kind.__name__ for kind in kinds)} there, got {found!r:.100}"
        )
    return found


def _module(name: str, where: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # what it imports itself is missing
        raise ValueError(f"{where}: expected a module {name!r} that can be imported: {error}") from None


def _file_module(path: Path, where: str) -> Any:
    name = str(path)  # no other module is called like it
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ValueError(f"{where}: expected a Python file, found none at {name!r}")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


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
