"""Where the tags stand that mark a thought and an answer."""

import re
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["Span", "Tags", "find_tags", "tag_pattern"]

Span = tuple[int, int]

# Blank blocks that are passed over, at most.
_BLOCKS = 64


@dataclass(frozen=True, slots=True)
class Tags:
    """Where the four tags stand in a turn; all positions are (start, end)."""

    think_open: list[Span]
    think_close: list[Span]
    answer_open: list[Span]
    answer_close: list[Span]

    def following(self, kind: str, position: int) -> Span | None:
        """Return the first tag of a kind that begins at `position` or later."""
        spans: list[Span] = getattr(self, kind)
        index = bisect_left(spans, (position, position))
        return spans[index] if index < len(spans) else None

    def block(self, position: int, end: int, turn: str, written: int = 0) -> tuple[Span, Span] | None:
        """Return the first answer block from `position` on that is not blank: its opening tag, and its content.

        What stands before `written` is not the model's: a block that ends there does not count.
        """
        opened = self.following("answer_open", position)
        for _ in range(_BLOCKS):
            if opened is None or opened[0] >= end:
                break
            limits = [self.following(kind, opened[1]) for kind in self.__slots__]
            stop = min((span[0] for span in limits if span is not None), default=end)
            start = max(opened[1], written)
            if turn[start : min(stop, end)].strip():
                return opened, (start, min(stop, end))
            opened = self.following("answer_open", opened[1])
        return None


@lru_cache(maxsize=256)
def tag_pattern(tag: str) -> re.Pattern[str]:
    """Return the pattern of a tag, whatever its case and the spaces in it."""
    named = re.fullmatch(r"<(/?)([\w:.-]+)>", tag.strip())
    if named is None:
        return re.compile(re.escape(tag.strip()), re.IGNORECASE)
    slash = r"/\s*+" if named[1] else ""
    return re.compile(rf"<\s*+{slash}{re.escape(named[2])}\s*+>", re.IGNORECASE)


def find_tags(turn: str, think_tags: tuple[str, str], answer_tags: tuple[str, str] | None) -> Tags:
    """Find the opening and closing tags of thought and answer, whatever their case.

    Where a pair opens and closes with the same tag, every other one closes. Without answer tags none are found.

    Example:
        >>> find_tags("<think>x</THINK>", ("<think>", "</think>"), ("<answer>", "</answer>")).think_close
        [(8, 16)]
    """
    found: list[list[Span]] = []
    for opening, closing in filter(None, (think_tags, answer_tags)):
        opens = [match.span() for match in tag_pattern(opening).finditer(turn)]
        if opening.strip().lower() == closing.strip().lower():
            found += [opens[::2], opens[1::2]]
        else:
            found += [opens, [match.span() for match in tag_pattern(closing).finditer(turn)]]
    if answer_tags is None:
        found += [[], []]
    return Tags(*found)
