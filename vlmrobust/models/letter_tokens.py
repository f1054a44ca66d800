"""Find the tokens that read as an option letter, and compute the log-probabilities of letters from logits.

"A", " A", "(A" and ">A" are different tokens with the same meaning. A letter's *family* is every token of the
vocabulary that reads as that letter without spaces and punctuation; its probability is the sum over the family
(`letter_logprobs`). Digits, by which some data sets number their options, have families as well: tables have a row for
each of `MARKS`.

After a forced prefix, a letter's token may begin at several positions, since it may merge with the end of the prefix:
`ForcedPrefix` has them, and `forced_letter_logprobs` sums over them.

A token that ends with its letter may begin a word ("A", then "pple"), and a small letter is more often a word than an
answer. The parser decides whether a letter ends (`Reading.letter_at`): `Members` are the tokens of a prompt that may
read as letters, and what must follow is looked up one token ahead (`look_ahead.LookAhead`).
"""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..prompting import LETTERS, MARKS
from .base import common_length

if TYPE_CHECKING:
    from ..prompting.mentions import Reading

__all__ = [
    "LEAST",
    "TAIL",
    "ForcedPrefix",
    "LetterFamily",
    "LetterVocabulary",
    "Member",
    "Members",
    "forced_letter_logprobs",
    "letter_logprobs",
    "letter_of",
]


TAIL = 96  # characters; earlier text does not change how the last tokens of a prefix are tokenised


LEAST = 1e-3  # less likely tokens are not looked past, since the effect would be below the displayed precision
_DIGITS = MARKS.removeprefix(LETTERS)
_REACH = 16  # characters of the next token that decide whether a letter ends


@dataclass(frozen=True, slots=True)
class LetterFamily:
    """All tokens that may read as a letter at one position, small letters included, as a table.

    Attributes:
        tokens: `(36, F)`, padded with -1.
        counted: `(36, F)`, the log-probability (nats) with which each counts if it is not looked past: 0 for capitals,
            and for small letters that end within their token; -inf for other small ones.
        ends: by row and column, the condition for the letter to end (`LetterVocabulary.ending`), for tokens in which it
            does not yet end.
    """

    tokens: Tensor
    counted: Tensor
    ends: Mapping[tuple[int, int], "Ending"]


Ending = tuple[str, str]  # a letter of the same kind, and the text after the letter in its token


@dataclass(frozen=True, slots=True)
class Member:
    """A token that may be looked past.

    Attributes:
        cell: its row and column among all members.
        back: number of tokens of the model's input after its position.
        token: the token.
        ending: the condition for its letter to end.
    """

    cell: tuple[int, int]
    back: int
    token: int
    ending: Ending


@dataclass(frozen=True, slots=True)
class Members:
    """The tokens that may read as a letter, with their probabilities after one prompt.

    Attributes:
        logprobs: `(36, W)`, nats, -inf where there is no token.
        counted: `(36, W)`, see `LetterFamily`.
        places: per position, its tokens, the first of their columns, and the number of tokens after it.
    """

    logprobs: Tensor
    counted: Tensor
    places: tuple[tuple[LetterFamily, int, int], ...]

    @classmethod
    def of(
        cls, logits: Tensor, families: Sequence[LetterFamily], path: Sequence[int] = (), *, back: int = 0
    ) -> "Members":
        """Return the members at each position of a path.

        Args:
            logits: `(P, V)` float32, next-token logits at each position.
            families: one per position.
            path: the tokens that lead from one position to the next.
            back: number of tokens after the last position.
        """
        parts, places = [], []
        path_logprob, width = logits.new_zeros(()), 0
        for place, family in enumerate(families):
            here = logits[place].log_softmax(-1)
            tokens = family.tokens.to(here.device)
            parts.append(path_logprob + here[tokens.clamp(min=0)].masked_fill(tokens < 0, -torch.inf))
            places.append((family, width, back + len(families) - 1 - place))
            width += tokens.shape[1]
            if place < len(path):
                path_logprob = path_logprob + here[path[place]]
        return cls(
            torch.cat(parts, dim=1).cpu(), torch.cat([family.counted for family in families], dim=1), tuple(places)
        )

    def likely(self, rows: Sequence[int]) -> list[Member]:
        """Return the members of some rows (letters) worth looking past: likely, and whose letter may continue."""
        found = []
        for family, first, back in self.places:
            width = family.tokens.shape[1]
            likely = self.logprobs[list(rows), first : first + width] >= math.log(LEAST)
            for position, column in likely.nonzero().tolist():
                row = rows[position]
                if (ending := family.ends.get((row, column))) is not None:
                    found.append(Member((row, first + column), back, int(family.tokens[row, column]), ending))
        return found

    def letters(self, looked: Mapping[tuple[int, int], float], *, small: bool = False) -> list[float]:
        """Return the log-probabilities (nats) of all letters and digits.

        Args:
            looked: by cell, the log-probability that the letter ends.
            small: also count the small letters that were not looked past.
        """
        counted = torch.zeros_like(self.counted) if small else self.counted.clone()
        for cell, logprob in looked.items():
            counted[cell] = logprob
        values: list[float] = (self.logprobs + counted).logsumexp(1).tolist()
        return values


@dataclass(frozen=True, slots=True)
class ForcedPrefix:
    """The last tokens of a forced prefix with which a continuation may merge.

    Attributes:
        tokens: the tokens after the longest token prefix shared by all continuations.
        families: for each position 0 … len(tokens) a `(36, F)` table of tokens, padded with -1: those that consist of
            the rest of the prefix and a letter.
        either: the same with small letters, and with the conditions for their end.
    """

    tokens: tuple[int, ...]
    families: tuple[Tensor, ...]
    either: tuple[LetterFamily, ...] = field(default=(), compare=False)

    @property
    def capitals(self) -> list[LetterFamily]:
        """The tables of capitals only, each of which counts in full."""
        return [LetterFamily(tokens, torch.zeros(tokens.shape), {}) for tokens in self.families]

    @property
    def places(self) -> int:
        """The number of positions at the end of the prefix to read."""
        return len(self.tokens) + 1

    @property
    def used(self) -> int:
        """The number of positions whose logits are needed: all."""
        return self.places

    def read(self, logits: Tensor) -> Members:
        """Return the members that may read as a letter, from `(places, V)` float32 logits."""
        return Members.of(logits, self.either, self.tokens)


class LetterVocabulary:
    """The letters' token families of one tokenizer.

    Args:
        tokenizer: a Hugging Face tokenizer.

    Raises:
        ValueError: no token of the vocabulary reads as the letter A.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._texts = _token_texts(tokenizer)
        self.families, self.either = self._tables("")
        if not (self.families[0] >= 0).any():
            raise ValueError(
                f"expected a vocabulary in which a token reads as 'A', got none in {type(tokenizer).__name__}"
            )
        self._prefix = lru_cache(maxsize=512)(self._forced_prefix)
        self.ending = lru_cache(maxsize=64)(self._ending)

    def reads_as_letter(self, size: int) -> Tensor:
        """Return a `(size,)` bool mask of the tokens that read as a letter, small or not.

        Args:
            size: the model's number of logits, which may exceed the vocabulary.
        """
        mask = torch.zeros(size, dtype=torch.bool)
        tokens = self.either.tokens
        mask[tokens[(tokens >= 0) & (tokens < size)]] = True
        return mask

    def is_small(self, token: int) -> bool:
        """Return whether a token reads as a small letter."""
        mark = _mark_of(self._texts[token])
        return mark is not None and mark not in MARKS

    def _ending(self, ending: Ending) -> Tensor:
        """Return a `(V,)` bool mask of the tokens after which the parser still reads the letter as one."""
        letter, tail = ending
        return torch.tensor([_is_letter(letter, tail + text[:_REACH]) for text in self._texts])

    def forced_prefix(self, text: str) -> ForcedPrefix:
        """Return the positions at which a letter after `text` may begin.

        A vocabulary with a token `>A` never generates `>` and then `A` after `<answer`: reading only after `<answer>`
        is off the model's path. So the readout starts at the longest token prefix shared by all continuations, and sums
        over the tokenisations: P(A) = P(">A" | "<answer") + P(">" | "<answer") · P("A" | "<answer>").

        Args:
            text: the text before the letter.
        """
        return self._prefix(text[-TAIL:])

    def _forced_prefix(self, tail: str) -> ForcedPrefix:
        alone = self._encode(tail)
        shared = len(alone)
        for letter in MARKS:
            for space in ("", " "):
                shared = min(shared, common_length(alone, self._encode(tail + space + letter)))
        tokens = tuple(alone[shared:])
        rests = ["".join(self._texts[token] for token in tokens[place:]) for place in range(len(tokens) + 1)]
        tables = [self._tables(rest) if rest else (self.families, self.either) for rest in rests]
        return ForcedPrefix(tokens, tuple(table for table, _ in tables), tuple(either for _, either in tables))

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _tables(self, rest: str) -> tuple[Tensor, LetterFamily]:
        """Return the tokens that consist of a rest and a letter: capitals only, and both cases."""
        capitals: list[list[int]] = [[] for _ in MARKS]
        both: list[list[tuple[int, str, str]]] = [[] for _ in MARKS]
        for token, text in enumerate(self._texts):
            if text.startswith(rest) and (mark := _mark_of(held := text[len(rest) :])) is not None:
                row = MARKS.index(mark.upper())
                both[row].append((token, mark, held[held.index(mark) + 1 :]))
                if mark in MARKS:
                    capitals[row].append(token)
        return _padded(capitals), _family(both)


def _family(both: Sequence[Sequence[tuple[int, str, str]]]) -> LetterFamily:
    tokens = _padded([[token for token, _, _ in row] for row in both])
    counted = torch.zeros(tokens.shape)
    ends: dict[tuple[int, int], Ending] = {}
    for row, members in enumerate(both):
        for column, (_, mark, tail) in enumerate(members):
            if all(_is_letter(mark, tail + following) for following in ("x", "5")):
                continue
            ends[row, column] = (_kind(mark), tail)
            if mark not in MARKS:
                counted[row, column] = -torch.inf
    return LetterFamily(tokens, counted, ends)


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    width = max(1, max(map(len, rows)))
    return torch.tensor([[*row, *[-1] * (width - len(row))] for row in rows], dtype=torch.int64)


def _kind(mark: str) -> str:
    """Return a representative of letters that the parser treats alike: "A" and "I" are words, small ones may be."""
    if mark in _DIGITS:
        return "1"
    return mark if mark in "AIi" else "B" if mark in LETTERS else "a"


def _is_letter(letter: str, following: str) -> bool:
    """Return whether the parser reads a letter as one, given the text after it."""
    text = letter + following
    reading = _parser().of(text, (), _DIGITS if letter in _DIGITS else LETTERS)
    return reading.letter_at(0, len(text)) is not None


@cache
def _parser() -> "type[Reading]":
    from ..prompting.mentions import Reading  # imported late, since its patterns take a while to compile

    return Reading


def letter_of(text: str) -> str | None:
    """Return the letter that a token reads as, without spaces and punctuation."""
    mark = _mark_of(text)
    return mark if mark is not None and mark in MARKS else None


def _mark_of(text: str) -> str | None:
    """Return the one letter or digit, in its own case, of a token that otherwise has only spaces and punctuation."""
    core = text.strip(" \t\n\r.,:;!?()[]{}<>*_`'\"/\\-=|#&$%^~+@")
    if len(core) != 1:
        core = (
            "".join(character for character in core if unicodedata.category(character)[0] not in "PSZC") if core else ""
        )
    return core if len(core) == 1 and core.upper() in MARKS and core.isascii() else None


def _token_texts(tokenizer: Any) -> list[str]:
    """Return what each token adds to a text; at the start of a text, some decoders drop a token's space."""
    before, size = list(tokenizer("A", add_special_tokens=False)["input_ids"]), len(tokenizer)
    started, *continued = _decoded(tokenizer, [before, *([*before, token] for token in range(size))])
    # The bytes of half a character swallow those before them.
    broken = [token for token, text in enumerate(continued) if not text.startswith(started)]
    texts = [text[len(started) :] for text in continued]
    for token, text in zip(broken, _decoded(tokenizer, [[token] for token in broken]), strict=True):
        texts[token] = text
    special = set(tokenizer.all_special_ids)
    return ["" if token in special else text for token, text in enumerate(texts)]


def _decoded(tokenizer: Any, rows: Sequence[Sequence[int]]) -> list[str]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return list(backend.decode_batch(rows, skip_special_tokens=False))
    return [str(tokenizer.decode(row, clean_up_tokenization_spaces=False)) for row in rows]


def letter_logprobs(logits: Tensor, families: Tensor) -> Tensor:
    """Return the log-probability of every letter's family over the whole vocabulary.

    `log P(X) = logsumexp(z over the family of X) − logsumexp(z)`, in float32.

    Args:
        logits: `(N, V)`, float32.
        families: `(36, F)` token ids, padded with -1.

    Returns:
        `(N, 36)` float32, nats, -inf for a letter without tokens.
    """
    families = families.to(logits.device)
    members = logits[:, families.clamp(min=0)].masked_fill(families < 0, -torch.inf)
    return members.logsumexp(-1) - logits.logsumexp(-1, keepdim=True)


def forced_letter_logprobs(logits: Tensor, prefix: ForcedPrefix) -> Tensor:
    """Return the letters' log-probabilities after a forced prefix, summed over all tokenisations.

    Args:
        logits: `(N, M + 1, V)` float32, next-token logits before the first of the prefix's M last tokens, and after
            each of them.
        prefix: these tokens, and the families at each position.

    Returns:
        `(N, 36)` float32, nats, given the text before the M tokens.
    """
    by_position = []
    path_logprob = logits.new_zeros(logits.shape[0])
    for place, families in enumerate(prefix.families):
        here = logits[:, place]
        by_position.append(path_logprob[:, None] + letter_logprobs(here, families))
        if place < len(prefix.tokens):
            path_logprob = path_logprob + here[:, prefix.tokens[place]] - here.logsumexp(-1)
    return torch.stack(by_position).logsumexp(0)
