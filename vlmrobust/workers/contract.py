"""What a model has to return for a prompt."""

import math
from collections.abc import Sequence
from typing import Any

from ..types import Prompt, Response
from ..types.validated import named_errors
from .plan import Failure

__all__ = ["checked", "possible"]

_ROUNDING = 0.05  # of the sum of as many probabilities in half precision as there are letters


def checked(response: Any, prompt: Prompt, method: str, place: str = "") -> Response:
    """Return what a model has said to a prompt, if that is a response to it.

    Args:
        response: what it has said.
        prompt: what it was asked.
        method: which has returned it, such as "HFModel.respond".
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
    """Return a response, or the failure that it is where it holds what cannot be, such as a NaN for a letter.

    It is validated, since a copy that never was (`model_construct`, `model_copy`) may hold anything.

    Raises:
        ValueError: it is one, and failures end the run.
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
    """Return what of a model's letters cannot be; those of logs that others wrote are read as they are."""
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
