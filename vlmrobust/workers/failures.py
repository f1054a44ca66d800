"""Check what a model returns for a prompt, and end a run of which every response fails for one reason."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..models.base import RefusedError
from ..types import Prompt, Response
from ..types.frozen import named_errors
from .plan import Failure

__all__ = ["Failing", "checked", "possible"]

_ROUNDING = 0.05  # of the sum of as many probabilities in half precision as there are letters
# What differs between two errors of one kind: quoted values, numbers, and servers' request ids.
_DETAILS = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|\b(?=\w*\d)[\w-]+")
# A prompt that is too long is the fault of its row, however many there are.
_TOO_LONG = re.compile(
    r"model's context|context[ _](?:length|window|size)|context_length_exceeded|max_model_len"
    r"|(?:prompt|input|request)\b.{0,40}\btoo long|exceeds? the (?:available )?context",
    re.IGNORECASE,
)


def checked(response: Any, prompt: Prompt, method: str, place: str = "") -> Response:
    """Return what a model returned for a prompt, if that is a response to it.

    Args:
        response: what it returned.
        prompt: what it was asked.
        method: the method that returned it, such as "HFModel.respond".
        place: where among several, such as " at position 3".

    Raises:
        TypeError, ValueError: it is something else, or does not fit the sample.
    """
    if not isinstance(response, Response):
        raise TypeError(f"{method}: expected a Response{place}, got {type(response).__name__}")
    key = tuple(vars(response).get(field) for field in ("sample_id", "condition", "draw"))
    if key != prompt.key:
        raise ValueError(f"{method}: expected the response to {prompt.key}{place}, got {key}")
    where = f"{method}: sample {prompt.sample.id!r}, condition {prompt.condition!r}"
    count, logprobs = len(prompt.sample.options), response.option_logprobs
    if isinstance(logprobs, Sequence) and len(logprobs) != count:
        raise ValueError(
            f"{where}, field 'option_logprobs': expected {count} values, one per option of the sample, "
            f"got {len(logprobs)}"
        )
    if isinstance(response.answer, int) and not 0 <= response.answer < count:
        raise ValueError(
            f"{where}, field 'answer': expected an index of the sample's options (0 to {count - 1}), "
            f"got {response.answer}"
        )
    return response


def possible(response: Response, prompt: Prompt, method: str, on_error: Failure) -> Response:
    """Return a response, or a failure in its place where it holds impossible values, such as a NaN for a letter.

    It is validated, since one made by `model_construct` or `model_copy` may hold anything.

    Raises:
        ValueError: it is a failure, and failures end the run.
    """

    def validated() -> Response:
        return type(response)(**vars(response))

    try:
        sound: Response = named_errors(f"sample {prompt.sample.id!r}, condition", prompt.condition, validated)
        checked(sound, prompt, method)  # text in the place of a number may be one beyond
        problem = _letters_problem(sound)
        if problem is None:
            return sound
        problem = f"sample {prompt.sample.id!r}, condition {prompt.condition!r}, field 'option_logprobs': {problem}"
    except ValueError as unfit:
        problem = str(unfit)
    error = ValueError(f"{method}: {problem}")
    if on_error == "raise":
        raise error
    return Response.failed(prompt, error)


def _letters_problem(response: Response) -> str | None:
    """Return what is impossible in a model's letter probabilities; those in other tools' logs are read as they are."""
    numbers = (*(response.option_logprobs or ()), *response.added_logprobs)
    if not numbers:
        return None
    if any(map(math.isnan, numbers)):
        return f"expected log-probabilities, got NaN in {numbers}"
    if max(numbers) == -math.inf:
        return f"expected an option with a probability above 0, got {numbers}"
    total = math.fsum(map(math.exp, numbers))
    # One text may begin another; letters exclude each other.
    if total > 1 + _ROUNDING and not (response.readout or "").startswith("option_text"):
        return f"expected probabilities that sum to at most 1, got {total:.3g}"
    return None


@dataclass
class Failing:
    """Counts responses that fail one after the other for one reason.

    A reason that names its own sample, such as an image that is missing, counts once a sample; that a prompt is longer
    than the context never does.

    Attributes:
        limit: how many end the run; None = any number may fail.

    Example:
        >>> from vlmrobust import demo, Prompt
        >>> prompt, failing = Prompt.of(demo.samples(1)[0]), Failing(2)
        >>> for _ in range(2):
        ...     failing.count(prompt, Response.failed(prompt, "no such model"))
        >>> failing.is_over
        True
    """

    limit: int | None
    _reason: str = ""
    _samples: set[str] = field(default_factory=set)
    _rows: int = 0
    _counted: int = 0
    _last: str = ""

    @property
    def is_over(self) -> bool:
        """Whether the run is to be ended."""
        return self.limit is not None and self._counted >= self.limit

    def count(self, prompt: Prompt, response: Response) -> None:
        """Take note of a model's response."""
        error = response.error or ""
        if response.status != "error":
            if self._rows:
                self._reason, self._samples, self._rows, self._counted = "", set(), 0, 0
            return
        if _TOO_LONG.search(error):
            return
        sample = prompt.sample.id
        own = sample in error
        reason = _DETAILS.sub("…", error.replace(sample, "…"))[:300]
        if reason != self._reason:
            self._reason, self._samples, self._rows, self._counted = reason, set(), 0, 0
        self._samples.add(sample)
        self._rows += 1
        self._counted = len(self._samples) if own else self._rows
        self._last = error

    def check(self) -> None:
        """End the run if it is over.

        Raises:
            RefusedError: so many have failed for one reason.
        """
        if self.is_over:
            raise RefusedError(
                f"{self._rows} responses in a row, of {len(self._samples)} samples, failed for one reason, the last "
                f"with: {self._last}; once it is mended the same call goes on: what was answered is kept, and what "
                "failed is asked again (Evaluator(max_failures=None) records such rows and asks on)"
            )
