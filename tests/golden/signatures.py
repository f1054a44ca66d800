"""The public names as text, one line per function, parameter, field and property; and where each is imported from."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, ForwardRef, Literal, Union, get_args, get_origin

import typer.main
from pydantic import BaseModel

import vlmrobust
from vlmrobust.cli import app
from vlmrobust.former_paths import FORMER

FIRST_NAMES = {
    path: names.split()
    for path, _, names in (
        line.partition(":") for line in (Path(__file__).parent / "names.txt").read_text(encoding="utf-8").splitlines()
    )
}
"""The public names that each module of 0.1.0 defined or exported."""

PACKAGES = (
    "data",
    "demo",
    "functional",
    "harnesses",
    "judges",
    "metrics",
    "models",
    "models.server",
    "models.vllm",
    "perturbations",
    "plots",
    "prompting",
    "report",
    "rl",
    "study",
    "styles",
    "testing",
    "types",
    "workers",
)
# Modules that are named in the settings of trainers and harnesses, or that the reference shows by their own path.
NAMED = (
    "harnesses.inspect_task",
    "harnesses.lmms_model",
    "perturbations.statements",
    "rl.alarms",
    "rl.areal",
    "rl.configured",
    "rl.easyr1",
    "rl.guards",
    "rl.openrlhf",
    "rl.skyrl",
    "rl.verl",
    "study.entries",
)
_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "positional",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional",
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.KEYWORD_ONLY: "keyword",
    inspect.Parameter.VAR_KEYWORD: "**",
}


def public_names() -> Iterator[tuple[str, Any]]:
    """Yield every public name with its object, the shortest path of an object first."""
    for name in vlmrobust.__all__:
        yield f"vlmrobust.{name}", getattr(vlmrobust, name)
    for package in (*PACKAGES, *NAMED):
        module = importlib.import_module(f"vlmrobust.{package}")
        # A module of an earlier version has its names alone, wherever they are now.
        for name in FIRST_NAMES[module.__name__] if package in FORMER else module.__all__:
            yield f"{module.__name__}.{name}", getattr(module, name)


def signature_lines() -> list[str]:
    """Return the lines of `signatures.txt`."""
    lines, first = [], dict[int, str]()
    public = [value for _, value in public_names() if inspect.isclass(value)]
    for path, value in public_names():
        if id(value) in first and not _is_plain(value):
            lines.append(f"{path}  is {first[id(value)]}")
            continue
        first.setdefault(id(value), path)
        if inspect.isclass(value):
            lines.append(f"{path}  class ({', '.join(_bases(value, public))})")
        lines += _lines_of(path, value)
    return [*lines, *_command_lines()]


def import_paths() -> list[str]:
    """Return the lines of `import_paths.txt`: module and name of what a pickle or a file of settings may name."""
    found = {
        f"{value.__module__}:{value.__qualname__}"
        for _, value in public_names()
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__.startswith("vlmrobust")
    }
    for module in pkgutil.walk_packages(vlmrobust.__path__, "vlmrobust."):
        for name, value in vars(importlib.import_module(module.name)).items():
            is_own = getattr(value, "__module__", None) == module.name and not name.startswith("_")
            if inspect.isclass(value) and is_own and issubclass(value, BaseModel | BaseException):
                found.add(f"{module.name}:{name}")
    # What runs on disk name by its function: the library's own wordings.
    wordings = importlib.import_module("vlmrobust.perturbations.wordings")
    found |= {f"{wordings.__name__}:{name}" for name in wordings.__all__ if inspect.isfunction(getattr(wordings, name))}
    return sorted(found)


def _lines_of(path: str, value: Any) -> Iterator[str]:
    if inspect.ismodule(value):
        yield f"{path}  module"
    elif inspect.isclass(value):
        yield from _class_lines(path, value)
    elif inspect.isroutine(value):
        yield from _callable_lines(path, value)
    elif get_origin(value) is Literal:
        yield from (f"{path}  one of: {choice!r}" for choice in get_args(value))
    elif isinstance(value, Mapping):
        yield from (f"{path}  has: {key}" for key in value)
    else:
        yield f"{path}  {shown(value)}"


def _bases(cls: type, public: Collection[type]) -> list[str]:
    """Return what an instance is an instance of, as far as users know the class: `except ValueError` is one reason."""
    known = [base for base in cls.__mro__[1:-1] if base.__module__ == "builtins" or base in public]
    return [base.__name__ for base in known if base not in (BaseException, Exception)]


def _class_lines(path: str, cls: type) -> Iterator[str]:
    if issubclass(cls, BaseModel):
        for name, field in cls.model_fields.items():
            if field.default_factory is not None:
                default = " = …"
            else:
                default = ", required" if field.is_required() else f" = {shown(field.default)}"
            yield f"{path}.{name}  field: {written(field.annotation)}{default}"
    elif not issubclass(cls, BaseException):
        yield from _parameter_lines(path, cls)
    of_fields = cls.model_fields if issubclass(cls, BaseModel) else getattr(cls, "__dataclass_fields__", {})
    for name, value in sorted(_members(cls).items()):
        if name in of_fields:
            continue
        yield from _member_lines(f"{path}.{name}", value)


def _members(cls: type) -> dict[str, Any]:
    """Return the public members that the library itself defines, of the nearest class that does."""
    found: dict[str, Any] = {}
    for owner in cls.__mro__:
        if owner.__module__.split(".")[0] == "vlmrobust":
            public = {name: value for name, value in vars(owner).items() if not name.startswith("_")}
            found = {**public, **found}
    return {name: value for name, value in found.items() if not name.startswith("model_")}


def _member_lines(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, classmethod | staticmethod):
        kind = type(value).__name__
        yield f"{path}  {kind}"
        yield from _callable_lines(path, value.__func__)
    elif hasattr(value, "fget") or hasattr(value, "func"):  # a property, or a cached one
        getter = value.fget if hasattr(value, "fget") else value.func
        yield f"{path}  property: {written(getter.__annotations__.get('return', ''))}"
    elif inspect.isroutine(value):
        yield from _callable_lines(path, value)
    elif not hasattr(type(value), "__get__"):
        yield f"{path}  attribute = {shown(value)}"


def _callable_lines(path: str, value: Any) -> Iterator[str]:
    returned = inspect.signature(value).return_annotation
    yield f"{path}()  -> {'' if returned is inspect.Signature.empty else written(returned)}"
    yield from _parameter_lines(path, value)


def _parameter_lines(path: str, value: Any) -> Iterator[str]:
    try:
        parameters = inspect.signature(value).parameters.values()
    except ValueError:  # a class that takes what its base in C takes
        return
    position = 0
    for parameter in parameters:
        if parameter.name in ("self", "cls"):
            continue
        kind = _KINDS[parameter.kind]
        if kind == "positional":
            position += 1
            kind = f"positional {position}"
        annotation = "" if parameter.annotation is parameter.empty else f": {written(parameter.annotation)}"
        needed = ", required" if kind[0] in "pk" else ""
        default = needed if parameter.default is parameter.empty else f" = {shown(parameter.default)}"
        yield f"{path}({parameter.name})  {kind}{annotation}{default}"


def _command_lines() -> Iterator[str]:
    group: Any = typer.main.get_command(app)
    for command in group.commands.values():
        for parameter in command.params:
            names = "/".join((*parameter.opts, *parameter.secondary_opts))
            needed = ", required" if parameter.required else ""
            yield f"$ vlmrobust {command.name} {names}  {parameter.param_type_name}{needed}"


def written(annotation: Any) -> str:
    """Return an annotation as text without the modules of its names, which may move."""
    if isinstance(annotation, str):
        return re.sub(r"\b(?:\w+\.)+(?=\w)", "", annotation).replace('"', "").replace("'", "")
    if isinstance(annotation, ForwardRef):
        return written(annotation.__forward_arg__)
    if annotation in (None, NoneType):
        return "None"
    if isinstance(annotation, list | tuple):  # of a callable
        return f"[{', '.join(map(written, annotation))}]"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return written(arguments[0])
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if origin in (Union, UnionType):
        return " | ".join(map(written, arguments))
    if annotation is Ellipsis:
        return "..."
    name = getattr(origin or annotation, "__name__", None) or str(annotation).rpartition(".")[2]
    return f"{name}[{', '.join(map(written, arguments))}]" if arguments else name


def shown(value: Any) -> str:
    """Return a value as text without addresses and modules."""
    if isinstance(value, BaseModel):
        return f"{type(value).__name__}(…)"
    if inspect.isclass(value) or inspect.isroutine(value):
        return value.__name__
    text = repr(value)
    if " at 0x" in text or len(text) > 160:
        return f"{type(value).__name__}(…)"
    return text


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | tuple | frozenset)


def broken_by(added: Iterable[str], recorded: Iterable[str]) -> list[str]:
    """Return those additions that break calls of today: a parameter or field of a known owner that must be given."""
    owners = {_owner(line) for line in recorded}
    return [line for line in added if line.endswith(", required") and _owner(line) in owners]


def _owner(line: str) -> str:
    name = line.split("  ")[0]
    if name.startswith("$"):
        return name.rpartition(" ")[0]
    return name.partition("(")[0] if "(" in name else name.rpartition(".")[0]
