"""Letters after given tokens: the log-probabilities, over the whole vocabulary, of all tokens that read as one.

vLLM returns those of up to 128 tokens that it is told, at one step; where several tokens stand before a letter with
which it may merge, each place at which the letter's token may begin is a request of its own.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from ...prompting import MARKS
from ..server.steps import logsumexp
from ..vocabulary import LetterFamily
from .engine import Output, Request

__all__ = [
    "Asking",
    "Requesting",
    "by_token",
    "letter_tokens",
    "letters_at",
    "logprobs_after",
    "one_token",
    "places_of",
]

_MOST = 128  # tokens that a request may name

Asking = Generator[Sequence[Request], Sequence[Output], Any]
Requesting = Callable[[Sequence[int], Mapping[str, Any]], Request]
"""Returns a request for tokens and sampling."""


def one_token(ids: Sequence[int]) -> dict[str, Any]:
    """Return what is told to get the log-probabilities of some tokens as the next one."""
    told = {"temperature": 0.0, "max_tokens": 1, "ignore_eos": True, "detokenize": False}
    return told | ({"logprob_token_ids": list(ids), "flat_logprobs": True} if ids else {})


def by_token(logprobs: Mapping[int, Any]) -> dict[int, float]:
    """Return log-probabilities (nats) by token."""
    return {token: float(found.logprob) for token, found in logprobs.items()}


def letter_tokens(family: LetterFamily, rows: Sequence[int], size: int) -> list[int]:
    """Return the tokens that may read as a letter.

    Args:
        family: of a place.
        rows: which letters.
        size: how many tokens the engine's vocabulary has.
    """
    found = (token for row in rows for token in family.tokens[row].tolist())
    return list(dict.fromkeys(token for token in found if 0 <= token < size))


def places_of(
    tokens: Sequence[int], path: Sequence[int], families: Sequence[LetterFamily], rows: Sequence[int], size: int
) -> list[tuple[Sequence[int], list[int]]]:
    """Return, for each place at which a letter's token may begin, what stands before and which tokens are asked for.

    Args:
        tokens: all that stands before the letter.
        path: the last of them, with which the letter may merge.
        families: of each place, one more than there are tokens in the path.
        rows: which letters.
        size: how many tokens the engine's vocabulary has.
    """
    begin = len(tokens) - len(path)
    return [
        (tokens[: begin + place], [*path[place : place + 1], *letter_tokens(family, rows, size)])
        for place, family in enumerate(families)
    ]


def logprobs_after(request: Requesting, places: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Asking:
    """Ask for the log-probabilities of some tokens after others, and return them by token for each place.

    Args:
        request: makes requests.
        places: what stands before, and which tokens.
    """
    asked = [
        (place, request(tokens, one_token(ids[start : start + _MOST])))
        for place, (tokens, ids) in enumerate(places)
        for start in range(0, len(ids), _MOST)
    ]
    outputs = yield [each for _, each in asked]
    found: list[dict[int, float]] = [{} for _ in places]
    for (place, _), output in zip(asked, outputs, strict=True):
        found[place] |= by_token(output.logprobs[0])
    return found


def letters_at(
    steps: Sequence[Mapping[int, float]],
    path: Sequence[int],
    families: Sequence[LetterFamily],
    rows: Sequence[int],
    *,
    small: bool = False,
) -> list[float]:
    """Return the log-probabilities of all letters and digits, summed over all places, -inf for those not in `rows`.

    Args:
        steps: log-probabilities by token at each place.
        path: the tokens that lead from one place to the next.
        families: of each place.
        rows: which letters.
        small: count the small letters that could be words as well.
    """
    letters: list[list[float]] = [[] for _ in MARKS]
    reached = 0.0
    for place, (found, family) in enumerate(zip(steps, families, strict=True)):
        for row in rows:
            cells = zip(family.tokens[row].tolist(), family.counted[row].tolist(), strict=True)
            letters[row] += [
                reached + found[token] for token, counted in cells if token in found and (small or counted == 0.0)
            ]
        if place < len(path):
            reached += found[path[place]]
    return [logsumexp(values) for values in letters]
