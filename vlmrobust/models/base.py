"""Define what the evaluator asks of a model, and what a model reports of its work."""

import inspect
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeGuard, runtime_checkable

from ..prompting import SpecialTokens
from ..types import Prompt, Response, Style

__all__ = [
    "ConcurrentModel",
    "Model",
    "RefusedError",
    "UnfitError",
    "Work",
    "expect",
    "identity_of",
    "is_concurrent",
    "rendered_by",
    "special_tokens_of",
    "work_of",
]


@dataclass(slots=True)
class Work:
    """Counts of tokens and of row-steps: a row that goes through the model once, to decode a token.

    Attributes:
        prompt_tokens: of all prompts, images included.
        shared_tokens: those of them that another prompt of the sample had, and that were not computed again.
        row_steps: row-steps that were taken, and tokens that were looked at behind letters.
        dropped_row_steps: those that were not, because a text had ended before the longest that came in with it.
        texts: how many were decoded.
        refilled_texts: those of them that came in beside others that were being decoded.
    """

    prompt_tokens: int = 0
    shared_tokens: int = 0
    row_steps: int = 0
    dropped_row_steps: int = 0
    texts: int = 0
    refilled_texts: int = 0

    def shares(self) -> dict[str, float]:
        """Return what was saved as shares: of the prompts' tokens, of the row-steps, and of the texts; JSON values.

        Example:
            >>> Work(prompt_tokens=800, shared_tokens=600, row_steps=30, dropped_row_steps=10).shares()
            {'shared_share': 0.75, 'dropped_share': 0.25, 'refilled_share': 0.0}
        """
        return {
            "shared_share": _share(self.shared_tokens, self.prompt_tokens),
            "dropped_share": _share(self.dropped_row_steps, self.row_steps + self.dropped_row_steps),
            "refilled_share": _share(self.refilled_texts, self.texts),
        }


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


class RefusedError(RuntimeError):
    """A model raises it where asking on is of no use, as with a wrong key: it ends a run, whatever `on_error` says."""


class UnfitError(RefusedError, ValueError):
    """What was given as a model cannot be evaluated, or would be read wrongly; raised before it is asked anything."""


@runtime_checkable
class Model(Protocol):
    """Anything that answers prompts.

    The evaluator hands over all conditions of a few samples at a time, so that an engine can share work between them.
    A model may also have `identity() -> dict`, whatever decides what it answers (name, dtype, generation settings); it
    becomes part of a run's manifest, and a run is not resumed with another. If it has `expect(prompts, style)`, it is
    told before the first prompt of a run how many there are at most, and in which style. If it has `work() -> dict`,
    whatever it says of what the run took is logged when the run has ended, and is in the report's manifest. A model
    with `special_tokens` makes these inert in what it is shown (`Prompt.with_inert`); a run says beforehand where in
    the samples they stand. If it has `rendered(prompt) -> str`, that is how `Evaluator.preview` shows a prompt.
    """

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Return one response per prompt, in the same order.

        A prompt that cannot be answered gets `Response.failed(prompt, error)`; the others are answered all the same.
        Where no other would be answered either, raise `RefusedError`.
        """


@runtime_checkable
class ConcurrentModel(Model, Protocol):
    """A model that also takes prompts one by one, more of them than it can answer at once.

    The evaluator then waits for no batch to end: as soon as one prompt is answered, another is asked, of whatever
    sample is next. This is for servers and for engines that batch by themselves.

    Attributes:
        concurrency: how many prompts it answers at a time; about twice as many are asked before they are.
    """

    concurrency: int

    def ask(self, prompt: Prompt) -> Future[Response]:
        """Take a prompt, and return at once what will hold the response to it; see `respond` for what fails.

        A future that is cancelled before its prompt was begun is not answered any more. Prompts of one sample are asked
        one after another, so that what they share can be shared.
        """


def is_concurrent(model: Model) -> TypeGuard[ConcurrentModel]:
    """Return whether a model is to be asked prompt by prompt.

    It is not where its class overrides `respond` alone, or passes on to another model what it has not itself: what its
    `respond` adds would be left out.
    """
    if not isinstance(model, ConcurrentModel):
        return False
    ask, respond = (
        next((home for home in type(model).__mro__ if name in vars(home)), None) for name in ("ask", "respond")
    )
    return ask is not None and respond is not None and issubclass(ask, respond)


def expect(model: Model, prompts: int, style: Style) -> None:
    """Tell a model what it is about to be asked, if it wants to know."""
    told = getattr(model, "expect", None)
    if callable(told):
        told(prompts, style)


def identity_of(model: Model, beside: Path | None = None) -> Mapping[str, Any]:
    """Return what decides a model's answers, as JSON values: its own `identity()`, or else its class alone.

    Args:
        model: whose.
        beside: a run directory, in which a model may keep what takes long, if its `identity` has an argument `beside`.
    """
    identity = getattr(model, "identity", None)
    if not callable(identity):
        return {"class": f"{type(model).__module__}.{type(model).__qualname__}"}
    keeps = beside is not None and "beside" in inspect.signature(identity).parameters
    return dict(identity(beside=beside) if keeps else identity())


def work_of(model: Model) -> Mapping[str, Any]:
    """Return what a model says of what it has computed, as JSON values; empty where it says nothing."""
    said = getattr(model, "work", None)
    return dict(said()) if callable(said) else {}


def rendered_by(model: Model, prompt: Prompt) -> str:
    """Return a prompt as a model sees it: by its own `rendered`, or else as chat turns."""
    render = getattr(model, "rendered", None)
    return str(render(prompt)) if callable(render) else prompt.transcript()


def special_tokens_of(model: Model) -> SpecialTokens | None:
    """Return the special tokens that a model makes inert in prompts, None where it does not say."""
    found = getattr(model, "special_tokens", None)
    return found if isinstance(found, SpecialTokens) else None
