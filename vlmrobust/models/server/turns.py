"""The generated text from its tokens, tags and all, whatever a server's parsers make of it.

What a server shows is a view: a parser sets the thought apart and drops its tags, some tokens are not shown at all, and
some servers show the prefill once more. The tokens hold what was generated, and behind it what ended the turn. Where
that begins, what is shown tells.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise, product

__all__ = ["begun_by", "rebuilt", "token_at"]

_CONTROL = re.compile(rb"<[^<>]*>|\[[^\[\]]*\]")


def rebuilt(
    tokens: Sequence[bytes], shown: tuple[str, str], prefill: str, tags: Sequence[str], *, ended: bool
) -> str | None:
    """Return the generated text; None = the tokens do not hold what is shown.

    Args:
        tokens: all generated tokens, and maybe the one that ended the turn, or those of a stop string.
        shown: the thought that was set apart and the text, as the server shows them; either may be empty.
        prefill: what the assistant's turn began with.
        tags: the thought's two tags, and the answer's; what a parser may have dropped at the end is one of them.
        ended: the text ended of itself, not at the token limit.

    Example:
        >>> tokens = [b"It is", b"</think>", b"B", b"<|im_end|>"]
        >>> rebuilt(tokens, ("", "It isB"), "<think>", ["<think>", "</think>"], ended=True)
        'It is</think>B'
    """
    joined = b"".join(tokens)
    end = _Untagged(tokens, tags).end_of(shown, prefill, tags)
    if end is None or not ended:
        return None if end is None else joined.decode(errors="replace")
    # Nobody ends a turn with one of these tags; a server that leaves tokens out may have left out the last one, too.
    hidden = joined[end:]
    end += max((hidden.rfind(tag) + len(tag) for tag in map(str.encode, tags) if tag in hidden), default=0)
    if end == 0 and tokens:  # nothing is shown
        end = len(joined) - (len(tokens[-1]) if _CONTROL.fullmatch(tokens[-1]) else 0)
    return joined[:end].decode(errors="replace")


def token_at(tokens: Sequence[bytes], place: int) -> int | None:
    """Return which token holds character `place` of the text that all of them make; None = none does.

    Example:
        >>> token_at(["né".encode()[:2], "né".encode()[2:], b" B"], 1)
        0
    """
    joined = b"".join(tokens)
    ends = list(accumulate(map(len, tokens)))
    low, high = 0, len(ends)
    while low < high:  # characters, not bytes: a broken character is one, too
        middle = (low + high) // 2
        if len(joined[: ends[middle]].decode(errors="replace")) > place:
            high = middle
        else:
            low = middle + 1
    return low if place >= 0 and low < len(ends) else None


def begun_by(text: str, start: str) -> str | None:
    """Return what follows in a text that begins as the prefill does, spaces in front apart; None = it does not."""
    start, shown = start.lstrip(), text.lstrip()
    return shown[len(start) :] if start and shown.startswith(start) else None


class _Untagged:
    """The generated tokens without the tags in them, which a parser may have dropped, wherever tokens are cut."""

    def __init__(self, tokens: Sequence[bytes], tags: Sequence[str]) -> None:
        self._tags = re.compile(b"|".join(re.escape(tag.encode()) for tag in tags))
        joined = b"".join(tokens)
        spans = [match.span() for match in self._tags.finditer(joined)]
        edges = [0, *(edge for span in spans for edge in span), len(joined)]
        self._origin = [place for a, b in zip(edges[::2], edges[1::2], strict=True) for place in range(a, b)]
        self._bytes = self._tags.sub(b"", joined)
        self._ends = [bisect_left(self._origin, end) for end in accumulate(map(len, tokens))]

    def end_of(self, shown: tuple[str, str], prefill: str, tags: Sequence[str]) -> int | None:
        """Return where the text that is shown ends among the tokens, tags included; None = it is not there.

        What the model wrote once more is among the tokens, what the server shows once more is not: so the whole is
        looked for first, and what is left without the prefill after that.
        """
        begun, _, after = prefill.partition(tags[1])
        thoughts = [shown[0], *_without(shown[0], (begun, begun.lstrip().removeprefix(tags[0])))]
        texts = [shown[1], *_without(shown[1], (prefill, prefill.strip(), after))]
        for text, thought in product(map(self._plain, texts), map(self._plain, thoughts)):
            place = self._place(text, len(self._bytes))
            if place is None:
                continue
            above = self._place(thought, place[0] if text else len(self._bytes))
            if above is not None:
                end = place[1] if text else above[1]
                return self._origin[end - 1] + 1 if end else 0
        return None

    def _plain(self, text: str) -> bytes:
        # A character that was cut through is shown as a mark, or not at all.
        return self._tags.sub(b"", text.rstrip("\ufffd").encode())

    def _place(self, wanted: bytes, limit: int) -> tuple[int, int] | None:
        """Return where a text stands last, before byte `limit`: whole, or with tokens left out that are not shown."""
        if not wanted:
            return 0, 0
        ends = [end for end in self._ends if end <= limit]
        # At the end of a token first: a short text may stand within the token that ends the turn.
        for end in reversed(ends):
            if self._bytes.endswith(wanted, 0, end):
                return end - len(wanted), end
        if (start := self._bytes.rfind(wanted, 0, limit)) >= 0:
            return start, start + len(wanted)
        left, last = len(wanted), 0
        for start, end in reversed(list(pairwise([0, *ends]))):
            token = self._bytes[start:end]
            if token and wanted.endswith(token, 0, left):
                left, last = left - len(token), last or end
                if left == 0:
                    return start, last
        return None


def _without(text: str, starts: Sequence[str]) -> Iterator[str]:
    for start in starts:
        if (rest := begun_by(text, start)) is not None:
            yield rest
