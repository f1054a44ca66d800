"""Define judges, which find the option that each thought asserts; the base class compares it with the answer."""

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

__all__ = ["MANY", "Judge", "Verdicts", "title_of", "without_answers"]

MANY = 8
"""After this many failures without a verdict, the fault is not with the thoughts."""

_FATAL = (RefusedError, ImportError)
"""Errors that affect every thought: a wrong key, a missing package."""


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """The options that N thoughts assert.

    Attributes:
        option: `(N,)` int64, index in `sample.options` of the option that the thought asserts; -1 = none of them.
        unsure: `(N,)` bool, whether the judge could not decide.
        probability: `(N,)` float32 in [0, 1], the judge's own probability of its verdict; NaN where it has none.
        errors: by position, why a thought could not be judged; such thoughts are unsure.
    """

    option: Tensor
    unsure: Tensor
    probability: Tensor
    errors: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, option: Tensor, unsure: Tensor) -> "Verdicts":
        """Return verdicts without probabilities."""
        return cls(option, unsure, torch.full(option.shape, torch.nan))

    def put(self, rows: Sequence[int], others: "Verdicts") -> None:
        """Insert verdicts on some of the thoughts at `rows`; errors are left to the caller."""
        index = torch.tensor(rows)
        for name in ("option", "unsure", "probability"):
            getattr(self, name)[index] = getattr(others, name).cpu()


def without_answers(responses: Responses) -> Responses:
    """Return the responses for a judge, with everything blanked that reveals the target or the answer.

    The keys, the question, the options as shown and the thoughts remain. Removed are also the sample's metadata, which
    may contain the solution; the status, since `abstained` is an answer; and context and history, since captions and
    earlier turns contain answers.
    """
    count = len(responses)
    none = torch.full((count,), -1, dtype=torch.int64)
    unknown = torch.full((count,), torch.nan)
    return replace(
        responses,
        option_logprobs=torch.full_like(responses.option_logprobs, torch.nan),
        added_logprobs=torch.full_like(responses.added_logprobs, torch.nan),
        target=none,
        choice=none,
        distractor=none,
        asserted=none,
        token_entropy=unknown,
        n_tokens=none,
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
    r"""Finds the options that thoughts assert; subclasses implement `conclude`.

    Attributes:
        name: the judge's name in reports; the class name if empty.
        min_contradiction: in [0, 1], the minimum probability of a verdict that makes an answer inconsistent; below it,
            consistency is undefined. Inconsistency is rare (about 2.5 % of real responses), so a judge with an error
            rate of 5 % is mostly wrong when it reports one. Verdicts without a probability always count.

    Class attributes:
        is_costly: an `Evaluator` with a run directory stores the verdicts there, so that no thought is judged twice.

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
        """The name, or else the class name."""
        return self.name or type(self).__name__

    def identity(self) -> dict[str, Any]:
        """Return what determines the verdicts, as JSON values: the class and the fields that are not the default."""
        return self.model_dump(exclude_defaults=True, exclude={"name"}) | {"class": type(self).__name__}

    @abstractmethod
    def conclude(self, responses: Responses) -> Verdicts:
        """Return the option that each thought asserts.

        Args:
            responses: N responses without their answers. Letters in a thought refer to `responses.options`, the options
                as shown, with the letters in `responses.letters`; `responses.order` gives their indices in
                `sample.options`, None = an added option. For a thought that asserts an added option, return -1, and
                not unsure.
        """

    @final
    def verdicts(self, responses: Responses) -> Verdicts:
        """Return the validated verdicts of `conclude` on the responses without their answers.

        A thought on which `conclude` raises is unsure, with the error in `Verdicts.errors`; the others are judged.

        Raises:
            TypeError, ValueError: type, dtypes, shapes or values of the verdicts are invalid; the message names the
                judge.
            RefusedError: every thought failed. If `conclude` fails on the first eight, its own exception is raised.
        """
        return self.verdicts_of_part(responses, is_part=False)

    @final
    def verdicts_of_part(self, responses: Responses, *, is_part: bool) -> Verdicts:
        """Return `verdicts`, but tolerate a few thoughts that all fail.

        Args:
            responses: N responses.
            is_part: the responses are part of a larger set; eight thoughts that all fail still raise.

        Raises:
            TypeError, ValueError, RefusedError: as `verdicts`.
        """
        verdicts = self._conclude_robustly(without_answers(responses), is_part)
        failures = verdicts.errors
        thoughts = sum(bool(thought.strip()) for thought in responses.think)
        if failures and len(failures) >= thoughts and (not is_part or len(failures) >= MANY):
            position, first = next(iter(failures.items()))
            raise RefusedError(
                f"judge {self.title!r} failed on all {len(failures)} thoughts; the first, of sample "
                f"{responses.sample_id[position]!r}: {first}"
            )
        return verdicts

    def _conclude_robustly(self, responses: Responses, is_part: bool) -> Verdicts:
        """Return the verdicts of `conclude`; if it raises, bisect the responses to isolate the thoughts that fail."""
        try:
            verdicts = self.conclude(responses)
        except _FATAL:
            raise
        except Exception as error:
            if len(responses) < 2 and not is_part:
                raise
            first_error = error
        else:
            return self._validated(verdicts, responses)
        count = len(responses)
        found = Verdicts.of(torch.full((count,), -1), torch.ones(count, dtype=torch.bool))
        failures: dict[int, str] = {}
        limit = MANY if is_part else min(MANY, count)
        for rows, result in self._bisected(responses, range(count)):
            if isinstance(result, Exception):
                failures[rows[0]] = error_text(result)
                if len(failures) == rows[0] + 1 == limit:  # nothing was judged so far
                    raise first_error
            else:
                found.put(rows, result)
                failures |= {rows[position]: message for position, message in result.errors.items()}
        return replace(found, errors=failures)

    def _bisected(
        self, responses: Responses, rows: Sequence[int]
    ) -> Iterator[tuple[Sequence[int], Verdicts | Exception]]:
        """Yield positions with the verdicts on them, or a single position with its error."""
        middle = (len(rows) + 1) // 2
        for part in filter(None, (rows[:middle], rows[middle:])):
            some = responses.select(part)
            try:
                verdicts = self.conclude(some)
            except _FATAL:
                raise
            except Exception as error:  # noqa: BLE001 - as above
                if len(part) > 1:
                    yield from self._bisected(responses, part)
                else:
                    yield part, error
            else:
                yield part, self._validated(verdicts, some)

    def _validated(self, verdicts: Any, responses: Responses) -> Verdicts:
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
        invalid = (verdicts.option < -1) | (verdicts.option >= responses.option_count.to(verdicts.option.device))
        if bool(invalid.any()):
            position = int(invalid.nonzero()[0])
            raise ValueError(
                f"judge {self.title!r}, sample {responses.sample_id[position]!r}, field 'option': expected -1 or an "
                f"index below {int(responses.option_count[position])}, got {int(verdicts.option[position])}"
            )
        return verdicts

    @final
    def consistent(self, responses: Responses) -> Tensor:
        """Return whether each thought asserts the given answer.

        1 if it does, 0 if it asserts another option; NaN if the status is not `answered`, the thought is empty, the
        judge is unsure, or the thought asserts none of the sample's options, or another option with a probability below
        `min_contradiction`.

        Args:
            responses: N responses.

        Returns:
            `(N,)` float32.

        Raises:
            TypeError, ValueError: as `verdicts`.

        Source: arXiv:2602.12506, the consistency of chain of thought and answer; the undefined cases are our choice.
        """
        return self.agrees(self.verdicts(responses), responses)

    @final
    def agrees(self, verdicts: Verdicts, responses: Responses) -> Tensor:
        """Return whether the options of its verdicts equal the answers; see `consistent`."""
        option, unsure = verdicts.option.cpu(), verdicts.unsure.cpu()
        empty = torch.tensor([not thought.strip() for thought in responses.think], dtype=torch.bool)
        weak = (option != responses.choice) & (verdicts.probability.cpu() < self.min_contradiction)
        undefined = ~responses.has_status("answered") | empty | unsure | (option < 0) | weak
        return (option == responses.choice).float().masked_fill(undefined, torch.nan)


def title_of(identity: Mapping[str, Any]) -> str:
    """Return a judge's name for running text.

    Example:
        >>> title_of({"class": "Panel", "judges": [{"class": "RuleJudge"}, {"class": "LMJudge", "name": "org/model"}]})
        'Panel of RuleJudge and LMJudge org/model'
    """
    if "judges" in identity:
        return f"{identity['class']} of {' and '.join(map(title_of, identity['judges']))}"
    return " ".join(filter(None, (identity["class"], identity.get("name", ""))))
