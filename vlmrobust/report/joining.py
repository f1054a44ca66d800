"""Prompts and responses of one's own loop, put together one by one."""

from collections.abc import Iterable, Iterator
from itertools import zip_longest

from ..types import Prompt, Response

__all__ = ["pairs_of"]


def pairs_of(prompts: Iterable[Prompt], responses: Iterable[Response]) -> Iterator[tuple[Prompt, Response]]:
    """Yield each prompt with its response.

    Raises:
        ValueError: there are more of one than of the other, or a key comes twice.
    """
    if isinstance(prompts, list | tuple) and isinstance(responses, list | tuple):
        _check_counts(len(prompts), len(responses))
    seen: dict[tuple[str, int], dict[str, int]] = {}
    counts = [0, 0]
    for position, (prompt, response) in enumerate(zip_longest(prompts, responses)):
        counts = [count + (one is not None) for count, one in zip(counts, (prompt, response), strict=True)]
        if prompt is None or response is None:
            continue
        known = seen.setdefault((response.condition, response.draw), {})
        first = known.setdefault(response.sample_id, position)
        if first != position:
            raise ValueError(
                f"expected responses with keys that differ, got {response.key} at positions {first} and {position}; "
                "repeated draws of a prompt need different numbers in 'draw'"
            )
        yield prompt, response
    _check_counts(*counts)


def _check_counts(prompts: int, responses: int) -> None:
    if prompts != responses:
        raise ValueError(f"expected one response per prompt ({prompts}), got {responses}")
