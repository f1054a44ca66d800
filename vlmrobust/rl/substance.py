"""Whether a thought says something of the image at all, read without a model: word by word."""

import re
from abc import abstractmethod
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor

from ..metrics import Metric
from ..prompting.words import plain_form
from ..types import Responses
from .lexicon import (
    FUNCTION_WORDS,
    MANNERS,
    UNSPACED_MANNERS,
    admits_guess,
    mixes_scripts,
    readable,
    unspaced,
    without_announcements,
    words_of,
)

__all__ = ["Prose", "Substantial", "Unguessed", "names_answer"]

_STOPS = re.compile(r"[.!?:;\n]")
_WORDS_AND_STOPS = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|[.!?:;,\n()\[\]]")
_LATIN_ENDS = "\u0250"
_LETTERS = frozenset("bcdefghjklmnopqrstuvwxyz")  # "a" and "i" are words
_STEM = 4  # letters by which "rightward" and "right" are the same word


class _OfThought(Metric):
    """What the model's own thought is worth beside the question and its options; NaN where there is no thought."""

    higher_is_better = True

    def per_sample(self, responses: Responses) -> Tensor:
        """Return the value of each thought."""
        rows = zip(responses.own_think, responses.question, responses.options, strict=True)
        return torch.tensor([self._value(*row) if row[0] else torch.nan for row in rows])

    @abstractmethod
    def _value(self, thought: str, question: str, options: tuple[str, ...]) -> float:
        """Return 1 or 0 for a thought that is not empty."""


class Substantial(_OfThought):
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
        found = _own_words(thought, question, options)
        anew = 2 * found >= self.words > found and _has_own_pairs(self.pairs, thought, question, options)
        return float(anew or found >= self.words)


class Prose(_OfThought):
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
        longest = self._longest_row(thought, _plain(question) | _plain(*options))
        in_a_row = longest >= max(self.run, self.run_share * len(latin))
        too_few = len(latin) >= self.words and grammar < self.share * len(latin)
        mixed = not thought.isascii() and any(map(mixes_scripts, words))
        return float(not (too_few or in_a_row or mixed))

    def _longest_row(self, thought: str, asked: frozenset[str]) -> int:
        """Return how many words stand in a row at most without grammar, a word of the question, or a stop."""
        longest = row = 0
        for word in _WORDS_AND_STOPS.findall(readable(thought)):
            if not word[0].isalpha() or word in FUNCTION_WORDS or plain_form(word) in asked:
                row = 0
            else:
                row += 1
                longest = max(longest, row)
        return longest


class Unguessed(_OfThought):
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
        return float(_own_words(thought, question, options) >= self.words or not admits_guess(thought))


def names_answer(responses: Responses, row: int) -> bool:
    """Whether the thought of a row names the option that was answered, or a word that not all options have."""
    from ..prompting.mentions import Reading  # its patterns take a while to compile

    choice, order, options = int(responses.choice[row]), responses.order[row], responses.options[row]
    thought = responses.think[row]
    if choice < 0 or choice not in order or not thought.strip():
        return False
    place = order.index(choice)
    if _letter(responses.letters[row][place]).search(thought):
        return True
    common = set.intersection(*map(_stems, options))
    own = _stems(options[place]) - common
    if own and any(word[:_STEM] in own for word in words_of(thought) if word not in FUNCTION_WORDS):
        return True
    reading = Reading.of(thought, options, responses.letters[row], by="either")
    return any(mention.option == place for mention in reading.named(0, len(thought)))


@lru_cache(maxsize=64)
def _letter(letter: str) -> re.Pattern[str]:
    """Return where a letter stands alone and is no word, as "A" is in front of another one."""
    follows = r"| [a-zà-ÿ]|['’]" if letter in "AEIOY" else ""
    return re.compile(rf"(?<![^\W_\u0e00-\uffff]){re.escape(letter)}(?![^\W_\u0e00-\uffff]{follows})")


def _stems(text: str) -> set[str]:
    return {word[:_STEM] for word in words_of(text) if len(word) >= _STEM and word not in FUNCTION_WORDS}


@lru_cache(maxsize=2048)
def _plain(*texts: str) -> frozenset[str]:
    return frozenset(plain_form(word) for text in texts for word in words_of(text))


def _is_own(word: str, taken: frozenset[str]) -> bool:
    """Whether a word may say something of an image: neither grammar, nor the manner of answering, nor taken."""
    form = plain_form(word)
    return not (
        len(word) < 2
        or not word[0].isalpha()
        or word in FUNCTION_WORDS
        or word in MANNERS
        or form in MANNERS
        or form in taken
    )


@lru_cache(maxsize=2048)
def _own_words(thought: str, question: str, options: tuple[str, ...]) -> float:
    taken = _plain(question) | _plain(*options)
    words = set(words_of(thought))
    characters = set(unspaced(words)) - UNSPACED_MANNERS - taken
    return len({plain_form(word) for word in words if _is_own(word, taken)}) + len(characters) / 2


def _has_own_pairs(enough: int, thought: str, question: str, options: tuple[str, ...]) -> bool:
    """Whether a thought has so many pairs of words, one of which may say something, that the question does not have."""
    taken = _plain(*options) - {""}  # the plain form of articles
    found = {tuple(map(plain_form, pair)) for pair in _pairs(question)}
    enough += len(found)
    for pair in _pairs(thought):
        if _is_own(pair[0], taken) or _is_own(pair[1], taken):
            forms = [plain_form(word) for word in pair]
            found.add(tuple("" if form in taken or form in _LETTERS else form for form in forms))
            if len(found) >= enough:
                return True
    return False


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """Return the neighbouring words of a text; a stop is between the last of a sentence and the first of the next."""
    for sentence in _STOPS.split(readable(text)):
        words = words_of(sentence)
        yield from pairwise(words)
