"""Define the base of every value here: frozen, validated, and replaced rather than changed."""

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
"""Settings of others' code, which may hold secrets: these are sent, and are not written."""

Address = Annotated[str, PlainSerializer(without_secrets)]
"""The address of a server, which may hold a key: it is sent, and is not written."""


class Frozen(BaseModel):
    """A frozen pydantic model that refuses unknown fields and validates again when a copy is changed.

    Text that UTF-8 cannot hold is refused in all of its fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    @model_validator(mode="after")
    def _texts_can_be_written(self) -> Self:
        # Here, since all values end in files, and the end of a run is too late to find out.
        values = self.__dict__
        if not can_be_written([values[name] for name in _fields_with_text(type(self))]):
            raise ValueError(find_unwritable(values))
        return self

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        # A pickle of an earlier version has no fields that came later; these are what they are by default.
        for name, field in type(self).model_fields.items():
            if name not in self.__dict__ and not field.is_required():
                self.__dict__[name] = field.get_default(call_default_factory=True)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, validated like a new one.

        Raises:
            pydantic.ValidationError: a field is unknown or a value does not fit.
        """
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**(fields | changes))


@cache
def _fields_with_text(kind: type[Frozen]) -> tuple[str, ...]:
    """Return the fields that may hold text: numbers and literals, of which a run makes millions, are not looked at."""
    return tuple(name for name, field in kind.model_fields.items() if not _is_without_text(field.annotation))


def _is_without_text(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin in (tuple, Union, UnionType):
        return all(part is Ellipsis or _is_without_text(part) for part in get_args(annotation))
    return origin is Literal or annotation in (int, float, bool, NoneType)


def as_made(kind: type[Frozen]) -> WrapValidator:
    """Return what lets a field take an instance as it is: it was checked when it was made, not once for each owner."""

    def unchanged(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        return value if isinstance(value, kind) else validate(value)

    return WrapValidator(unchanged)


class Told(Frozen):
    """A frozen value whose settings and addresses may hold secrets; it is shown without them."""

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return ((name, without_secrets(value)) for name, value in super().__repr_args__())


_OF_SETTINGS = ("dict_type", "mapping_type")  # something else in the place of settings, which may hold a key


def named_errors(what: str, name: object, build: Callable[[], Any]) -> Any:
    """Run `build` and put the owner's name and the field in front of whatever pydantic has to say.

    Pydantic alone tells the field; in a file of ten thousand rows one also needs the row.
    """
    try:
        return build()
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_url=False):
            field = ".".join(str(part) for part in problem["loc"])
            message = problem["msg"].removeprefix("Value error, ")
            came = problem["input"]
            if problem["type"] == "missing" or "got" in message:
                got = ""
            elif problem["type"] in _OF_SETTINGS or any(may_hold_a_secret(str(part)) for part in problem["loc"]):
                got = f", got {type(came).__name__}, which is not repeated here, since it may hold a key"
            elif isinstance(came, list | tuple) and any(isinstance(part, Mapping) for part in came):
                got = f", got {len(came)} entries"  # what is wrong in one of them is told of that one
            else:
                came = without_secrets(came, may_hold_a_secret) if isinstance(came, str | Mapping | list) else came
                got = f", got {came!r:.80}"
            owner = "" if not field and repr(name) in message else f"{what} {name!r}"
            place = ", ".join(filter(None, (owner, f"field {field!r}" if field else "")))
            # A problem of the whole may name its field itself.
            between = ", " if not field and message.startswith("field '") else ": "
            problems.append(f"{place}{between}{message}{got if field else ''}" if place else message)
        raise ValueError("; ".join(problems)) from None
