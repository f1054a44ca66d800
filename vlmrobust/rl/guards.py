"""Guard against thoughts that earn the consistency reward without thinking: factors for `FaithfulnessReward`.

A policy that is paid for agreement of thought and answer finds that the shortest thought agrees most easily, and that
one sentence with a gap for the option fits every question. Any metric in [0, 1] may be a guard; those here that are
metrics also go into an `Evaluator`, to be watched where they are not paid for.
"""

import re
import warnings
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, NamedTuple, Protocol, runtime_checkable

import torch
from pydantic import Field, PlainSerializer, PrivateAttr, SerializeAsAny
from torch import Tensor

from ..judges import Judge, RuleJudge
from ..metrics import FormatRate, Metric
from ..naming import snake_case
from ..perturbations.texts import callable_name
from ..prompting.words import plain_form
from ..types import Responses
from ..types.frozen import Frozen
from .lexicon import (
    FUNCTION_WORDS,
    admits_guess,
    count_own_words,
    count_words,
    has_own_pairs,
    mixes_scripts,
    plain_forms,
    readable,
    without_announcements,
    words_of,
)

if TYPE_CHECKING:
    from scipy import sparse

__all__ = [
    "Guard",
    "LongEnough",
    "Prose",
    "Reader",
    "Substantial",
    "Sufficient",
    "Unguessed",
    "Untemplated",
    "recommended",
]

_WORDS_AND_STOPS = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|[.!?:;,\n()\[\]]")
_LATIN_ENDS = "\u0250"

Reader = Annotated[
    Callable[[str, Sequence[str], str], int | None],
    PlainSerializer(callable_name, return_type=str),
]


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

    1 or 0: a thought of fewer words, an empty one included, is 0. What a reader can read counts, in any script: dots,
    characters without width and comments do not, and where no spaces stand between words, two characters are one.

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
        counts = torch.tensor([count_words(thought) for thought in responses.own_think])
        unwritten = responses.well_formed.isnan() & (counts == 0)
        return torch.where(unwritten, torch.nan, (counts >= self.words).float())


class _ThoughtRate(Metric):
    """Rates the model's own thought given the question and its options; NaN where there is no thought."""

    higher_is_better = True

    def per_sample(self, responses: Responses) -> Tensor:
        """Return the value of each thought."""
        rows = zip(responses.own_think, responses.question, responses.options, strict=True)
        return torch.tensor([self._value(*row) if row[0] else torch.nan for row in rows])

    @abstractmethod
    def _value(self, thought: str, question: str, options: tuple[str, ...]) -> float:
        """Return 1 or 0 for a thought that is not empty."""


class Substantial(_ThoughtRate):
    """Share of thoughts that say something that is neither question, nor option, nor the manner of answering.

    1 or 0. Counted are a thought's different words without articles, pronouns and the like, without the words of
    question and options, and without what may be said of any image ("looking carefully, I conclude that the correct
    answer is"). Half as many are enough where a thought says the question's own words anew: by the pairs of
    neighbouring words that the question does not have; beside all options and letters ("Say A. Say B.") a word makes
    one such pair. What only announces a thought ("I will now think about it in detail") and what was injected do not
    count.

    Attributes:
        words: how many words are enough; where no spaces stand between words, two characters are one.
        pairs: how many pairs are enough where only half of the words are there.

    Example:
        >>> Substantial().column
        'substantial'

    Source: ours, against thoughts that paste the question, list the options, or fit every image.
    """

    words: int = Field(default=2, ge=1)
    pairs: int = Field(default=4, ge=1)

    def _value(self, thought: str, question: str, options: tuple[str, ...]) -> float:
        """Return 1 where a thought has words or pairs enough, else 0."""
        thought = without_announcements(thought)
        found = count_own_words(thought, question, options)
        anew = 2 * found >= self.words > found and has_own_pairs(self.pairs, thought, question, options)
        return float(anew or found >= self.words)


class Prose(_ThoughtRate):
    """Share of thoughts that are sentences, and not words in a row, invented or real.

    1 or 0, for words in Latin letters: the share of articles, pronouns, prepositions and the like, of some twenty
    languages, is at least `share` where a thought has `words` words, no row of words without them and without a stop
    makes up a large part of it, and no word has letters of two alphabets. Texts in other scripts are not told apart: 1.
    Words of question and options end a row.

    Attributes:
        share: in [0, 1]; sentences of the languages of the list have a third and more.
        words: from how many words on the share is looked at; notes ("Tall grass, long ears: hare.") have fewer.
        run: from how many words without such a word in a row on a thought is looked at.
        run_share: in (0, 1], share of the thought's words from which on such a row is too long.

    Example:
        >>> Prose().column
        'prose'

    Source: ours, against random words and letters.
    """

    share: float = Field(default=0.2, ge=0, le=1)
    words: int = Field(default=12, ge=1)
    run: int = Field(default=6, ge=1)
    run_share: float = Field(default=0.35, gt=0, le=1)

    def _value(self, thought: str, question: str, options: tuple[str, ...]) -> float:
        """Return 1 for sentences, else 0."""
        words = [word for word in words_of(thought) if word[0].isalpha()]
        latin = [word for word in words if word[0] < _LATIN_ENDS]
        if 2 * len(latin) <= len(words):  # letters and formulas in a text of another script
            return float(bool(words))
        grammar = sum(word in FUNCTION_WORDS for word in latin)
        longest = self._longest_run(thought, plain_forms(question) | plain_forms(*options))
        in_a_row = longest >= max(self.run, self.run_share * len(latin))
        too_few = len(latin) >= self.words and grammar < self.share * len(latin)
        mixed = not thought.isascii() and any(map(mixes_scripts, words))
        return float(not (too_few or in_a_row or mixed))

    def _longest_run(self, thought: str, asked: frozenset[str]) -> int:
        """Return how many words stand in a row at most without grammar, a word of the question, or a stop."""
        longest = row = 0
        for word in _WORDS_AND_STOPS.findall(readable(thought)):
            if not word[0].isalpha() or word in FUNCTION_WORDS or plain_form(word) in asked:
                row = 0
            else:
                row += 1
                longest = max(longest, row)
        return longest


class Unguessed(_ThoughtRate):
    """Share of thoughts that do not say that they guess, or that there is no image.

    1 or 0. "I cannot see the picture, so I pick one at random" is an answer that agrees with its thought, and no look
    at the image. A thought that says much else may call a step a guess.

    Attributes:
        words: from how many words of its own on (see `Substantial`) a thought may say so.

    Example:
        >>> Unguessed().column
        'unguessed'

    Source: ours; read in English, German, French, Spanish, Chinese and Japanese.
    """

    words: int = Field(default=12, ge=0)

    def _value(self, thought: str, question: str, options: tuple[str, ...]) -> float:
        """Return 0 where a thought admits a guess, else 1."""
        return float(count_own_words(thought, question, options) >= self.words or not admits_guess(thought))


class _Thought(NamedTuple):
    """What `Untemplated` compares thoughts by: n-grams, and the question, the options and the answer."""

    grams: frozenset[tuple[str, ...]]
    answers: tuple[str, tuple[str, ...], int]


class _Seen(deque[_Thought]):
    """Thoughts of earlier calls, which are no part of what a guard is: any two are equal."""

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Seen)


class Untemplated(Frozen):
    """1 for a thought that no other thought repeats with another option put in, else 0.

    It looks at what is rewarded together, and at the last thoughts that it saw before, so it is no metric. Thoughts to
    another question, or to the same one but with another answer, are compared; options and letters are left out of the
    comparison. A thought gets 0 if one of them has at least `similarity` of its word n-grams. Two completions of one
    prompt that agree in their answer may well agree in their thought: they are not compared. NaN, with a warning, where
    there is nothing to compare with: one question, one answer, and nothing remembered. Undefined, it earns nothing: a
    template would otherwise be paid for wherever it stands alone.

    Attributes:
        similarity: in (0, 1], share of a thought's n-grams from which on another thought counts as the same.
        n: words in an n-gram; a shorter thought is one n-gram as a whole.
        memory: how many thoughts of earlier calls are remembered, for trainers that reward one sample, or the samples
            of one prompt, at a time. Each process remembers its own; 0 = none.

    Example:
        >>> Untemplated().column
        'untemplated'

    Source: arXiv:2602.12506 reports templated thoughts under the faithfulness reward; this guard is ours.
    """

    similarity: float = Field(default=0.9, gt=0, le=1)
    n: int = Field(default=3, ge=1)
    memory: int = Field(default=0, ge=0)

    _seen: _Seen = PrivateAttr(default_factory=_Seen)

    @property
    def column(self) -> str:
        """How it is called in logs."""
        return snake_case(type(self).__name__)

    def __call__(self, responses: Responses) -> Tensor:
        """Return 0 where another thought says the same of another option, else 1; NaN for an empty thought."""
        answers = zip(responses.question, responses.options, responses.choice.tolist(), strict=True)
        own = [_Thought(self._grams(row, responses), answer) for row, answer in enumerate(answers)]
        thoughts = [*own, *self._seen]
        self._remember(own)
        table = _gram_table([thought.grams for thought in thoughts])
        shared = torch.from_numpy((table[: len(own)] @ table.T).toarray())
        number = {answer: place for place, answer in enumerate(dict.fromkeys(thought.answers for thought in thoughts))}
        group = torch.tensor([number[thought.answers] for thought in thoughts])
        sizes = torch.tensor([len(thought.grams) for thought in own], dtype=torch.float32)
        other = group[: len(own), None] != group[None, :]
        same = other & (shared >= self.similarity * sizes[:, None] - 1e-6)
        alone = ~other.any(dim=1)
        if alone.any():
            ahead = "it is so until this process remembers others" if self.memory else "or give Untemplated(memory=256)"
            warnings.warn(
                f"untemplated: {int(alone.sum())} of {len(own)} thoughts have no thought to another question, or with "
                f"another answer, beside them, so that they are undefined and earn nothing: reward several prompts in "
                f"one call; {ahead}",
                stacklevel=2,
            )
        return torch.where((sizes > 0) & ~alone, (~same.any(dim=1)).float(), torch.nan)

    def _remember(self, thoughts: Sequence[_Thought]) -> None:
        self._seen.extend(thoughts[-self.memory :] if self.memory else ())
        while len(self._seen) > self.memory:
            self._seen.popleft()

    def _grams(self, row: int, responses: Responses) -> frozenset[tuple[str, ...]]:
        whole, named = _option_names(responses.options[row])
        thought = whole.sub(" ", readable(responses.own_think[row]))
        words = [word for word in words_of(thought) if word not in named and (len(word) > 1 or not word.isascii())]
        if not words:
            return frozenset()
        return frozenset(tuple(words[start : start + self.n]) for start in range(max(1, len(words) - self.n + 1)))


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
            return self.reader.consistent(
                replace(responses, think=tuple(responses.own_think), prefill=("",) * len(responses))
            )
        values = []
        for row, thought in enumerate(responses.own_think):
            if responses.status[row] != "answered" or not thought.strip():
                values.append(torch.nan)
                continue
            found = self.reader(responses.question[row], responses.options[row], thought)
            own = None if found is None else responses.order[row][found]
            values.append(float(own is not None and own == int(responses.choice[row])))
        return torch.tensor(values)


def recommended() -> tuple[Guard, ...]:
    """Return the guards that hold against the cheats that a policy finds first: one set, new for every reward.

    Well-formed turns, thoughts of at least five words that say something of their own (`Substantial`) in sentences
    (`Prose`), admit no guess (`Unguessed`) and are no template (`Untemplated`, which remembers 256 thoughts). What
    cheats and honest thoughts earn under it is measured in the documentation's page on training.

    Example:
        >>> [guard.column for guard in recommended()]
        ['format_rate', 'long_enough', 'substantial', 'prose', 'unguessed', 'untemplated']
    """
    return FormatRate(), LongEnough(words=5), Substantial(), Prose(), Unguessed(), Untemplated(memory=256)


@lru_cache(maxsize=1024)
def _option_names(options: tuple[str, ...]) -> tuple[re.Pattern[str], frozenset[str]]:
    """Return a pattern of whole options, and the words that name a part of one."""
    texts = sorted((readable(option).strip() for option in options), key=len, reverse=True)
    whole = re.compile(rf"(?<![a-z0-9])(?:{'|'.join(map(re.escape, texts))})(?![a-z0-9])")
    return whole, frozenset(word for text in texts for word in words_of(text)) - FUNCTION_WORDS


def _gram_table(grams: Sequence[frozenset[tuple[str, ...]]]) -> "sparse.csr_array":
    """Return which thought has which n-gram, `(N, number of n-grams)`."""
    import numpy as np
    from scipy import sparse

    number: dict[tuple[str, ...], int] = {}
    columns = [number.setdefault(gram, len(number)) for of_row in grams for gram in sorted(of_row)]
    starts = np.cumsum([0, *(len(of_row) for of_row in grams)])
    ones = np.ones(len(columns), dtype=np.float32)
    return sparse.csr_array((ones, columns, starts), shape=(len(grams), max(1, len(number))))
