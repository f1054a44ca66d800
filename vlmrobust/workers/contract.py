"""What a model has to return for a prompt."""

import math
from typing import Any

from ..types import Prompt, Response
from .plan import Failure

__all__ = ["checked", "without_nan"]


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
    if response.key != prompt.key:
        raise ValueError(f"{method}: expected the response to {prompt.key}{place}, got {response.key}")
    where = f"{method}: sample {prompt.sample.id!r}, condition {prompt.condition!r}"
    count, logprobs = len(prompt.sample.options), response.option_logprobs
    if logprobs is not None and len(logprobs) != count:
        raise ValueError(
            f"{where}, field 'option_logprobs': expected {count} values, one per option of the sample, "
            f"got {len(logprobs)}"
        )
    if response.answer is not None and not 0 <= response.answer < count:
        raise ValueError(
            f"{where}, field 'answer': expected an index of the sample's options (0 to {count - 1}), "
            f"got {response.answer}"
        )
    return response


def without_nan(response: Response, prompt: Prompt, on_error: Failure) -> Response:
    """Return a response, or the failure that it is where a letter's log-probability is NaN.

    Raises:
        ValueError: it is one, and failures end the run.
    """
    numbers = (*(response.option_logprobs or ()), *response.added_logprobs)
    if not any(math.isnan(number) for number in numbers):
        return response
    error = ValueError(
        f"sample {prompt.sample.id!r}, condition {prompt.condition!r}, field 'option_logprobs': "
        f"expected log-probabilities, got NaN in {numbers}"
    )
    if on_error == "raise":
        raise error
    return Response.failed(prompt, error)
