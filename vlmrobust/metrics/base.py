"""The base classes of metrics: the author writes one hook, the base owns the rest."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, final

import torch
from pydantic import Field
from torch import Tensor

from ..naming import snake_case
from ..types import Responses
from ..types.frozen import Frozen

__all__ = ["BaseMetric", "Metric", "PairedMetric"]


class BaseMetric(Frozen, ABC):
    """What `Metric` and `PairedMetric` have in common; subclass one of those.

    Attributes:
        name: the metric's column in reports; None = the class name in snake case.

    Class attributes:
        higher_is_better: whether a larger value is the better one; None = neither.
        is_rate: every value is 0, 1 or NaN, so that its mean is a rate, with a rate's interval.
        reads_letters: the values come from the letter distribution, so that responses of different read-outs are not
            to be compared.
        reads_asserted: the values depend on what the text asserts, so that of a condition and what it is compared with
            both are measured by the same option: see `FollowRate`.
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
        """Return by position why a response that was asked has no value, such as a judge that failed on its thought."""
        return {}

    def aggregate(self, values: Tensor, responses: Responses, weights: Tensor | None = None) -> float:
        """Return one number for a set of responses: the weighted mean of the defined values, unless overridden.

        Args:
            values: `(N,)`, one per response, NaN = undefined.
            responses: the N responses.
            weights: `(N,)`, how often a resample drew each response; None = each once.

        Returns:
            NaN if no value is defined.
        """
        precise = values.double()
        drawn = torch.ones_like(precise) if weights is None else weights.to(precise)
        kept = ~precise.isnan() & (drawn > 0)
        return float((precise[kept] * drawn[kept]).sum() / drawn[kept].sum())

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
    """A number per response. Subclasses write `per_sample(responses)`; calling one gives the checked values.

    Attributes:
        name: the metric's column in reports; None = the class name in snake case.

    Class attributes:
        higher_is_better: whether a larger value is the better one; None = neither.

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
            responses: N responses, failed ones among them; whatever is returned for those is not used.

        Returns:
            `(N,)`, float or bool, NaN where the metric is not defined. Undefined is not zero.
        """

    @final
    def __call__(self, responses: Responses) -> Tensor:
        """Return one value per response, NaN where the metric is not defined or the call failed.

        Returns:
            `(N,)` float32 (float64 if the hook gave it), on the CPU.

        Raises:
            TypeError: `per_sample` returned something else than a float or bool tensor.
            ValueError: its shape is not (N,).
        """
        return self._checked(self.per_sample(responses), "per_sample", failed(responses))


class PairedMetric(BaseMetric):
    """A number per response and its base response, such as a flip or a divergence. Subclasses write `per_pair`.

    Attributes:
        name: the metric's column in reports; None = the class name in snake case.

    Class attributes:
        higher_is_better: whether a larger value is the better one; None = neither.

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
            `(N,)`, float or bool, NaN where the metric is not defined. Undefined is not zero.
        """

    @final
    def __call__(self, base: Responses, responses: Responses) -> Tensor:
        """Return one value per pair, NaN where the metric is not defined or one of the two calls failed.

        Returns:
            `(N,)` float32 (float64 if the hook gave it), on the CPU.

        Raises:
            TypeError: `per_pair` returned something else than a float or bool tensor.
            ValueError: its shape is not (N,), or the two sides are not aligned.
        """
        if base.sample_id != responses.sample_id:
            where = f"metric {self.column!r}: expected the same samples on both sides"
            raise ValueError(f"{where}, {_mismatch(base, responses)}")
        return self._checked(self.per_pair(base, responses), "per_pair", failed(base) | failed(responses))


def failed(responses: Responses) -> Tensor:
    """Return an `(N,)` mask of the responses that are listed in a report and never scored."""
    return responses.has_status("error", "not_applicable")


def _mismatch(base: Responses, responses: Responses) -> str:
    if len(base) != len(responses):
        return f"got {len(base)} and {len(responses)} responses"
    pairs = enumerate(zip(base.sample_id, responses.sample_id, strict=True))
    position, (first, second) = next((at, pair) for at, pair in pairs if pair[0] != pair[1])
    return f"got {first!r} and {second!r} at position {position}"
