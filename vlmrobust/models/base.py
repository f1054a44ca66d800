"""Define the interface of models for the evaluator, and load the model of a resumed run only when it is needed.

Optional parts of the interface have a function each, with a default for models without them (`identity_of`, `work_of`,
`rendered_by`, `special_tokens_of`). `WorkCounts` counts a model's tokens and steps; `RefusedError` ends a run;
`common_length` compares token ids, of a local tokenizer or of a server.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeGuard, TypeVar, runtime_checkable

from ..prompting import SpecialTokens
from ..secrecy import error_text
from ..types import Prompt, Response, Style

__all__ = [
    "ConcurrentModel",
    "DeferredModel",
    "Model",
    "RefusedError",
    "UnfitError",
    "WorkCounts",
    "common_length",
    "expect",
    "identity_of",
    "is_concurrent",
    "rendered_by",
    "results_of",
    "special_tokens_of",
    "work_of",
]


@dataclass(slots=True)
class WorkCounts:
    """Counts of tokens and row-steps; a row-step is one forward pass of one row to decode a token.

    Attributes:
        prompt_tokens: tokens of all prompts, images included.
        shared_tokens: those of them that were taken over from another prompt of the sample.
        row_steps: row-steps computed, including tokens examined after letters.
        dropped_row_steps: row-steps saved because a text had ended before the longest of its batch.
        texts: decoded texts.
        refilled_texts: those of them that joined a batch during decoding.
    """

    prompt_tokens: int = 0
    shared_tokens: int = 0
    row_steps: int = 0
    dropped_row_steps: int = 0
    texts: int = 0
    refilled_texts: int = 0

    def shares(self) -> dict[str, float]:
        """Return the savings as shares of the prompts' tokens, the row-steps and the texts; JSON values.

        Example:
            >>> WorkCounts(prompt_tokens=800, shared_tokens=600, row_steps=30, dropped_row_steps=10).shares()
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
    """Raised by a model if further prompts are pointless, as with a wrong key: ends a run, whatever `on_error` is."""


class UnfitError(RefusedError, ValueError):
    """The model cannot be evaluated, or would be read wrongly; raised before the first prompt."""


@runtime_checkable
class Model(Protocol):
    """Anything that answers prompts.

    The evaluator passes all conditions of a few samples at a time, so that an engine can share work between them.
    Optional methods and attributes:

    - `identity() -> dict` returns what determines the responses (name, dtype, generation settings). It goes into a
      run's manifest, and a run is only resumed with the same identity.
    - `expect(prompts, style)` is called before a run's first prompt with the maximum number of prompts and the style.
    - `work() -> dict` returns the work of a run, which is logged at its end and stored in the report's manifest.
    - `special_tokens` are made inert in prompts (`Prompt.with_inert`); a run reports first where samples contain them.
    - `rendered(prompt) -> str` is shown by `Evaluator.preview`.
    """

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Return one response per prompt, in the same order.

        A prompt that cannot be answered gets `Response.failed(prompt, error)`; the others are answered all the same.
        If no other prompt would be answered either, raise `RefusedError`.
        """


@runtime_checkable
class ConcurrentModel(Model, Protocol):
    """A model that also accepts prompts one by one, more than it can answer at once.

    The evaluator does not wait for batches: when one prompt is answered, it queues the next, of any sample. This is for
    servers and for engines that batch by themselves.

    Attributes:
        concurrency: number of prompts answered at a time; about twice as many are queued.
    """

    concurrency: int

    def ask(self, prompt: Prompt) -> Future[Response]:
        """Queue a prompt and return the future of its response; failures are as for `respond`.

        Cancelling the future before its prompt was started prevents the response. Prompts of one sample are queued one
        after another, so that they can share work.
        """


def is_concurrent(model: Model) -> TypeGuard[ConcurrentModel]:
    """Return whether a model should be asked prompt by prompt.

    False if its class overrides only `respond`, or delegates `ask` to another model: what its `respond` adds would be
    lost.
    """
    if not isinstance(model, ConcurrentModel):
        return False
    ask, respond = (
        next((home for home in type(model).__mro__ if name in vars(home)), None) for name in ("ask", "respond")
    )
    return ask is not None and respond is not None and issubclass(ask, respond)


Result = TypeVar("Result")


def results_of(futures: Iterable[Future[Result]]) -> list[Result]:
    """Return the results of all futures; if one raises, cancel those that were not started."""
    queued = list(futures)
    try:
        return [future.result() for future in queued]
    except BaseException:
        for future in queued:
            future.cancel()
        raise


def expect(model: Model, prompts: int, style: Style) -> None:
    """Announce a run to a model that has `expect`."""
    method = getattr(model, "expect", None)
    if callable(method):
        method(prompts, style)


def identity_of(model: Model, beside: Path | None = None) -> Mapping[str, Any]:
    """Return what determines a model's responses, as JSON values: its `identity()`, else its class.

    Args:
        model: the model.
        beside: run directory in which a model may cache digests, if its `identity` has an argument `beside`.
    """
    identity = getattr(model, "identity", None)
    if not callable(identity):
        return {"class": f"{type(model).__module__}.{type(model).__qualname__}"}
    accepts = beside is not None and "beside" in inspect.signature(identity).parameters
    return dict(identity(beside=beside) if accepts else identity())


def work_of(model: Model) -> Mapping[str, Any]:
    """Return a model's report of its work, as JSON values; empty if it has none."""
    work = getattr(model, "work", None)
    return dict(work()) if callable(work) else {}


def rendered_by(model: Model, prompt: Prompt) -> str:
    """Return a prompt as text for the model: by its own `rendered`, else as chat turns."""
    render = getattr(model, "rendered", None)
    return str(render(prompt)) if callable(render) else prompt.transcript()


def special_tokens_of(model: Model) -> SpecialTokens | None:
    """Return the special tokens that a model makes inert in prompts; None = unknown."""
    found = getattr(model, "special_tokens", None)
    return found if isinstance(found, SpecialTokens) else None


class DeferredModel:
    """The model of a resumed run, loaded on the first prompt; its identity comes from the run.

    A run with no prompts left therefore loads no weights.

    Args:
        load: loads the model.
        identity: the run's.
        special_tokens: finds the special tokens without weights; if it fails, the model is loaded.
        check: raises if the loaded model's identity is not the run's.

    Example:
        >>> from vlmrobust.testing import FakeModel
        >>> model = DeferredModel(FakeModel, {"class": "FakeModel"}, lambda: None, lambda identity: None)
        >>> model.identity()
        {'class': 'FakeModel'}
    """

    def __init__(
        self,
        load: Callable[[], Model],
        identity: Mapping[str, Any],
        special_tokens: Callable[[], SpecialTokens | None],
        check: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._load, self._identity, self._find, self._check = load, dict(identity), special_tokens, check
        self._model: Model | None = None
        self._expected: tuple[int, Style] | None = None

    def identity(self, beside: Path | None = None) -> dict[str, Any]:
        """Return the run's identity."""
        return dict(self._identity)

    @property
    def special_tokens(self) -> SpecialTokens | None:
        """The special tokens that the model makes inert in prompts."""
        try:
            return self._find()
        except (OSError, ValueError):  # the checkpoint has no processor
            return special_tokens_of(self._loaded())

    def expect(self, prompts: int, style: Style) -> None:
        """Pass the announcement on, once the model is loaded."""
        self._expected = prompts, style
        if self._model is not None:
            expect(self._model, prompts, style)

    def work(self) -> Mapping[str, Any]:
        """Return the model's work; empty if it was not loaded."""
        return {} if self._model is None else work_of(self._model)

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Load the model if necessary, and answer prompts.

        Raises:
            RefusedError: the model cannot be loaded, or is not the run's.
        """
        return self._loaded().respond(prompts)

    def _loaded(self) -> Model:
        if self._model is None:
            try:
                model = self._load()
                self._check(identity_of(model))
            except RefusedError:
                raise
            except (ValueError, LookupError, OSError, ImportError) as error:
                raise RefusedError(str(error)) from error  # affects every prompt
            except RuntimeError as error:
                raise RefusedError(error_text(error)) from error
            self._model = model
            if self._expected is not None:
                expect(model, *self._expected)
        return self._model


def common_length(tokens: Sequence[int], others: Sequence[int]) -> int:
    """Return the length of the common prefix of two sequences."""
    pairs = zip(tokens, others, strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(tokens), len(others)))
