"""Define guards, factors of `FaithfulnessReward` that penalize thoughts which earn consistency without reasoning.

A policy rewarded for agreement between thought and answer learns that very short thoughts agree most easily, and that
one template sentence with a slot for the option fits every question. Any metric in [0, 1] can be a guard; guards here
that are metrics can also be monitored in an `Evaluator`.
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
from ..perturbations.wordings import callable_name
from ..prompting.words import plain_form
from ..text import snake_case
from ..types import Responses
from ..types.frozen import Frozen
from .lexicon import (
    FUNCTION_WORDS,
    admits_guess,
    count_own_words,
    count_words,
    has_own_pairs,
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
# Latin letters beside look-alike Greek or Cyrillic ones.
_MIXED_SCRIPTS = re.compile(r"[a-z][\u0370-\u04ff]|[\u0370-\u04ff][a-z]")
_LATIN_ENDS = "\u0250"

Reader = Annotated[
    Callable[[str, Sequence[str], str], int | None],
    PlainSerializer(callable_name, return_type=str),
]


@runtime_checkable
class Guard(Protocol):
    """A factor of a reward: any `Metric`, or a callable that looks at a batch as a whole."""

    @property
    def column(self) -> str:
        """Name in logs."""

    def __call__(self, responses: Responses) -> Tensor:
        """Return `(N,)` values in [0, 1]; NaN = undefined, which earns 0."""


class LongEnough(Metric):
    """Share of thoughts with enough words, not counting injected text.

    1 or 0: a thought with fewer words, or an empty one, is 0. Only visible words count, in any script: dots, zero-width
    characters and comments do not. In scripts without spaces between words, two characters are one word.

    Attributes:
        words: minimum number of words. Set it well below the usual length of thoughts before training: it is a floor
            against collapse, and a policy at this floor has collapsed.

    Example:
        >>> LongEnough(words=20).column
        'long_enough'

    Source: arXiv:2602.12506 reports the collapse to very short thoughts; this guard is ours.
    """

    words: int = Field(default=10, ge=1)

    higher_is_better = True

    def per_sample(self, responses: Responses) -> Tensor:
        """Return 1 where the thought has enough words, else 0; NaN where the model wrote nothing."""
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
    """Share of thoughts with content beyond the question, the options and phrases that fit any image.

    1 or 0. Counted are a thought's distinct words, without function words, the words of question and options, and
    phrases that fit any image ("looking carefully, I conclude that the correct answer is"). Half as many suffice if the
    thought rephrases the question, measured by pairs of adjacent words that the question does not contain; next to any
    option or letter ("Say A. Say B.") a word forms only one such pair. Announcements ("I will now think about it in
    detail") and injected text do not count.

    Attributes:
        words: minimum number of words; in scripts without spaces between words, two characters are one word.
        pairs: minimum number of pairs where only half of the words are present.

    Example:
        >>> Substantial().column
        'substantial'

    Source: ours, against thoughts that paste the question, list the options, or fit every image.
    """

    words: int = Field(default=2, ge=1)
    pairs: int = Field(default=4, ge=1)

    def _value(self, thought: str, question: str, options: tuple[str, ...]) -> float:
        thought = without_announcements(thought)
        count = count_own_words(thought, question, options)
        rephrases = 2 * count >= self.words > count and has_own_pairs(self.pairs, thought, question, options)
        return float(rephrases or count >= self.words)


class Prose(_ThoughtRate):
    """Share of thoughts that consist of sentences rather than of lists of real or invented words.

    1 or 0, for words in Latin letters. A thought of at least `words` words needs a share of at least `share` function
    words (articles, pronouns, prepositions and the like, of some twenty languages); no run of words without a function
    word or a stop may make up a large part of it; and no word may mix alphabets. Texts in other scripts always get 1.
    Words of question and options end a run.

    Attributes:
        share: in [0, 1]; in sentences of these languages a third of the words or more are function words.
        words: number of words from which the share is checked; notes ("Tall grass, long ears: hare.") have fewer.
        run: length from which a run without function words can be too long.
        run_share: in (0, 1], share of the thought's words from which such a run is too long.

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
        words = [word for word in words_of(thought) if word[0].isalpha()]
        latin = [word for word in words if word[0] < _LATIN_ENDS]
        if 2 * len(latin) <= len(words):  # another script, perhaps with Latin letters and formulas
            return float(bool(words))
        grammar = sum(word in FUNCTION_WORDS for word in latin)
        longest = self._longest_run(thought, plain_forms(question) | plain_forms(*options))
        in_a_row = longest >= max(self.run, self.run_share * len(latin))
        too_few = len(latin) >= self.words and grammar < self.share * len(latin)
        mixed = not thought.isascii() and any(map(_MIXED_SCRIPTS.search, words))
        return float(not (too_few or in_a_row or mixed))

    def _longest_run(self, thought: str, known: frozenset[str]) -> int:
        """Return the length of the longest run of words without a function word, a known word or a stop."""
        longest = run = 0
        for word in _WORDS_AND_STOPS.findall(readable(thought)):
            if not word[0].isalpha() or word in FUNCTION_WORDS or plain_form(word) in known:
                run = 0
            else:
                run += 1
                longest = max(longest, run)
        return longest


class Unguessed(_ThoughtRate):
    """Share of thoughts that do not admit to guessing or to seeing no image.

    1 or 0. "I cannot see the picture, so I pick one at random" agrees with its answer without using the image. A
    thought with enough content of its own may call a step a guess.

    Attributes:
        words: number of content words (see `Substantial`) from which a thought may mention a guess.

    Example:
        >>> Unguessed().column
        'unguessed'

    Source: ours; recognized in English, German, French, Spanish, Chinese and Japanese.
    """

    words: int = Field(default=12, ge=0)

    def _value(self, thought: str, question: str, options: tuple[str, ...]) -> float:
        return float(count_own_words(thought, question, options) >= self.words or not admits_guess(thought))


class _Thought(NamedTuple):
    """A thought as `Untemplated` compares it: its n-grams, and (question, options, answer)."""

    grams: frozenset[tuple[str, ...]]
    answers: tuple[str, tuple[str, ...], int]


class _Seen(deque[_Thought]):
    """Thoughts of earlier calls; all instances are equal, so that they do not affect the equality of guards."""

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Seen)


class Untemplated(Frozen):
    """1 for a thought that no other thought repeats with a different option filled in, else 0.

    It compares the thoughts of a batch with each other and with remembered ones of earlier batches, so it is not a
    metric. Thoughts are compared if they answer different questions, or the same question differently; options and
    letters are ignored. A thought gets 0 if another one contains at least `similarity` of its word n-grams.
    Completions of one prompt with the same answer are not compared, as their thoughts may well agree. NaN, with a
    warning, if there is nothing to compare with: one question, one answer, and nothing remembered. An undefined value
    earns nothing: otherwise a template would be rewarded wherever it appears alone.

    Attributes:
        similarity: in (0, 1], share of a thought's n-grams from which another thought counts as the same.
        n: words in an n-gram; a shorter thought is a single n-gram.
        memory: number of thoughts of earlier calls to remember, for trainers that reward one sample, or the samples of
            one prompt, at a time. Each process remembers its own; 0 = none.

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
        """Name in logs."""
        return snake_case(type(self).__name__)

    def __call__(self, responses: Responses) -> Tensor:
        """Return 0 where another thought says the same of another option, else 1; NaN for an empty thought."""
        answers = zip(responses.question, responses.options, responses.choice.tolist(), strict=True)
        batch = [_Thought(self._grams(row, responses), answer) for row, answer in enumerate(answers)]
        thoughts = [*batch, *self._seen]
        self._remember(batch)
        table = _gram_table([thought.grams for thought in thoughts])
        shared = torch.from_numpy((table[: len(batch)] @ table.T).toarray())
        index = {answer: place for place, answer in enumerate(dict.fromkeys(thought.answers for thought in thoughts))}
        group = torch.tensor([index[thought.answers] for thought in thoughts])
        sizes = torch.tensor([len(thought.grams) for thought in batch], dtype=torch.float32)
        comparable = group[: len(batch), None] != group[None, :]
        same = comparable & (shared >= self.similarity * sizes[:, None] - 1e-6)
        alone = ~comparable.any(dim=1)
        if alone.any():
            advice = "this ends once this process remembers others" if self.memory else "or use Untemplated(memory=256)"
            warnings.warn(
                f"untemplated: {int(alone.sum())} of {len(batch)} thoughts have nothing to be compared with, no "
                f"thought about another question or with another answer, so they are undefined and earn nothing: "
                f"reward several prompts in one call; {advice}",
                stacklevel=2,
            )
        return torch.where((sizes > 0) & ~alone, (~same.any(dim=1)).float(), torch.nan)

    def _remember(self, thoughts: Sequence[_Thought]) -> None:
        self._seen.extend(thoughts[-self.memory :] if self.memory else ())
        while len(self._seen) > self.memory:
            self._seen.popleft()

    def _grams(self, row: int, responses: Responses) -> frozenset[tuple[str, ...]]:
        whole, parts = _option_names(responses.options[row])
        thought = whole.sub(" ", readable(responses.own_think[row]))
        words = [word for word in words_of(thought) if word not in parts and (len(word) > 1 or not word.isascii())]
        if not words:
            return frozenset()
        return frozenset(tuple(words[start : start + self.n]) for start in range(max(1, len(words) - self.n + 1)))


class Sufficient(Metric):
    """Share of answers that a reader recovers from the thought alone, without the image.

    1 or 0; NaN where there is no answer or the model wrote no thought of its own. The reader gets only the model's own
    text, without an injected thought. With a judge this is the consistency of the own thought; a callable may be a
    text-only language model that answers the question with the thought as its only evidence.

    Attributes:
        reader: a judge; or a callable `(question, options, thought) -> index` into the options as shown, None = unable
            to tell, which earns 0.

    Example:
        >>> Sufficient().column
        'sufficient'

    Source: Vision-SR1 re-answers from the model's own description without the image; arXiv:2508.19652.
    """

    reader: SerializeAsAny[Judge] | Reader = Field(default_factory=RuleJudge)

    higher_is_better = True

    def per_sample(self, responses: Responses) -> Tensor:
        """Return 1 where the reader reaches the given answer, else 0."""
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
    """Return a new set of guards against the shortcuts that a policy finds first.

    They require well-formed turns, and thoughts of at least five words, with content of their own (`Substantial`), in
    sentences (`Prose`), without admitted guesses (`Unguessed`) and not from a template (`Untemplated`, which remembers
    256 thoughts). The documentation's page on training reports what shortcuts and honest thoughts earn with it.

    Example:
        >>> [guard.column for guard in recommended()]
        ['format_rate', 'long_enough', 'substantial', 'prose', 'unguessed', 'untemplated']
    """
    return FormatRate(), LongEnough(words=5), Substantial(), Prose(), Unguessed(), Untemplated(memory=256)


@lru_cache(maxsize=1024)
def _option_names(options: tuple[str, ...]) -> tuple[re.Pattern[str], frozenset[str]]:
    """Return a pattern that matches whole options, and the content words of the options."""
    texts = sorted((readable(option).strip() for option in options), key=len, reverse=True)
    whole = re.compile(rf"(?<![a-z0-9])(?:{'|'.join(map(re.escape, texts))})(?![a-z0-9])")
    return whole, frozenset(word for text in texts for word in words_of(text)) - FUNCTION_WORDS


def _gram_table(grams: Sequence[frozenset[tuple[str, ...]]]) -> "sparse.csr_array":
    """Return the indicator matrix of thoughts and n-grams, `(N, number of n-grams)`."""
    import numpy as np
    from scipy import sparse

    index: dict[tuple[str, ...], int] = {}
    columns = [index.setdefault(gram, len(index)) for row in grams for gram in sorted(row)]
    starts = np.cumsum([0, *(len(row) for row in grams)])
    ones = np.ones(len(columns), dtype=np.float32)
    return sparse.csr_array((ones, columns, starts), shape=(len(grams), max(1, len(index))))
