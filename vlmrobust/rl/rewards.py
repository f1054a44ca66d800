"""Reward completions with the metrics, called as GRPO trainers call a reward.

One object serves TRL, ms-swift and VLM-R1 unchanged: called with completions as texts or chat messages, by keyword or
by position, and the dataset's columns by name. It imports no trainer, and not transformers either.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, final

import torch
from pydantic import Field, SerializeAsAny
from torch import Tensor

from ..judges import Judge, RuleJudge
from ..metrics import Accuracy, Consistency, FormatRate
from ..naming import snake_case
from ..types import Responses, Style
from ..types.frozen import Frozen
from .completions import Read, read
from .guards import Guard
from .lexicon import names_answer

__all__ = [
    "AccuracyReward",
    "ConsistencyReward",
    "FaithfulnessReward",
    "FormatReward",
    "Reward",
    "accuracy_reward",
    "consistency_reward",
    "faithfulness_reward",
    "format_reward",
]


class Reward(Frozen, ABC):
    r"""A number per completion. Subclasses write `terms(responses)`; calling one is what a trainer does.

    The prefill in a row's column `prefill` is put before its completion, so that a thought which the policy continues
    is read as a whole. Completions, and the thoughts in them, are read by the code that evaluation uses.

    Attributes:
        name: how the reward is called in a trainer's logs; None = the class name in snake case.
        style: how answers are read; that of the prompts.
        opener: what the chat template itself begins the assistant's turn with (`"<think>\n"` for thinking templates),
            unless the trainer's tokenizer returns thoughts apart from the text.
        none_value: the reward of a row that lacks what the reward needs; None = None, which TRL and ms-swift skip.
            VLM-R1 cannot take None: give 0.0.

    Class attributes:
        needs: the columns that it reads.
    """

    name: str | None = Field(default=None, min_length=1)
    style: Style = Field(default_factory=Style)
    opener: str = ""
    none_value: float | None = None

    needs: ClassVar[tuple[str, ...]] = ()

    @property
    def __name__(self) -> str:
        return self.name or snake_case(type(self).__name__)  # type: ignore[arg-type]  # the class has its own

    @abstractmethod
    def terms(self, responses: Responses) -> dict[str, Tensor]:
        """Return what the reward consists of by name, each `(N,)`, the reward itself as `score`.

        The reward of what is undefined is 0; the other terms may be NaN there.
        """

    @final
    def rows(
        self, completions: Sequence[Any], columns: Mapping[str, Any], *, trainer: str | None = None
    ) -> list[dict[str, float] | None]:
        """Return the terms of each completion, None where its row lacks what the reward needs.

        Args:
            completions: N texts, or N lists of chat messages; one by itself is one completion, of one row.
            columns: lists of N values by column.
            trainer: who calls, for messages.

        Raises:
            ValueError: a column is missing or has another length, or a value in it cannot be read; it is named.
            TypeError: a completion is neither text nor messages.
        """
        return self._read(completions, columns, trainer)[0]

    def _read(
        self, completions: Sequence[Any], columns: Mapping[str, Any], trainer: str | None
    ) -> tuple[list[dict[str, float] | None], Read]:
        reader = f"{trainer}, {self.__name__}" if trainer else self.__name__
        found = read(completions, columns, needs=self.needs, style=self.style, opener=self.opener, reader=reader)
        count = 1 if isinstance(completions, str | Mapping) else len(completions)
        terms: list[dict[str, float] | None] = [None] * count
        if found.rows:
            values = {name: value.tolist() for name, value in self.terms(found.responses).items()}
            for place, row in enumerate(found.rows):
                terms[row] = {name: value[place] for name, value in values.items()}
        return terms, found

    @final
    def __call__(
        self, *prompts_and_completions: Sequence[Any], completions: Sequence[Any] | None = None, **columns: Any
    ) -> list[float | None]:
        """Return one reward per completion.

        Args:
            *prompts_and_completions: completions alone, as ms-swift gives them, or prompts and completions.
            completions: N texts, or N lists of chat messages; one by itself is one completion, of one row.
            **columns: lists of N values; what the reward has no use for is ignored. With TRL's `log_metric` among them,
                the mean of each term is logged as `<reward>/<term>`, and where rows have a prefill, the share of
                completions that did not go on from it as `<reward>/prefill_not_continued`.

        Raises:
            ValueError: a column is missing or has another length, or a value in it cannot be read; it is named.
            TypeError: there are no completions, or one is neither text nor messages.
        """
        if completions is None:
            if not 1 <= len(prompts_and_completions) <= 2:
                got = len(prompts_and_completions)
                raise TypeError(
                    f"{self.__name__}: expected completions, or prompts and completions, got {got} arguments"
                )
            completions = prompts_and_completions[-1]
        terms, found = self._read(completions, columns, _trainer_of(columns))
        log = columns.get("log_metric")
        defined = [row for row in terms if row is not None]
        if callable(log) and defined and len(defined[0]) > 1:
            for name in defined[0]:
                log(f"{self.__name__}/{name}", _mean([row[name] for row in defined]))
        if callable(log) and found.prefilled:
            log(f"{self.__name__}/prefill_not_continued", found.not_continued / found.prefilled)
        return [self.none_value if row is None else row["score"] for row in terms]


class AccuracyReward(Reward):
    """1 for the correct answer, else 0: the metric `Accuracy`.

    Needs the column `solution`, the correct letter. With the column `options` an answer by the option's text is read as
    well.

    Attributes:
        weight: what a correct answer earns.

    Example:
        >>> AccuracyReward()(completions=["<think>Blue.</think><answer>B</answer>", "A"], solution=["B", "B"])
        [1.0, 0.0]

    Source: arXiv:2602.12506, the base reward's term 1.0 · 1[answer correct].
    """

    weight: float = 1.0

    needs = ("solution",)

    def terms(self, responses: Responses) -> dict[str, Tensor]:
        """Return the metric times its weight."""
        return {"score": self.weight * _or_zero(Accuracy()(responses))}


class FormatReward(Reward):
    """0.1 for a turn that is one thought in its tags and one answer in its tags, else 0: the metric `FormatRate`.

    Needs no column.

    Attributes:
        weight: what a well-formed turn earns.

    Example:
        >>> FormatReward()(completions=["<think>Blue.</think><answer>B</answer>", "B"])
        [0.1, 0.0]

    Source: arXiv:2602.12506, the base reward's term 0.1 · 1[format].
    """

    weight: float = 0.1

    def terms(self, responses: Responses) -> dict[str, Tensor]:
        """Return the metric times its weight."""
        return {"score": self.weight * _or_zero(FormatRate()(responses)).double()}


class ConsistencyReward(Reward):
    """1 where the thought concludes with the answer, else 0: the metric `Consistency`, undefined being 0.

    Unsure, empty or unclosed thoughts earn nothing; otherwise vagueness would pay. Needs `question` and `options`.

    Attributes:
        judge: says what a thought asserts.

    Example:
        >>> texts = [f"<think>The cube is blue.</think><answer>{letter}</answer>" for letter in "BA"]
        >>> ConsistencyReward(RuleJudge())(completions=texts, question=["Which?"] * 2, options=[["red", "blue"]] * 2)
        [1.0, 0.0]

    Source: arXiv:2602.12506, the judge's indicator 1[think ≡ answer].
    """

    judge: SerializeAsAny[Judge] = Field(default_factory=RuleJudge)

    needs = ("question", "options")

    def __init__(self, judge: Judge | None = None, **fields: Any) -> None:
        super().__init__(**({} if judge is None else {"judge": judge}) | fields)

    def terms(self, responses: Responses) -> dict[str, Tensor]:
        """Return the metric, 0 where it is undefined."""
        return {"score": _or_zero(Consistency(judge=self.judge)(responses))}


class FaithfulnessReward(Reward):
    """The paper's reward, (0.1 · format + accuracy) · consistent, and what guards it against shortcuts.

    Needs `solution`, `question` and `options`. Its terms are `format`, `accuracy`, `consistency` (the product of the
    consistency and all guards is 0 where one of them is undefined), each guard by its name, and `score`.

    Attributes:
        judge: says what a thought asserts.
        format_weight: what a well-formed turn earns.
        additive: None = the product. A number = the additive form
            0.1 · format + accuracy + additive · consistent, in which a wrong answer earns something for consistency.
        guards: what `consistent` is multiplied with: those of `vlmrobust.rl.guards`, or any metric in [0, 1].
        unsure: what a thought earns of which the judge is unsure: "nothing", or "named": the same as a consistent one
            where it names the option that is answered. None = "named" where guards watch it, else "nothing": without
            them, vagueness would pay.

    Example:
        >>> texts = [f"<think>The cube is blue.</think><answer>{letter}</answer>" for letter in "BA"]
        >>> columns = {"solution": ["B"] * 2, "question": ["Which?"] * 2, "options": [["red", "blue"]] * 2}
        >>> FaithfulnessReward(RuleJudge())(completions=texts, **columns)
        [1.1, 0.0]

    Source: arXiv:2602.12506, the faithfulness-aware reward; the additive form and the guards are ours.
    """

    judge: SerializeAsAny[Judge] = Field(default_factory=RuleJudge)
    format_weight: float = 0.1
    additive: float | None = None
    guards: tuple[Guard, ...] = ()
    unsure: Literal["nothing", "named"] | None = None

    needs = ("solution", "question", "options")

    def __init__(self, judge: Judge | None = None, **fields: Any) -> None:
        super().__init__(**({} if judge is None else {"judge": judge}) | fields)

    def terms(self, responses: Responses) -> dict[str, Tensor]:
        """Return format, accuracy, consistency, the guards, and the score made of them."""
        factors = {guard.column: guard(responses) for guard in (Consistency(judge=self.judge), *self.guards)}
        terms = {"format": FormatRate()(responses), "accuracy": Accuracy()(responses), **factors}
        base = self.format_weight * _or_zero(terms["format"]).double() + _or_zero(terms["accuracy"])
        if (self.unsure or ("named" if self.guards else "nothing")) == "named":
            settled = terms["consistency"].clone()
            for row in settled.isnan().nonzero()[:, 0].tolist():
                settled[row] = names_answer(responses, row)
            factors["consistency"] = settled
        consistent = torch.ones_like(base)
        for factor in factors.values():
            consistent = consistent * _or_zero(factor)
        score = base * consistent if self.additive is None else base + self.additive * consistent
        return {**terms, "score": score}


def _trainer_of(columns: Mapping[str, Any]) -> str | None:
    """Return which trainer calls, by the columns that it alone adds; None = that cannot be told."""
    return next((trainer for name, trainer in _ADDED_BY.items() if name in columns), None)


_ADDED_BY = {"request_id": "ms-swift", "accu_reward_method": "VLM-R1", "log_metric": "TRL"}


def _or_zero(values: Tensor) -> Tensor:
    return values.nan_to_num(nan=0.0)


def _mean(values: Sequence[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).nanmean())


accuracy_reward = AccuracyReward()
format_reward = FormatReward()
consistency_reward = ConsistencyReward()
faithfulness_reward = FaithfulnessReward()
