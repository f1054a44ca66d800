"""Guards against thoughts that earn the consistency reward without thinking: factors for `FaithfulnessReward`.

A policy that is paid for agreement of thought and answer finds that the shortest thought agrees most easily, and that
one sentence with a gap for the option fits every question. Any metric in [0, 1] may be a guard; those here that are
metrics also go into an `Evaluator`, to be watched where they are not paid for.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Protocol, runtime_checkable

import torch
from pydantic import Field, PlainSerializer, SerializeAsAny
from torch import Tensor

from ..judges import Judge, RuleJudge
from ..metrics import Metric, ThoughtLength
from ..naming import snake_case
from ..perturbations.texts import callable_name
from ..types import Responses
from ..types.validated import Frozen

if TYPE_CHECKING:
    from scipy import sparse

__all__ = ["Guard", "LongEnough", "Reader", "Sufficient", "Untemplated"]

Reader = Annotated[
    Callable[[str, Sequence[str], str], int | None],
    PlainSerializer(callable_name, return_type=str),
]

_WORD = re.compile(r"\w+")


@runtime_checkable
class Guard(Protocol):
    """A factor of a reward: every `Metric` is one, and so is what looks at a batch as a whole."""

    @property
    def column(self) -> str:
        """How it is called in logs."""

    def __call__(self, responses: Responses) -> Tensor:
        """Return `(N,)` values in [0, 1]; NaN = undefined, which earns 0."""


class LongEnough(Metric):
    """Share of thoughts of enough words; what was injected does not count.

    1 or 0: a thought of fewer words, an empty one included, is 0.

    Attributes:
        words: how many words are enough. Take it from the thoughts before training, well below their usual length: it
            is a floor against collapse, and a policy that is held at it has collapsed.

    Example:
        >>> LongEnough(words=20).column
        'long_enough'

    Source: arXiv:2602.12506 reports the collapse to very short thoughts; this guard is ours.
    """

    words: int = Field(default=10, ge=1)

    higher_is_better = True

    def per_sample(self, responses: Responses) -> Tensor:
        """Return 1 where the thought has enough words, else 0; NaN where the model did not write at all."""
        length = ThoughtLength().per_sample(responses)
        return torch.where(length.isnan(), torch.nan, (length >= self.words).float())


class Untemplated(Frozen):
    """1 for a thought that no other thought of the batch repeats with another option put in, else 0.

    It looks at what is rewarded together, so it is no metric. Thoughts to another question, or to the same one but with
    another answer, are compared; options and letters are left out of the comparison. A thought gets 0 if one of them
    has at least `similarity` of its word n-grams. Two completions of one prompt that agree in their answer may well
    agree in their thought: they are not compared.

    Attributes:
        similarity: in (0, 1], share of a thought's n-grams from which on another thought counts as the same.
        n: words in an n-gram; a shorter thought is one n-gram as a whole.

    Example:
        >>> Untemplated().column
        'untemplated'

    Source: arXiv:2602.12506 reports templated thoughts under the faithfulness reward; this guard is ours.
    """

    similarity: float = Field(default=0.9, gt=0, le=1)
    n: int = Field(default=3, ge=1)

    @property
    def column(self) -> str:
        """How it is called in logs."""
        return snake_case(type(self).__name__)

    def __call__(self, responses: Responses) -> Tensor:
        """Return 0 where another thought says the same of another option, else 1; NaN for an empty thought."""
        grams = [self._grams(row, responses) for row in range(len(responses))]
        table = _incidence(grams)
        shared = torch.from_numpy((table @ table.T).toarray())
        answers = list(zip(responses.question, responses.options, responses.choice.tolist(), strict=True))
        number = {answer: place for place, answer in enumerate(dict.fromkeys(answers))}
        group = torch.tensor([number[answer] for answer in answers])
        sizes = torch.tensor([len(of_row) for of_row in grams], dtype=torch.float32)
        other = group[:, None] != group[None, :]
        same = other & (shared >= self.similarity * sizes[:, None] - 1e-6)
        return torch.where(sizes > 0, (~same.any(dim=1)).float(), torch.nan)

    def _grams(self, row: int, responses: Responses) -> set[tuple[str, ...]]:
        named = {word for option in responses.options[row] for word in _WORD.findall(option.lower())}
        words = [
            word for word in _WORD.findall(responses.own_think[row].lower()) if word not in named and len(word) > 1
        ]
        if not words:
            return set()
        return {tuple(words[start : start + self.n]) for start in range(max(1, len(words) - self.n + 1))}


class Sufficient(Metric):
    """Share of answers that a reader recovers from the thought alone, without the image.

    1 or 0; NaN where there is no answer or the model wrote no thought of its own. The reader gets what the model itself
    wrote: an injected thought that it only closes is not its own. With a judge this is consistency of the own thought;
    a callable may be a text-only language model that is asked the question with the thought as its only evidence.

    Attributes:
        reader: a judge; or a callable `(question, options, thought) -> index` in the options as shown, None = cannot
            tell, which earns 0.

    Example:
        >>> Sufficient().column
        'sufficient'

    Source: Vision-SR1 re-answers from the model's own description without the image; arXiv:2508.19652.
    """

    reader: SerializeAsAny[Judge] | Reader = Field(default_factory=RuleJudge)

    higher_is_better = True

    def per_sample(self, responses: Responses) -> Tensor:
        """Return 1 where the reader comes to the answer that was given, else 0."""
        if isinstance(self.reader, Judge):
            return self.reader.consistent(replace(responses, think=responses.own_think, prefill=("",) * len(responses)))
        values = []
        for row, thought in enumerate(responses.own_think):
            if responses.status[row] != "answered" or not thought.strip():
                values.append(torch.nan)
                continue
            found = self.reader(responses.question[row], responses.options[row], thought)
            own = None if found is None else responses.order[row][found]
            values.append(float(own is not None and own == int(responses.choice[row])))
        return torch.tensor(values)


def _incidence(grams: Sequence[set[tuple[str, ...]]]) -> "sparse.csr_array":
    """Return which thought has which n-gram, `(N, number of n-grams)`."""
    import numpy as np
    from scipy import sparse

    number: dict[tuple[str, ...], int] = {}
    columns = [number.setdefault(gram, len(number)) for of_row in grams for gram in sorted(of_row)]
    starts = np.cumsum([0, *(len(of_row) for of_row in grams)])
    ones = np.ones(len(columns), dtype=np.float32)
    return sparse.csr_array((ones, columns, starts), shape=(len(grams), max(1, len(number))))
