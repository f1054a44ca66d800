"""What a judge is: it says which option each thought asserts; the base class compares that with the answer."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, final

import torch
from pydantic import Field
from torch import Tensor

from ..models.base import RefusedError
from ..secrecy import error_text
from ..types import Responses
from ..types.frozen import Frozen

__all__ = ["MANY", "Judge", "Verdicts", "without_answers"]

MANY = 8
"""So many failures in a row, and nothing judged: it is not the thoughts."""

_OF_ALL = (RefusedError, ImportError)
"""What is no fault of one thought: a wrong key, a package that is missing."""


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """What N thoughts assert.

    Attributes:
        option: `(N,)` int64, index in `sample.options` of the option that the thought asserts; -1 = none of them.
        unsure: `(N,)` bool, whether the judge could not tell.
        probability: `(N,)` float32 in [0, 1], the judge's own probability of its verdict; NaN where it has none.
        errors: by position, what went wrong with a thought that could not be judged; it is unsure.
    """

    option: Tensor
    unsure: Tensor
    probability: Tensor
    errors: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, option: Tensor, unsure: Tensor) -> "Verdicts":
        """Return verdicts of a judge that gives no probabilities."""
        return cls(option, unsure, torch.full(option.shape, torch.nan))

    def put(self, rows: Sequence[int], others: "Verdicts") -> None:
        """Write verdicts on some of the thoughts into these; errors are left to the caller."""
        index = torch.tensor(rows)
        for name in ("option", "unsure", "probability"):
            getattr(self, name)[index] = getattr(others, name).cpu()


def without_answers(responses: Responses) -> Responses:
    """Return the responses with everything blanked that tells the answer, right or given: a judge sees the rest.

    Left are the keys, the question, the options as shown and the thoughts. The sample's metadata goes as well, since a
    data set may keep its solution there; so does the status, since `abstained` is an answer, and what stood before the
    question or was said since, since a caption tells an answer, and so does an earlier turn.
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
        history=((),) * count,
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

    Class attributes:
        is_costly: an `Evaluator` with a run directory keeps its verdicts there, so that none is asked for twice.

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

    is_costly: ClassVar[bool] = True

    @property
    def title(self) -> str:
        """The name, or else the class's."""
        return self.name or type(self).__name__

    def identity(self) -> dict[str, Any]:
        """Return what decides the verdicts, as JSON values: the class, and every field that is not the default."""
        return self.model_dump(exclude_defaults=True, exclude={"name"}) | {"class": type(self).__name__}

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

        A thought on which `conclude` raises is unsure, with the error in `Verdicts.errors`, and the others are judged.

        Raises:
            TypeError, ValueError: the verdicts' type, dtypes, shapes or values do not fit; the message names the judge.
            RefusedError: every thought failed; so does whatever `conclude` raises on the first eight that are tried.
        """
        return self.verdicts_of_part(responses, is_part=False)

    @final
    def verdicts_of_part(self, responses: Responses, *, is_part: bool) -> Verdicts:
        """Return `verdicts`, where a few thoughts that all fail are no fault of the whole.

        Args:
            responses: N responses.
            is_part: there are verdicts on other thoughts; eight that all fail are still too many.

        Raises:
            TypeError, ValueError, RefusedError: as `verdicts`.
        """
        verdicts = self._concluded(without_answers(responses), is_part)
        failures = verdicts.errors
        thoughts = sum(bool(thought.strip()) for thought in responses.think)
        if failures and len(failures) >= thoughts and (not is_part or len(failures) >= MANY):
            place, first = next(iter(failures.items()))
            raise RefusedError(
                f"judge {self.title!r} failed on all {len(failures)} thoughts; the first, of sample "
                f"{responses.sample_id[place]!r}: {first}"
            )
        return verdicts

    def _concluded(self, responses: Responses, is_part: bool) -> Verdicts:
        """Return `conclude`'s verdicts; where it raises, those of halves, down to the thoughts that are to blame."""
        try:
            verdicts = self.conclude(responses)
        except _OF_ALL:
            raise
        except Exception as error:
            if len(responses) < 2 and not is_part:
                raise
            whole = error
        else:
            return self._checked(verdicts, responses)
        count = len(responses)
        found = Verdicts.of(torch.full((count,), -1), torch.ones(count, dtype=torch.bool))
        failures: dict[int, str] = {}
        enough = MANY if is_part else min(MANY, count)
        for rows, said in self._halved(responses, range(count)):
            if isinstance(said, Exception):
                failures[rows[0]] = error_text(said)
                if len(failures) == rows[0] + 1 == enough:  # none was judged before
                    raise whole
            else:
                found.put(rows, said)
                failures |= {rows[place]: message for place, message in said.errors.items()}
        return replace(found, errors=failures)

    def _halved(
        self, responses: Responses, rows: Sequence[int]
    ) -> Iterator[tuple[Sequence[int], Verdicts | Exception]]:
        """Yield positions and the verdicts on them, or one position and the error that it makes."""
        middle = (len(rows) + 1) // 2
        for part in filter(None, (rows[:middle], rows[middle:])):
            some = responses.select(part)
            try:
                said = self.conclude(some)
            except _OF_ALL:
                raise
            except Exception as error:  # noqa: BLE001 - as above
                if len(part) > 1:
                    yield from self._halved(responses, part)
                else:
                    yield part, error
            else:
                yield part, self._checked(said, some)

    def _checked(self, verdicts: Any, responses: Responses) -> Verdicts:
        if not isinstance(verdicts, Verdicts):
            raise TypeError(f"judge {self.title!r}: expected Verdicts from conclude, got {type(verdicts).__name__}")
        count = len(responses)
        expected = (("option", torch.int64), ("unsure", torch.bool), ("probability", torch.float32))
        for name, dtype in expected:
            value = getattr(verdicts, name)
            if not isinstance(value, Tensor) or value.shape != (count,) or value.dtype != dtype:
                got = f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(type(value))
                raise ValueError(
                    f"judge {self.title!r}, field {name!r}: expected {dtype} of shape {(count,)}, one value per "
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
