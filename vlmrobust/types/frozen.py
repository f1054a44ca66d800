"""Define the base class of all value types: frozen, validated, and replaced rather than modified.

Also define the types of fields that may hold secrets (`Settings`, `Address`), which files and reprs (`Told`) omit, and
add the owner's name to validation errors (`named_errors`).
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    PlainSerializer,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from ..secrecy import may_hold_a_secret, without_secrets
from ..text import can_be_written, find_unwritable

__all__ = ["Address", "Frozen", "Settings", "Told", "as_made", "named_errors"]


Settings = Annotated[Mapping[str, Any], PlainSerializer(without_secrets)]
"""Settings of third-party code. They may hold secrets, which are used but never written to files."""

Address = Annotated[str, PlainSerializer(without_secrets)]
"""The address of a server. It may hold a key, which is used but never written to files."""


class Frozen(BaseModel):
    """A frozen pydantic model that rejects unknown fields and validates every modified copy.

    Text that cannot be encoded as UTF-8 is rejected in all fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    @model_validator(mode="after")
    def _check_encodable(self) -> Self:
        # All values are written to files eventually, and the end of a run is too late for an error.
        values = self.__dict__
        if not can_be_written([values[name] for name in _fields_with_text(type(self))]):
            raise ValueError(find_unwritable(values))
        return self

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        # A pickle of an earlier version lacks newer fields; they get their defaults.
        for name, field in type(self).model_fields.items():
            if name not in self.__dict__ and not field.is_required():
                self.__dict__[name] = field.get_default(call_default_factory=True)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, validated like a new instance.

        Raises:
            pydantic.ValidationError: a field is unknown or a value is invalid.
        """
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**(fields | changes))


@cache
def _fields_with_text(kind: type[Frozen]) -> tuple[str, ...]:
    """Return the fields that may hold text; skipping numbers and literals saves time over millions of values."""
    return tuple(name for name, field in kind.model_fields.items() if not _is_without_text(field.annotation))


def _is_without_text(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin in (tuple, Union, UnionType):
        return all(part is Ellipsis or _is_without_text(part) for part in get_args(annotation))
    return origin is Literal or annotation in (int, float, bool, NoneType)


def as_made(kind: type[Frozen]) -> WrapValidator:
    """Return a validator that accepts instances unchanged: they were validated when they were created."""

    def validate_others(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        return value if isinstance(value, kind) else validate(value)

    return WrapValidator(validate_others)


class Told(Frozen):
    """A frozen value whose settings and addresses may hold secrets; its repr omits them."""

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return ((name, without_secrets(value)) for name, value in super().__repr_args__())


_MAPPING_ERRORS = ("dict_type", "mapping_type")  # a value in place of a mapping of settings may be a key


def named_errors(what: str, name: object, build: Callable[[], Any]) -> Any:
    """Run `build` and prefix the validation errors of pydantic with the owner's name and the field.

    Pydantic names only the field; in a file of ten thousand rows one also needs the row.
    """
    try:
        return build()
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_url=False):
            field = ".".join(str(part) for part in problem["loc"])
            message = problem["msg"].removeprefix("Value error, ")
            value = problem["input"]
            if problem["type"] == "missing" or "got" in message:
                got = ""
            elif problem["type"] in _MAPPING_ERRORS or any(may_hold_a_secret(str(part)) for part in problem["loc"]):
                got = f", got {type(value).__name__}, not shown because it may hold a key"
            elif isinstance(value, list | tuple) and any(isinstance(part, Mapping) for part in value):
                got = f", got {len(value)} entries"  # an invalid entry has an error of its own
            else:
                value = without_secrets(value, may_hold_a_secret) if isinstance(value, str | Mapping | list) else value
                got = f", got {value!r:.80}"
            owner = "" if not field and repr(name) in message else f"{what} {name!r}"
            place = ", ".join(filter(None, (owner, f"field {field!r}" if field else "")))
            # An error of the whole value may name its field itself.
            separator = ", " if not field and message.startswith("field '") else ": "
            problems.append(f"{place}{separator}{message}{got if field else ''}" if place else message)
        raise ValueError("; ".join(problems)) from None
