"""What the evaluator asks of a model."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from ..prompting import SpecialTokens
from ..types import Prompt, Response

__all__ = ["Model", "RefusedError", "identity_of", "special_tokens_of"]


class RefusedError(RuntimeError):
    """A model raises it where asking on is of no use, as with a wrong key: it ends a run, whatever `on_error` says."""


@runtime_checkable
class Model(Protocol):
    """Anything that answers prompts.

    The evaluator hands over all conditions of a few samples at a time, so that an engine can share work between them.
    A model may also have `identity() -> dict`, whatever decides what it answers (name, dtype, generation settings); it
    becomes part of a run's manifest, and a run is not resumed with another. A model with `special_tokens` makes these
    inert in what it is shown (`Prompt.with_inert`); a run says beforehand where in the samples they stand.
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


def special_tokens_of(model: Model) -> SpecialTokens | None:
    """Return the special tokens that a model makes inert in prompts, None where it does not say."""
    found = getattr(model, "special_tokens", None)
    return found if isinstance(found, SpecialTokens) else None
