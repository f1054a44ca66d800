"""Counts that are told in the log now and then: a training is no place for a line each."""

__all__ = ["counted"]

_COUNTS: dict[str, tuple[int, int]] = {}


def counted(what: str, more: int) -> int | None:
    """Add to a count of this process, and return it where it is to be told: at first, and whenever it has doubled.

    Args:
        what: what is counted.
        more: how many more there are.

    Example:
        >>> [counted("doctest", more) for more in (1, 0, 1, 1, 1)]
        [1, None, 2, None, 4]
    """
    if not more:
        return None
    count, told_from = _COUNTS.get(what, (0, 1))
    count += more
    is_told = count >= told_from
    _COUNTS[what] = (count, 2 * count if is_told else told_from)
    return count if is_told else None
