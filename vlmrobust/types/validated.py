"""The base of every value here: frozen, complete, and replaced rather than changed."""

from collections.abc import Callable
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

__all__ = ["Frozen", "named_errors"]


class Frozen(BaseModel):
    """A frozen pydantic model that refuses unknown fields and validates again when a copy is changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, validated like a new one.

        Raises:
            pydantic.ValidationError: a field is unknown or a value does not fit.
        """
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**(fields | changes))


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
            got = "" if "got" in message or problem["type"] == "missing" else f", got {problem['input']!r:.80}"
            owner = "" if not field and repr(name) in message else f"{what} {name!r}"
            place = ", ".join(filter(None, (owner, f"field {field!r}" if field else "")))
            problems.append(f"{place}: {message}{got if field else ''}" if place else message)
        raise ValueError("; ".join(problems)) from None
