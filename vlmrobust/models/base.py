"""What the evaluator asks of a model."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from ..types import Prompt, Response

__all__ = ["Model", "RefusedError", "UnfitError", "identity_of"]


class RefusedError(RuntimeError):
    """A model raises it where asking on is of no use, as with a wrong key: it ends a run, whatever `on_error` says."""


class UnfitError(RefusedError, ValueError):
    """What was given as a model cannot be evaluated, or would be read wrongly; raised before it is asked anything."""


@runtime_checkable
class Model(Protocol):
    """Anything that answers prompts.

    The evaluator hands over all conditions of a few samples at a time, so that an engine can share work between them.
    A model may also have `identity() -> dict`, whatever decides what it answers (name, dtype, generation settings); it
    becomes part of a run's manifest, and a run is not resumed with another.
    """

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Return one response per prompt, in the same order.

        A prompt that cannot be answered gets `Response.failed(prompt, error)`; the others are answered all the same.
        Where no other would be answered either, raise `RefusedError`.
        """


def identity_of(model: Model) -> Mapping[str, Any]:
    """Return what decides a model's answers, as JSON values: its own `identity()`, or else its class alone."""
    identity = getattr(model, "identity", None)
    return dict(identity()) if callable(identity) else {"class": f"{type(model).__module__}.{type(model).__qualname__}"}
