"""The tokens that a server generated, each with what might have stood in its place.

Of the vocabulary a server returns its top k, or exactly the tokens that were asked for. A letter's probability is the
sum over those of its tokens that were returned ("A", " A", "(A"), over the whole vocabulary and not renormalised. With
the top k that is a lower bound: a token that was not returned is at most as likely as the least likely one that was,
and all of them together have what is missing to 1.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, overload

from ...prompting import MARKS
from ..vocabulary import letter_of

__all__ = ["Step", "Steps", "field_of", "logsumexp", "text_of"]

_ROUNDING = 1e-3  # nats; half precision may put a sure token a little above 0


def field_of(part: Any, name: str) -> Any:
    """Return a field of a JSON object, or of an object of a client's own type; None = it is not there."""
    return part.get(name) if isinstance(part, dict) else getattr(part, name, None)


@dataclass(frozen=True, slots=True)
class Step:
    """One generated token, and what might have stood in its place.

    Attributes:
        token: its text in UTF-8; a token may be a part of a character.
        logprobs: log-probabilities (nats) of the tokens that were returned, by their text.
        floor: what no token that was not returned exceeds; None = none were returned, or it does not matter.
        exact: the letters' tokens were asked for one by one, so that what was not returned does not matter.
        returned: the texts of the tokens that were asked for or belong to the top k, equal ones too.
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
            exact: its other tokens are those that were asked for, not the top k.

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
        """Whether letters can be read here: without others beside the token, nothing is known of them."""
        return self.exact or self.floor is not None

    def letters(self, rest: bytes = b"") -> list[float]:
        """Return the log-probability of each letter and digit, -inf where no token of it was returned.

        Args:
            rest: what a token has to begin with before its letter, such as `>` after `<answer`.
        """
        found = self._by_letter(rest)
        return [logsumexp(found.get(letter, ())) for letter in MARKS]

    def missing(self, letters: str) -> str:
        """Return those of some letters of which no token was returned."""
        found = self._by_letter(b"")
        return "".join(letter for letter in letters if letter not in found)

    def _by_letter(self, rest: bytes) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for token, logprob in self.logprobs.items():
            if token.startswith(rest) and (letter := letter_of(token[len(rest) :].decode(errors="replace"))):
                found.setdefault(letter, []).append(logprob)
        return found


class Steps(Sequence[Step]):
    """The steps of a reply, each made when it is looked at: what might have stood in its place matters at few of them.

    Args:
        entries: of `logprobs.content`.
        exact: see `Step.of`.

    Attributes:
        tokens: their texts in UTF-8.
    """

    def __init__(self, entries: Sequence[Any], *, exact: bool = False) -> None:
        self._entries = entries
        self._exact = exact
        self._made: dict[int, Step] = {}
        self.tokens = [text_of(entry) for entry in entries]
        for entry in entries:
            _logprob(entry, None)  # what is wrong with a reply shows before anything is read from it

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
    """Return what bounds the tokens that are not among the top k.

    Some servers (vLLM) put the sampled token first. Where it is not one of the top k, it pushes the last of them out,
    and being less likely than those it bounds nothing.
    """
    sampled_first = len(top) > 1 and top[0] < top[1]
    return min(top[1:] if sampled_first else top, default=None)


def _known(entries: Iterable[Any], exact: bool = False) -> list[tuple[bytes, float]]:
    """Return texts and log-probabilities; JSON has no -inf, and some servers send null in its place."""
    unknown = -math.inf if exact else None  # what was asked for and has no probability
    found = [(text_of(entry), _logprob(entry, unknown)) for entry in entries]
    return [(text, logprob) for text, logprob in found if logprob is not None]


def _logprob(entry: Any, unknown: float | None) -> float | None:
    given = field_of(entry, "logprob")
    if given is None:
        return unknown
    value = float(given)
    if not value <= _ROUNDING:  # NaN, too
        token = field_of(entry, "token")
        raise ValueError(f"expected log-probabilities of at most 0, got {value:g} for the token {token!r}")
    return min(value, 0.0)


def text_of(entry: Any) -> bytes:
    """Return the text of an entry's token in UTF-8."""
    # `token` cannot show a part of a character; `bytes` can, where a server gives it: numbers, or (mistralrs) the text
    # itself, beside a number as `token`.
    if given := field_of(entry, "bytes"):
        return given.encode() if isinstance(given, str) else bytes(given)
    token = field_of(entry, "token")
    if not isinstance(token, str):
        raise ValueError(f"expected a token's text, or its bytes, got token {token!r} and bytes {given!r}")
    return token.encode()


def _summed(tokens: Iterable[tuple[bytes, float]]) -> dict[bytes, float]:
    """Return log-probabilities by text: different tokens may read alike."""
    found: dict[bytes, list[float]] = {}
    for text, logprob in tokens:
        found.setdefault(text, []).append(logprob)
    return {text: logsumexp(values) for text, values in found.items()}
