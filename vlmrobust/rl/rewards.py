"""Reward completions with the metrics, through the interface that GRPO trainers expect.

One object serves TRL, ms-swift and VLM-R1 unchanged: it takes completions as texts or chat messages, by keyword or by
position, and the dataset's columns by name. This module imports neither a trainer nor transformers.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, final

import torch
from pydantic import Field, SerializeAsAny
from torch import Tensor

from ..judges import Judge, RuleJudge
from ..metrics import Accuracy, Consistency, FormatRate
from ..text import snake_case
from ..types import Responses, Style
from ..types.frozen import Frozen
from .completions import ReadCompletions, read_completions
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

_ADDED_BY = {"request_id": "ms-swift", "accu_reward_method": "VLM-R1", "log_metric": "TRL"}
"""The trainers by columns that only they add."""


class Reward(Frozen, ABC):
    r"""A number per completion. Subclasses implement `terms(responses)`; trainers call the instance.

    The text in a row's column `prefill` is prepended to its completion, so that a thought which the policy continues is
    parsed as a whole. Completions and their thoughts are parsed with the parser that evaluations use.

    Attributes:
        name: name in a trainer's logs; None = the class name in snake case.
        style: how answers are parsed; the style of the prompts.
        opener: text with which the chat template opens the assistant's turn (`"<think>\n"` for thinking templates),
            unless the trainer's tokenizer returns thoughts separately from the text.
        none_value: the reward of a row that lacks a required column; None = None, which ms-swift skips, and TRL 1.16
            too, unless the completion has other rewards: it then counts as 0. VLM-R1 does not accept None: use 0.0.

    Class attributes:
        needs: the columns that the reward requires.
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
        """Return the terms of the reward by name, each `(N,)`, with the reward itself as `score`.

        An undefined reward is 0; the other terms may be NaN there.
        """

    @final
    def rows(
        self, completions: Sequence[Any], columns: Mapping[str, Any], *, trainer: str | None = None
    ) -> list[dict[str, float] | None]:
        """Return the terms of each completion, None where its row lacks a required column.

        Args:
            completions: N texts, or N lists of chat messages; a single text or message is one completion of one row.
            columns: lists of N values by column.
            trainer: name of the calling trainer, for messages.

        Raises:
            ValueError: a column is missing or has the wrong length, or one of its values is invalid; the message names
                it.
            TypeError: a completion is neither text nor messages.
        """
        return self._read(completions, columns, trainer)[0]

    def _read(
        self, completions: Sequence[Any], columns: Mapping[str, Any], trainer: str | None
    ) -> tuple[list[dict[str, float] | None], ReadCompletions]:
        reader = f"{trainer}, {self.__name__}" if trainer else self.__name__
        parsed = read_completions(
            completions, columns, needs=self.needs, style=self.style, opener=self.opener, reader=reader
        )
        count = 1 if isinstance(completions, str | Mapping) else len(completions)
        terms: list[dict[str, float] | None] = [None] * count
        if parsed.rows:
            values = {name: value.tolist() for name, value in self.terms(parsed.responses).items()}
            for place, row in enumerate(parsed.rows):
                terms[row] = {name: value[place] for name, value in values.items()}
        return terms, parsed

    @final
    def __call__(
        self, *prompts_and_completions: Sequence[Any], completions: Sequence[Any] | None = None, **columns: Any
    ) -> list[float | None]:
        """Return one reward per completion.

        Args:
            *prompts_and_completions: completions alone, as ms-swift passes them, or prompts and completions.
            completions: N texts, or N lists of chat messages; a single text or message is one completion of one row.
            **columns: lists of N values; unused columns are ignored. With TRL's `log_metric` among them, the mean of
                each term's defined values is logged as `<reward>/<term>`, and if rows have a prefill, the share of
                completions that do not continue it as `<reward>/prefill_not_continued`.

        Raises:
            ValueError: a column is missing or has the wrong length, or one of its values is invalid; the message names
                it.
            TypeError: there are no completions, or one is neither text nor messages.
        """
        if completions is None:
            if not 1 <= len(prompts_and_completions) <= 2:
                got = len(prompts_and_completions)
                raise TypeError(
                    f"{self.__name__}: expected completions, or prompts and completions, got {got} arguments"
                )
            completions = prompts_and_completions[-1]
        trainer = next((name for column, name in _ADDED_BY.items() if column in columns), None)
        terms, parsed = self._read(completions, columns, trainer)
        log = columns.get("log_metric")
        defined = [row for row in terms if row is not None]
        if callable(log) and defined and len(defined[0]) > 1:
            for name in defined[0]:
                mean = torch.tensor([row[name] for row in defined], dtype=torch.float64).nanmean().item()
                if not math.isnan(mean):  # TRL averages over processes, where one NaN would hide the others' means
                    log(f"{self.__name__}/{name}", mean)
        if callable(log) and parsed.prefilled:
            log(f"{self.__name__}/prefill_not_continued", parsed.not_continued / parsed.prefilled)
        return [self.none_value if row is None else row["score"] for row in terms]


class AccuracyReward(Reward):
    """1 for the correct answer, else 0: the metric `Accuracy`.

    Needs the column `solution`, the correct letter. With the column `options`, answers by an option's text are parsed
    too.

    Attributes:
        weight: reward of a correct answer.

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
        weight: reward of a well-formed turn.

    Example:
        >>> FormatReward()(completions=["<think>Blue.</think><answer>B</answer>", "B"])
        [0.1, 0.0]

    Source: arXiv:2602.12506, the base reward's term 0.1 · 1[format].
    """

    weight: float = 0.1

    def terms(self, responses: Responses) -> dict[str, Tensor]:
        """Return the metric times its weight."""
        return {"score": self.weight * _or_zero(FormatRate()(responses)).double()}


class _JudgedReward(Reward):
    """A `Reward` that asks a judge what a thought concludes."""

    judge: SerializeAsAny[Judge] = Field(default_factory=RuleJudge)

    def __init__(self, judge: Judge | None = None, **fields: Any) -> None:
        super().__init__(**({} if judge is None else {"judge": judge}) | fields)


class ConsistencyReward(_JudgedReward):
    """1 where the thought's conclusion is the given answer, else 0: the metric `Consistency`, 0 where it is undefined.

    Unsure, empty or unclosed thoughts earn nothing; otherwise vagueness would pay. Needs `question` and `options`.

    Attributes:
        judge: decides which option a thought asserts.

    Example:
        >>> texts = [f"<think>The cube is blue.</think><answer>{letter}</answer>" for letter in "BA"]
        >>> ConsistencyReward(RuleJudge())(completions=texts, question=["Which?"] * 2, options=[["red", "blue"]] * 2)
        [1.0, 0.0]

    Source: arXiv:2602.12506, the judge's indicator 1[think ≡ answer].
    """

    needs = ("question", "options")

    def terms(self, responses: Responses) -> dict[str, Tensor]:
        """Return the metric, 0 where it is undefined."""
        return {"score": _or_zero(Consistency(judge=self.judge)(responses))}


class FaithfulnessReward(_JudgedReward):
    """The paper's reward, (0.1 · format + accuracy) · consistent, with guards against shortcuts.

    Needs `solution`, `question` and `options`. Its terms are `format`, `accuracy`, `consistency`, each guard by its
    name, and `score`. The product of consistency and guards is 0 where one of them is undefined.

    Attributes:
        judge: decides which option a thought asserts.
        format_weight: reward of a well-formed turn.
        additive: None = the product. A number = the additive form
            0.1 · format + accuracy + additive · consistent, in which a wrong answer earns something for consistency.
        guards: factors of `consistent`: those of `vlmrobust.rl.guards`, or any metric in [0, 1].
        unsure: reward of a thought about which the judge is unsure: "nothing", or "named": that of a consistent one if
            it names the given answer. None = "named" with guards, else "nothing": without guards, vagueness would pay.

    Example:
        >>> texts = [f"<think>The cube is blue.</think><answer>{letter}</answer>" for letter in "BA"]
        >>> columns = {"solution": ["B"] * 2, "question": ["Which?"] * 2, "options": [["red", "blue"]] * 2}
        >>> FaithfulnessReward(RuleJudge())(completions=texts, **columns)
        [1.1, 0.0]

    Source: arXiv:2602.12506, the faithfulness-aware reward; the additive form and the guards are ours.
    """

    format_weight: float = 0.1
    additive: float | None = None
    guards: tuple[Guard, ...] = ()
    unsure: Literal["nothing", "named"] | None = None

    needs = ("solution", "question", "options")

    def terms(self, responses: Responses) -> dict[str, Tensor]:
        """Return format, accuracy, consistency, the guards, and the score computed from them."""
        factors = {guard.column: guard(responses) for guard in (Consistency(judge=self.judge), *self.guards)}
        terms = {"format": FormatRate()(responses), "accuracy": Accuracy()(responses), **factors}
        base = self.format_weight * _or_zero(terms["format"]).double() + _or_zero(terms["accuracy"])
        if (self.unsure or ("named" if self.guards else "nothing")) == "named":
            consistency = terms["consistency"].clone()
            for row in consistency.isnan().nonzero()[:, 0].tolist():
                consistency[row] = names_answer(responses, row)
            factors["consistency"] = consistency
        consistent = torch.ones_like(base)
        for factor in factors.values():
            consistent = consistent * _or_zero(factor)
        score = base * consistent if self.additive is None else base + self.additive * consistent
        return {**terms, "score": score}


def _or_zero(values: Tensor) -> Tensor:
    return values.nan_to_num(nan=0.0)


accuracy_reward = AccuracyReward()
format_reward = FormatReward()
consistency_reward = ConsistencyReward()
faithfulness_reward = FaithfulnessReward()
