"""Draw random numbers that depend on what they are for, not on when they are drawn.

A stream shared by all samples would change every later draw when one sample is added, skipped or moved to another
worker. Here each draw has its own generator, made from the seed and a key such as `(sample id, "distractor")`.
"""

import hashlib
import heapq
from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np

__all__ = ["generator", "integer_key", "subset"]


Item = TypeVar("Item")


def integer_key(*key: str | int) -> int:
    """Return a 128-bit integer that identifies `key` on every machine and in every process.

    The parts are length-prefixed before hashing, so `("ab", "c")` and `("a", "bc")` differ; the number `1` and the
    string `"1"` differ as well. Python's own `hash` is salted per process and would not do.

    Example:
        >>> integer_key("q1", "distractor") == integer_key("q1", "distractor")
        True
        >>> integer_key("ab", "c") == integer_key("a", "bc")
        False
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in key:
        encoded = f"{type(part).__name__}:{part}".encode()
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return int.from_bytes(digest.digest(), "little")


def generator(seed: int, *key: str | int) -> np.random.Generator:
    """Return the random generator of one draw, the same whenever and wherever it is asked for.

    Args:
        seed: the run's seed.
        *key: what the draw is for, for instance the sample's id and `"distractor"`.

    Example:
        >>> int(generator(0, "q1", "distractor").integers(100)) == int(generator(0, "q1", "distractor").integers(100))
        True
    """
    return np.random.default_rng(np.random.SeedSequence([seed & (2**64 - 1), integer_key(*key)]))


def subset(items: Iterable[Item], count: int, seed: int, name: Callable[[Item], str]) -> list[Item]:
    """Return so many items in a random order, drawn without replacement; all of them where there are no more.

    An item's key alone decides: fewer are the first of more, and what else there is to draw from changes no two items'
    order. Only as many items as are returned are kept while the others are looked at.

    Args:
        items: what is drawn from.
        count: how many.
        seed: the run's seed.
        name: what an item is called; names should differ.

    Raises:
        ValueError: fewer than one are asked for.

    Example:
        >>> drawn = subset(["a", "b", "c", "d"], 2, seed=0, name=str)
        >>> drawn == subset(["d", "c", "b", "a"], 4, seed=0, name=str)[:2]
        True
    """
    if count < 1:
        raise ValueError(f"expected to draw at least 1, got {count}")
    return heapq.nsmallest(count, items, key=lambda item: integer_key(seed, name(item), "subset"))
