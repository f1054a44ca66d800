"""What a judge is: it says which option each thought asserts; the base class compares that with the answer."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Annotated, final

import torch
from pydantic import Field
from torch import Tensor

from ..types import Responses
from ..types.validated import Frozen

__all__ = ["Judge", "Verdicts", "without_answers"]


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """What N thoughts assert.

    Attributes:
        option: `(N,)` int64, index in `sample.options` of the option that the thought asserts; -1 = none of them.
        unsure: `(N,)` bool, whether the judge could not tell.
        probability: `(N,)` float32 in [0, 1], the judge's own probability of its verdict; NaN where it has none.
    """

    option: Tensor
    unsure: Tensor
    probability: Tensor

    @classmethod
    def of(cls, option: Tensor, unsure: Tensor) -> "Verdicts":
        """Return verdicts of a judge that gives no probabilities."""
        return cls(option, unsure, torch.full(option.shape, torch.nan))


def without_answers(responses: Responses) -> Responses:
    """Return the responses with everything blanked that tells the answer, right or given: a judge sees the rest.

    Left are the keys, the question, the options as shown and the thoughts. The sample's metadata goes as well, since a
    data set may keep its solution there; so does the status, since `abstained` is an answer, and what stood before the
    question, since a caption tells one.
    """
    count = len(responses)
    nothing = torch.full((count,), -1, dtype=torch.int64)
    unknown = torch.full((count,), torch.nan)
    return replace(
        responses,
        option_logprobs=torch.full_like(responses.option_logprobs, torch.nan),
        added_logprobs=torch.full_like(responses.added_logprobs, torch.nan),
        target=nothing,
        choice=nothing,
        distractor=nothing,
        asserted=nothing,
        token_entropy=unknown,
        n_tokens=nothing,
        well_formed=unknown,
        context=("",) * count,
        text=("",) * count,
        status=("",) * count,
        readout=(None,) * count,
        error=(None,) * count,
        metadata=({},) * count,
    )


class Judge(Frozen, ABC):
    r"""Reads what thoughts assert; one says in `conclude` how.

    Attributes:
        name: how the judge is called in reports; its class's name if empty.
        min_contradiction: in [0, 1], the probability that a verdict needs before it makes an answer inconsistent; below
            it the answer is undefined. Inconsistency is rare (about 2.5 % of real responses), so that a judge that errs
            in 5 % of all cases is mostly wrong when it says it. Verdicts without a probability always count.

    Example:
        >>> class FirstOption(Judge):
        ...     def conclude(self, responses):
        ...         count = len(responses)
        ...         return Verdicts.of(torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.bool))
        >>> FirstOption().title
        'FirstOption'
    """

    name: str = ""
    min_contradiction: Annotated[float, Field(ge=0, le=1)] = 0.0

    @property
    def title(self) -> str:
        """The name, or else the class's."""
        return self.name or type(self).__name__

    @abstractmethod
    def conclude(self, responses: Responses) -> Verdicts:
        """Return what each thought asserts.

        Args:
            responses: N responses without their answers. Letters in a thought refer to `responses.options`, the options
                as shown, with the letters in `responses.letters`; `responses.order` gives their indices in
                `sample.options`, None = an added option. A thought that asserts an added option asserts none of the
                sample's: -1, and not unsure.
        """

    @final
    def verdicts(self, responses: Responses) -> Verdicts:
        """Return `conclude`'s verdicts on the responses without their answers, checked.

        Raises:
            TypeError, ValueError: the verdicts' type, dtypes, shapes or values do not fit; the message names the judge.
        """
        verdicts = self.conclude(without_answers(responses))
        if not isinstance(verdicts, Verdicts):
            raise TypeError(f"judge {self.title!r}: expected Verdicts from conclude, got {type(verdicts).__name__}")
        count = len(responses)
        expected = (("option", torch.int64), ("unsure", torch.bool), ("probability", torch.float32))
        for field, dtype in expected:
            value = getattr(verdicts, field)
            if not isinstance(value, Tensor) or value.shape != (count,) or value.dtype != dtype:
                got = f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(type(value))
                raise ValueError(
                    f"judge {self.title!r}, field {field!r}: expected {dtype} of shape {(count,)}, one value per "
                    f"response, got {got}"
                )
        beyond = (verdicts.option < -1) | (verdicts.option >= responses.option_count.to(verdicts.option.device))
        if bool(beyond.any()):
            position = int(beyond.nonzero()[0])
            raise ValueError(
                f"judge {self.title!r}, sample {responses.sample_id[position]!r}, field 'option': expected -1 or an "
                f"index below {int(responses.option_count[position])}, got {int(verdicts.option[position])}"
            )
        return verdicts

    @final
    def consistent(self, responses: Responses) -> Tensor:
        """Return whether each thought asserts the option that was answered.

        1 where it does, 0 where it asserts another one; NaN where the status is not `answered`, the thought is empty,
        the judge is unsure, the thought asserts none of the sample's options, or another one with less probability than
        `min_contradiction`.

        Args:
            responses: N responses.

        Returns:
            `(N,)` float32.

        Raises:
            TypeError, ValueError: as `verdicts`.

        Source: arXiv:2602.12506, the consistency of chain of thought and answer; what is undefined is our choice.
        """
        return self.agrees(self.verdicts(responses), responses)

    @final
    def agrees(self, verdicts: Verdicts, responses: Responses) -> Tensor:
        """Return whether the options of its verdicts are those that were answered, see `consistent`."""
        option, unsure = verdicts.option.cpu(), verdicts.unsure.cpu()
        empty = torch.tensor([not thought.strip() for thought in responses.think], dtype=torch.bool)
        weak = (option != responses.choice) & (verdicts.probability.cpu() < self.min_contradiction)
        undefined = ~responses.has_status("answered") | empty | unsure | (option < 0) | weak
        return (option == responses.choice).float().masked_fill(undefined, torch.nan)
