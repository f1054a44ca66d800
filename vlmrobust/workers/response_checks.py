"""Validate responses, and stop a run in which every response fails for the same reason."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..models.base import RefusedError
from ..types import Prompt, Response
from ..types.frozen import named_errors
from .plan import Failure

__all__ = ["FailureStreak", "check_response", "validate_response"]


_ROUNDING = 0.05  # tolerance for the sum of the letters' probabilities in half precision
# Details that vary between errors of the same kind: quoted values, numbers, and servers' request ids.
_DETAILS = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|\b(?=\w*\d)[\w-]+")
# An overlong prompt is a problem of its own row, however many there are.
_TOO_LONG = re.compile(
    r"model's context|context[ _](?:length|window|size)|context_length_exceeded|max_model_len"
    r"|(?:prompt|input|request)\b.{0,40}\btoo long|exceeds? the (?:available )?context",
    re.IGNORECASE,
)


def check_response(response: Any, prompt: Prompt, method: str, place: str = "") -> Response:
    """Return a model's response if it matches the prompt.

    Args:
        response: the model's return value.
        prompt: the prompt.
        method: the method that returned it, such as "HFModel.respond".
        place: its place among several, such as " at position 3".

    Raises:
        TypeError, ValueError: it is not a response, belongs to another prompt, or does not fit the sample.
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


def validate_response(response: Response, prompt: Prompt, method: str, on_error: Failure) -> Response:
    """Return a response, or a failed response if its values are invalid, such as NaN for a letter.

    All fields are validated, as `model_construct` and `model_copy` bypass validation.

    Raises:
        ValueError: the response is invalid and `on_error` is "raise".
    """

    def validated() -> Response:
        return type(response)(**vars(response))

    try:
        valid: Response = named_errors(f"sample {prompt.sample.id!r}, condition", prompt.condition, validated)
        check_response(valid, prompt, method)  # validation may have converted text to an index out of range
        problem = _letters_problem(valid)
        if problem is None:
            return valid
        problem = f"sample {prompt.sample.id!r}, condition {prompt.condition!r}, field 'option_logprobs': {problem}"
    except ValueError as invalid:
        problem = str(invalid)
    error = ValueError(f"{method}: {problem}")
    if on_error == "raise":
        raise error
    return Response.failed(prompt, error)


def _letters_problem(response: Response) -> str | None:
    """Return what is invalid in a model's letter probabilities; those in other tools' logs are not checked."""
    numbers = (*(response.option_logprobs or ()), *response.added_logprobs)
    if not numbers:
        return None
    if any(map(math.isnan, numbers)):
        return f"expected log-probabilities, got NaN in {numbers}"
    if max(numbers) == -math.inf:
        return f"expected an option with a probability above 0, got {numbers}"
    total = math.fsum(map(math.exp, numbers))
    # Letters are mutually exclusive, but one option's text may be a prefix of another's.
    if total > 1 + _ROUNDING and not (response.readout or "").startswith("option_text"):
        return f"expected probabilities that sum to at most 1, got {total:.3g}"
    return None


@dataclass
class FailureStreak:
    """Counts consecutive responses that fail for the same reason.

    A reason that names its own sample, such as a missing image, counts once per sample; prompts longer than the context
    never count.

    Attributes:
        limit: number of failures that ends the run; None = unlimited.

    Example:
        >>> from vlmrobust import demo, Prompt
        >>> prompt, streak = Prompt.of(demo.samples(1)[0]), FailureStreak(2)
        >>> for _ in range(2):
        ...     streak.count(prompt, Response.failed(prompt, "no such model"))
        >>> streak.is_exceeded
        True
    """

    limit: int | None
    _reason: str = ""
    _samples: set[str] = field(default_factory=set)
    _rows: int = 0
    _count: int = 0
    _last: str = ""

    @property
    def is_exceeded(self) -> bool:
        """Whether the limit has been reached."""
        return self.limit is not None and self._count >= self.limit

    def count(self, prompt: Prompt, response: Response) -> None:
        """Count a model's response."""
        error = response.error or ""
        if response.status != "error":
            if self._rows:
                self._reason, self._samples, self._rows, self._count = "", set(), 0, 0
            return
        if _TOO_LONG.search(error):
            return
        sample = prompt.sample.id
        names_sample = sample in error
        reason = _DETAILS.sub("…", error.replace(sample, "…"))[:300]
        if reason != self._reason:
            self._reason, self._samples, self._rows, self._count = reason, set(), 0, 0
        self._samples.add(sample)
        self._rows += 1
        self._count = len(self._samples) if names_sample else self._rows
        self._last = error

    def check(self) -> None:
        """End the run if the limit has been reached.

        Raises:
            RefusedError: too many consecutive responses failed for the same reason.
        """
        if self.is_exceeded:
            raise RefusedError(
                f"{self._rows} responses in a row, of {len(self._samples)} samples, failed for the same reason, the "
                f"last with: {self._last}; fix the cause and repeat the call to resume: recorded answers are kept and "
                "failed prompts are retried (Evaluator(max_failures=None) records such rows and goes on)"
            )
