"""Represent a server's tokens: generated ones, those of the prompt, and those that read as a letter.

A server returns its top k tokens, or exactly the requested ones. A letter's probability is the sum over its returned
tokens ("A", " A", "(A"), over the whole vocabulary and not renormalised. From the top k that is a lower bound: a token
that was not returned is at most as likely as the least likely returned one, and all of them together have the
probability missing to 1.

The ids of the letters' tokens come from the checkpoint's tokenizer, if given, which yields all forms of a letter ("A",
" A", "(A", ">A"); or from the server's `/tokenize`, which yields those of `_FORMS` and the token that it makes of the
letter after a text.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, overload

from ...prompting import MARKS, letter_columns
from ..base import common_length
from ..generation import decoded_text
from ..letter_tokens import TAIL, LetterVocabulary, letter_of

__all__ = [
    "CheckpointTokens",
    "LetterPosition",
    "LetterTokens",
    "PromptToken",
    "ServedTokens",
    "Step",
    "Steps",
    "field_of",
    "logsumexp",
    "text_of",
]

# Likeliest first; a `>` belongs to the tag before the letter.
_BEFORE = ("", " ", ">", "(", " (", "\n", "[", '"', "'", "*", *"_.-/,<\t=:&+%$")
_BEHIND = (")", ".", ":", ",", "<", "\n")
_FORMS = (*((before, "") for before in _BEFORE), *((before, behind) for before in ("", " ") for behind in _BEHIND))
_RANKS = {form: rank for rank, form in enumerate(_FORMS)}

_ROUNDING = 1e-3  # nats; in half precision a certain token may be a little above 0


def field_of(part: Any, name: str) -> Any:
    """Return a field of a JSON object or of a client object; None = absent."""
    return part.get(name) if isinstance(part, dict) else getattr(part, name, None)


@dataclass(frozen=True, slots=True)
class Step:
    """One generated token and its alternatives.

    Attributes:
        token: its text in UTF-8; a token may be a part of a character.
        logprobs: log-probabilities (nats) of the returned tokens, by text.
        floor: upper bound of the log-probability of every token not returned; None = unknown, or not needed.
        exact: the letters' tokens were requested by id, so that no other token matters.
        returned: the texts of the returned alternatives, with duplicates.
    """

    token: bytes
    logprobs: Mapping[bytes, float]
    floor: float | None
    exact: bool = False
    returned: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, entry: Any, *, exact: bool = False) -> Self:
        """Read one entry of `logprobs.content`, in OpenAI's schema.

        Args:
            entry: the entry.
            exact: its alternatives are the requested tokens, not the top k.

        Raises:
            ValueError: a log-probability is above 0 or NaN, or a token has neither text nor bytes.
        """
        # The token itself need not be among the top k when it was sampled.
        own, top = _known([entry], exact), _known(field_of(entry, "top_logprobs") or (), exact)
        floor = None if exact else _floor([logprob for _, logprob in top])
        known = dict(own) | _summed(top)
        return cls(text_of(entry), known, floor, exact and bool(top), tuple(text for text, _ in top))

    @property
    def tells_letters(self) -> bool:
        """Whether letters can be read here, that is, whether alternatives were returned."""
        return self.exact or self.floor is not None

    def letters(self, remainder: bytes = b"") -> list[float]:
        """Return the log-probability of each letter and digit, -inf if none of its tokens was returned.

        Args:
            remainder: the text that a token must begin with before its letter, such as `>` after `<answer`.
        """
        found = self._by_letter(remainder)
        return [logsumexp(found.get(letter, ())) for letter in MARKS]

    def missing(self, letters: str) -> str:
        """Return the letters without a returned token."""
        found = self._by_letter(b"")
        return "".join(letter for letter in letters if letter not in found)

    def _by_letter(self, remainder: bytes) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for token, logprob in self.logprobs.items():
            if token.startswith(remainder) and (letter := letter_of(token[len(remainder) :].decode(errors="replace"))):
                found.setdefault(letter, []).append(logprob)
        return found


class Steps(Sequence[Step]):
    """The steps of a reply, parsed on access, since alternatives matter at few of them.

    Args:
        entries: entries of `logprobs.content`.
        exact: see `Step.of`.

    Attributes:
        tokens: the tokens' texts in UTF-8.
    """

    def __init__(self, entries: Sequence[Any], *, exact: bool = False) -> None:
        self._entries = entries
        self._exact = exact
        self._made: dict[int, Step] = {}
        self.tokens = [text_of(entry) for entry in entries]
        for entry in entries:
            _logprob(entry, None)  # raises at once if the reply is invalid

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, place: int) -> Step: ...

    @overload
    def __getitem__(self, place: slice) -> list[Step]: ...

    def __getitem__(self, place: int | slice) -> Step | list[Step]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        number = range(len(self))[place]
        if number not in self._made:
            entry = self._entries[number]
            try:
                self._made[number] = Step.of(entry, exact=self._exact)
            except (AttributeError, TypeError) as error:
                raise ValueError(f"expected log-probabilities in OpenAI's schema, got {entry!r:.200}") from error
        return self._made[number]


def logsumexp(values: Sequence[float]) -> float:
    """Return the logarithm of a sum of exponentials; of none it is -inf."""
    largest = max(values, default=-math.inf)
    if math.isinf(largest):
        return largest
    return largest + math.log(math.fsum(math.exp(value - largest) for value in values))


def _floor(top: Sequence[float]) -> float | None:
    """Return the upper bound of the tokens outside the top k.

    Some servers (vLLM) put the sampled token first. If it is outside the top k, it replaces the last of them and is no
    bound, being less likely than the others.
    """
    sampled_first = len(top) > 1 and top[0] < top[1]
    return min(top[1:] if sampled_first else top, default=None)


def _known(entries: Iterable[Any], exact: bool) -> list[tuple[bytes, float]]:
    """Return texts and log-probabilities; some servers send null for -inf, which JSON does not have."""
    unknown = -math.inf if exact else None  # a requested token with probability 0
    found = [(text_of(entry), _logprob(entry, unknown)) for entry in entries]
    return [(text, logprob) for text, logprob in found if logprob is not None]


def _logprob(entry: Any, unknown: float | None) -> float | None:
    logprob = field_of(entry, "logprob")
    if logprob is None:
        return unknown
    value = float(logprob)
    if not value <= _ROUNDING:  # NaN as well
        token = field_of(entry, "token")
        raise ValueError(f"expected log-probabilities of at most 0, got {value:g} for the token {token!r}")
    return min(value, 0.0)


def text_of(entry: Any) -> bytes:
    """Return the text of an entry's token in UTF-8."""
    # `token` cannot represent a part of a character; `bytes` can, if a server sends it: as numbers, or (mistralrs) as
    # the text itself, with a number as `token`.
    if content := field_of(entry, "bytes"):
        return content.encode() if isinstance(content, str) else bytes(content)
    token = field_of(entry, "token")
    if not isinstance(token, str):
        raise ValueError(f"expected a token's text, or its bytes, got token {token!r} and bytes {content!r}")
    return token.encode()


def _summed(tokens: Iterable[tuple[bytes, float]]) -> dict[bytes, float]:
    """Return log-probabilities by text, summed over tokens with the same text."""
    found: dict[bytes, list[float]] = {}
    for text, logprob in tokens:
        found.setdefault(text, []).append(logprob)
    return {text: logsumexp(values) for text, values in found.items()}


@dataclass(frozen=True, slots=True)
class PromptToken:
    """A token of the prompt.

    Attributes:
        id: its id in the vocabulary.
        text: its text.
        logprob: its log-probability (nats) given the tokens before it; None = unknown.
    """

    id: int
    text: str
    logprob: float | None

    @classmethod
    def of(cls, entry: Any) -> Self:
        """Read one entry of vLLM's `prompt_logprobs`, keyed by token id; the prompt's own token comes first."""
        token, details = next(iter(entry.items()))
        logprob = field_of(details, "logprob")
        return cls(int(token), str(details["decoded_token"]), None if logprob is None else float(logprob))


@dataclass(frozen=True, slots=True)
class LetterPosition:
    """A position in a text before a letter, at which the letter's token may begin.

    Attributes:
        remainder: the text from here to the letter; empty = the letter is here.
        onward: the text of the next token of the remainder.
        ids: the token of `onward`, then the letters' tokens, likeliest forms first; empty = unknown.
    """

    remainder: str
    onward: str
    ids: tuple[int, ...] = ()


class CheckpointTokens:
    """Provides the letters' tokens from the checkpoint's tokenizer.

    Args:
        tokenizer: a Hugging Face tokenizer, or a processor that has one.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
        self._vocabulary = LetterVocabulary(self._tokenizer)
        self._texts: dict[int, str] = {}

    def positions(self, text: str, letters: str) -> tuple[LetterPosition, ...]:
        """Return where a letter after a text may begin: usually only at its end, see `LetterVocabulary.forced_prefix`.

        Args:
            text: the text before the letter.
            letters: the letters to find.
        """
        prefix = self._vocabulary.forced_prefix(text)
        onward = [self.text_of(token) for token in prefix.tokens]
        found = []
        for position, family in enumerate(prefix.families):
            rest = "".join(onward[position:])
            rows = [[token for token in family[row].tolist() if token >= 0] for row in letter_columns(letters)]
            ranked = sorted(
                (self._rank(token, rest, letter), token)
                for letter, row in zip(letters, rows, strict=True)
                for token in row
            )
            through = prefix.tokens[position : position + 1]
            ids = (*through, *(token for _, token in ranked))
            found.append(LetterPosition(rest, "".join(onward[position : position + 1]), ids))
        return tuple(found)

    def text_of(self, token: int) -> str:
        """Return the text of a token."""
        if token not in self._texts:
            self._texts[token] = decoded_text(self._tokenizer, [token])
        return self._texts[token]

    def _rank(self, token: int, rest: str, letter: str) -> int:
        before, _, behind = self.text_of(token).removeprefix(rest).partition(letter)
        return _RANKS.get((before, behind), len(_RANKS))


class ServedTokens:
    """Provides the letters' tokens from the server's `/tokenize` and `/detokenize`, as in vLLM.

    Args:
        post: posts a body to a path of the server and returns the reply; None = no such path.
        model: the model's name at the server.
    """

    def __init__(self, post: Callable[[str, Mapping[str, Any]], Any], model: str) -> None:
        self._post = post
        self._model = model
        self._known: dict[str, list[int]] = {}
        self._texts: dict[int, str] = {}
        self._positions: dict[tuple[str, str], tuple[LetterPosition, ...]] = {}

    def is_offered(self) -> bool:
        """Return whether the server has both paths, and they are inverse."""
        try:
            return self.text_of(self._encoded("A")[-1]).strip() == "A"
        except (LookupError, TypeError):
            return False

    def positions(self, text: str, letters: str) -> tuple[LetterPosition, ...]:
        """See `CheckpointTokens.positions`."""
        key = text[-TAIL:], letters
        if key not in self._positions:
            self._positions[key] = self._find(*key)
        return self._positions[key]

    def text_of(self, token: int) -> str:
        """Return the text of a token."""
        if token not in self._texts:
            reply = self._post("/detokenize", {"model": self._model, "tokens": [token]})
            self._texts[token] = str(reply["prompt"])
        return self._texts[token]

    def _find(self, tail: str, letters: str) -> tuple[LetterPosition, ...]:
        prefix = self._encoded(tail) if tail else []
        written = {(space, letter): self._encoded(tail + space + letter) for letter in letters for space in ("", " ")}
        shared = min(common_length(prefix, one) for one in written.values())
        onward = [self.text_of(token) for token in prefix[shared:]]
        found = []
        for position in range(len(onward) + 1):
            rest = "".join(onward[position:])
            ids = dict.fromkeys(prefix[shared + position : shared + position + 1])
            # The letter tokenised in context; a SentencePiece vocabulary tokenises it differently alone.
            for one in written.values():
                behind = one[shared + position :]
                same = one[: shared + position] == prefix[: shared + position]
                if same and len(behind) == 1 and self._reads(behind[0], rest, letters):
                    ids[behind[0]] = None
            for before, after in _FORMS:
                for letter in letters:
                    one = self._encoded(f"{rest}{before}{letter}{after}")
                    if len(one) == 1 and self._reads(one[0], rest, letter):
                        ids[one[0]] = None
            found.append(LetterPosition(rest, "".join(onward[position : position + 1]), tuple(ids)))
        return tuple(found)

    def _reads(self, token: int, rest: str, letters: str) -> bool:
        text = self.text_of(token)
        return text.startswith(rest) and (letter_of(text.removeprefix(rest)) or " ") in letters

    def _encoded(self, text: str) -> list[int]:
        if text not in self._known:
            body = {"model": self._model, "prompt": text, "add_special_tokens": False}
            self._known[text] = [int(token) for token in self._post("/tokenize", body)["tokens"]]
        return self._known[text]


LetterTokens = CheckpointTokens | ServedTokens
"""Provides the letters' tokens."""
