"""Define the base classes of metrics; subclasses implement one hook."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, final

import torch
from pydantic import Field
from torch import Tensor

from ..text import snake_case
from ..types import Responses
from ..types.frozen import Frozen

__all__ = ["BaseMetric", "Metric", "PairedMetric"]


class BaseMetric(Frozen, ABC):
    """The common base of `Metric` and `PairedMetric`; subclass one of those.

    Attributes:
        name: the metric's column in reports; None = the class name in snake case.

    Class attributes:
        higher_is_better: whether larger values are better; None = neither.
        is_rate: every value is 0, 1 or NaN, so that the mean is a rate, with an interval for rates.
        reads_letters: the values come from the letter distribution, so that different read-outs are not comparable, and
            two values that differ by at most 1e-6 (above 1: of their size) count as equal, except for paired metrics.
        reads_asserted: the values depend on the asserted option, so that both sides of a comparison are measured by the
            same option; see `FollowRate`.
    """

    name: str | None = Field(default=None, min_length=1)

    higher_is_better: ClassVar[bool | None] = None
    is_rate: ClassVar[bool] = False
    reads_letters: ClassVar[bool] = False
    reads_asserted: ClassVar[bool] = False

    @property
    def column(self) -> str:
        """The metric's column in reports."""
        return self.name or snake_case(type(self).__name__)

    @property
    def is_mean(self) -> bool:
        """Whether a condition's value is the mean of its responses' values: `aggregate` was not overridden."""
        return type(self).aggregate is BaseMetric.aggregate

    def failures(self, responses: Responses) -> Mapping[int, str]:
        """Return by position why a response has no value, for instance because a judge failed on its thought."""
        return {}

    def aggregate(self, values: Tensor, responses: Responses, weights: Tensor | None = None) -> float:
        """Return one number for a set of responses: the weighted mean of the defined values, unless overridden.

        Args:
            values: `(N,)`, one per response, NaN = undefined.
            responses: the N responses.
            weights: `(N,)`, the number of times that a resample drew each response; None = once.

        Returns:
            NaN if no value is defined.
        """
        precise = values.double()
        counts = torch.ones_like(precise) if weights is None else weights.to(precise)
        used = ~precise.isnan() & (counts > 0)
        return float((precise[used] * counts[used]).sum() / counts[used].sum())

    def _checked(self, values: Any, hook: str, failed: Tensor) -> Tensor:
        where = f"metric {self.column!r}: expected a float or bool tensor of shape {tuple(failed.shape)} from {hook!r}"
        if not isinstance(values, Tensor):
            raise TypeError(f"{where}, got {type(values).__name__}")
        if not (values.is_floating_point() or values.dtype == torch.bool):
            raise TypeError(f"{where}, got {values.dtype}")
        if values.shape != failed.shape:
            raise ValueError(f"{where}, got shape {tuple(values.shape)}")
        floats = torch.where(
            failed, math.nan, values.detach().to("cpu", torch.promote_types(values.dtype, torch.float32))
        )
        if self.is_rate and bool((wrong := ~floats.isnan() & (floats != 0) & (floats != 1)).any()):
            raise ValueError(
                f"{where} with 0, 1 or NaN, since it declares itself a rate, got {float(floats[wrong][0])}"
            )
        return floats


class Metric(BaseMetric):
    """A number per response. Subclasses implement `per_sample(responses)`; calling one returns validated values.

    Attributes:
        name: the metric's column in reports; None = the class name in snake case.

    Class attributes:
        higher_is_better: whether larger values are better; None = neither.

    Example:
        >>> class ShortThought(Metric):
        ...     higher_is_better = False
        ...     def per_sample(self, responses):
        ...         return torch.tensor([len(thought.split()) < 10 for thought in responses.own_think])
        >>> ShortThought().column
        'short_thought'
    """

    @abstractmethod
    def per_sample(self, responses: Responses) -> Tensor:
        """Return one value per response.

        Args:
            responses: N responses, including failed ones, whose values are ignored.

        Returns:
            `(N,)`, float or bool, NaN where the metric is undefined. Undefined is not zero.
        """

    @final
    def __call__(self, responses: Responses) -> Tensor:
        """Return one value per response, NaN where the metric is undefined or the response failed.

        Returns:
            `(N,)` float32 (float64 if the hook returned it), on the CPU.

        Raises:
            TypeError: `per_sample` did not return a float or bool tensor.
            ValueError: its shape is not (N,).
        """
        return self._checked(self.per_sample(responses), "per_sample", failed(responses))


class PairedMetric(BaseMetric):
    """A number per pair of a response and its base response, such as a flip. Subclasses implement `per_pair`.

    Attributes:
        name: the metric's column in reports; None = the class name in snake case.

    Class attributes:
        higher_is_better: whether larger values are better; None = neither.

    Example:
        >>> class AnswerFlip(PairedMetric):
        ...     higher_is_better = False
        ...     def per_pair(self, base, responses):
        ...         return base.choice != responses.choice
        >>> AnswerFlip().column
        'answer_flip'
    """

    @abstractmethod
    def per_pair(self, base: Responses, responses: Responses) -> Tensor:
        """Return one value per pair.

        Args:
            base: N responses under base.
            responses: the N responses under another condition, to the same samples in the same order.

        Returns:
            `(N,)`, float or bool, NaN where the metric is undefined. Undefined is not zero.
        """

    @final
    def __call__(self, base: Responses, responses: Responses) -> Tensor:
        """Return one value per pair, NaN where the metric is undefined or one of the two responses failed.

        Returns:
            `(N,)` float32 (float64 if the hook returned it), on the CPU.

        Raises:
            TypeError: `per_pair` did not return a float or bool tensor.
            ValueError: its shape is not (N,), or the two sides are not aligned.
        """
        if base.sample_id != responses.sample_id:
            where = f"metric {self.column!r}: expected the same samples on both sides"
            raise ValueError(f"{where}, {_mismatch(base, responses)}")
        return self._checked(self.per_pair(base, responses), "per_pair", failed(base) | failed(responses))


def failed(responses: Responses) -> Tensor:
    """Return an `(N,)` mask of the responses that a report lists but never scores."""
    return responses.has_status("error", "not_applicable")


def _mismatch(base: Responses, responses: Responses) -> str:
    if len(base) != len(responses):
        return f"got {len(base)} and {len(responses)} responses"
    pairs = enumerate(zip(base.sample_id, responses.sample_id, strict=True))
    position, (first, second) = next((at, pair) for at, pair in pairs if pair[0] != pair[1])
    return f"got {first!r} and {second!r} at position {position}"
