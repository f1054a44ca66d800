"""Create random generators that depend on a draw's purpose instead of its order.

With a stream shared by all samples, adding, skipping or moving one sample would change all later draws. Here each draw
has its own generator, seeded with the run's seed and a key such as `(sample id, "distractor")`.
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
    string `"1"` differ too. Python's `hash` is unsuitable, as it is salted per process.

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
    """Return the random generator of a draw, which depends only on the seed and the key.

    Args:
        seed: the run's seed.
        *key: the draw's purpose, for instance the sample's id and `"distractor"`.

    Example:
        >>> int(generator(0, "q1", "distractor").integers(100)) == int(generator(0, "q1", "distractor").integers(100))
        True
    """
    return np.random.default_rng(np.random.SeedSequence([seed & (2**64 - 1), integer_key(*key)]))


def subset(items: Iterable[Item], count: int, seed: int, name: Callable[[Item], str]) -> list[Item]:
    """Return `count` items drawn without replacement, in random order; all items if there are fewer.

    The order depends only on the items' keys: a smaller subset is a prefix of a larger one, and other items do not
    affect the order of two items. Memory holds only the returned items.

    Args:
        items: the items to draw from.
        count: the number of items to draw.
        seed: the run's seed.
        name: returns an item's name, which should be unique.

    Raises:
        ValueError: `count` is below 1.

    Example:
        >>> drawn = subset(["a", "b", "c", "d"], 2, seed=0, name=str)
        >>> drawn == subset(["d", "c", "b", "a"], 4, seed=0, name=str)[:2]
        True
    """
    if count < 1:
        raise ValueError(f"expected to draw at least 1, got {count}")
    return heapq.nsmallest(count, items, key=lambda item: integer_key(seed, name(item), "subset"))
