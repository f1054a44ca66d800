"""Which tokens read as an option letter, and where a forced prefix may be continued.

"A", " A", "(A" and ">A" are different tokens that say the same. A letter's *family* is every token of the vocabulary
that reads as that one letter once spaces and punctuation are stripped; its probability is the sum over the family. The
digits, by which some data sets number their options, have families as well: a table has a row for each of `MARKS`.
"""

import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ..prompting import MARKS

__all__ = [
    "TAIL",
    "ForcedPrefix",
    "LetterVocabulary",
    "forced_letter_logprobs",
    "letter_logprobs",
    "letter_of",
]

TAIL = 96  # characters; what stands further back than this does not change how a prefix's last tokens are cut


@dataclass(frozen=True, slots=True)
class ForcedPrefix:
    """The last tokens of a forced prefix that a continuation may merge with.

    Attributes:
        tokens: the tokens after the longest token prefix that all continuations share.
        families: for each place 0 … len(tokens) a `(36, F)` table of tokens, padded with -1: those that hold the rest
            of the prefix and then a letter.
    """

    tokens: tuple[int, ...]
    families: tuple[Tensor, ...]

    @property
    def places(self) -> int:
        """How many positions at the end of the prefix are looked at."""
        return len(self.tokens) + 1

    @property
    def used(self) -> int:
        """Of how many of them logits are needed: of all."""
        return self.places

    def read(self, logits: Tensor) -> list[float]:
        """Return the log-probabilities (nats) of all letters and digits, from `(places, V)` float32 logits."""
        letters: list[float] = forced_letter_logprobs(logits[None], self)[0].tolist()
        return letters


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
        self.families = self._table("")
        if not (self.families[0] >= 0).any():
            raise ValueError(
                f"expected a vocabulary in which a token reads as 'A', got none in {type(tokenizer).__name__}"
            )
        self._prefix = lru_cache(maxsize=512)(self._forced_prefix)

    def reads_as_letter(self, size: int) -> Tensor:
        """Return a `(size,)` bool mask of the tokens that read as a letter; `size` may exceed the vocabulary's."""
        mask = torch.zeros(size, dtype=torch.bool)
        mask[self.families[self.families >= 0]] = True
        return mask

    def forced_prefix(self, text: str) -> ForcedPrefix:
        """Return what a read-out after `text` has to take into account.

        A vocabulary with a token `>A` never writes `>` and then `A` after `<answer`: reading only after `<answer>` is
        off the model's path. So one backs up to the longest token prefix that all continuations share, and sums over
        the ways to go on: P(A) = P(">A" | "<answer") + P(">" | "<answer") · P("A" | "<answer>").

        Args:
            text: the text after which a letter is to be read.
        """
        return self._prefix(text[-TAIL:])

    def _forced_prefix(self, tail: str) -> ForcedPrefix:
        alone = self._encode(tail)
        shared = len(alone)
        for letter in MARKS:
            for space in ("", " "):
                continued = self._encode(tail + space + letter)
                same = next(
                    (i for i, (a, b) in enumerate(zip(alone, continued, strict=False)) if a != b), len(continued)
                )
                shared = min(shared, same)
        tokens = tuple(alone[shared:])
        rests = ["".join(self._texts[token] for token in tokens[place:]) for place in range(len(tokens) + 1)]
        return ForcedPrefix(tokens, tuple(self._table(rest) if rest else self.families for rest in rests))

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _table(self, rest: str) -> Tensor:
        members: list[list[int]] = [[] for _ in MARKS]
        for token, text in enumerate(self._texts):
            if text.startswith(rest) and (letter := letter_of(text[len(rest) :])) is not None:
                members[MARKS.index(letter)].append(token)
        width = max(1, max(map(len, members)))
        return torch.tensor([row + [-1] * (width - len(row)) for row in members], dtype=torch.int64)


def letter_of(text: str) -> str | None:
    """Return the one letter that a token reads as once spaces and punctuation are stripped."""
    # Most tokens are long words; looking at two characters of them is enough to turn them away.
    core = text.strip(" \t\n\r.,:;!?()[]{}<>*_`'\"/\\-=|#&$%^~+@")
    if len(core) != 1:
        core = (
            "".join(character for character in core if unicodedata.category(character)[0] not in "PSZC") if core else ""
        )
    return core if len(core) == 1 and core in MARKS else None


def _token_texts(tokenizer: Any) -> list[str]:
    """Return the text of every token; a token that begins a word in a sentence-piece vocabulary keeps its space."""
    size = len(tokenizer)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        texts = backend.decode_batch([[token] for token in range(size)], skip_special_tokens=False)
    else:
        texts = [tokenizer.decode([token]) for token in range(size)]
    pieces = tokenizer.convert_ids_to_tokens(list(range(size)))
    special = set(tokenizer.all_special_ids)
    return [
        "" if token in special else f" {text}" if (piece or "").startswith("▁") and not text.startswith(" ") else text
        for token, (text, piece) in enumerate(zip(texts, pieces, strict=True))
    ]


def letter_logprobs(logits: Tensor, families: Tensor) -> Tensor:
    """Return the log-probability of every letter's family over the whole vocabulary.

    `log P(X) = logsumexp(z over the family of X) − logsumexp(z)`, in float32.

    Args:
        logits: `(N, V)`, float32.
        families: `(36, F)` token ids, padded with -1.

    Returns:
        `(N, 36)` float32, nats, -inf for a letter that no token reads as.
    """
    families = families.to(logits.device)
    members = logits[:, families.clamp(min=0)].masked_fill(families < 0, -torch.inf)
    return members.logsumexp(-1) - logits.logsumexp(-1, keepdim=True)


def forced_letter_logprobs(logits: Tensor, prefix: ForcedPrefix) -> Tensor:
    """Return the letters' log-probabilities after a forced prefix, summed over every way to continue it.

    Args:
        logits: `(N, M + 1, V)` float32, next-token logits before the first of the prefix's M last tokens, and after
            each.
        prefix: those tokens, and the families at each place.

    Returns:
        `(N, 36)` float32, nats, given the text before the M tokens.
    """
    ways = []
    reached = logits.new_zeros(logits.shape[0])
    for place, families in enumerate(prefix.families):
        here = logits[:, place]
        ways.append(reached[:, None] + letter_logprobs(here, families))
        if place < len(prefix.tokens):
            reached = reached + here[:, prefix.tokens[place]] - here.logsumexp(-1)
    return torch.stack(ways).logsumexp(0)
