"""Read a server's generated tokens with the log-probabilities of their alternatives.

A server returns its top k tokens, or exactly the requested ones. A letter's probability is the sum over its returned
tokens ("A", " A", "(A"), over the whole vocabulary and not renormalised. From the top k that is a lower bound: a token
that was not returned is at most as likely as the least likely returned one, and all of them together have the
probability missing to 1.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, overload

from ...prompting import MARKS
from ..letter_tokens import letter_of

__all__ = ["Step", "Steps", "field_of", "logsumexp", "text_of"]

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


def _known(entries: Iterable[Any], exact: bool = False) -> list[tuple[bytes, float]]:
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
