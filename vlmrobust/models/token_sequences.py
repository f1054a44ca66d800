"""Compare sequences of token ids, of a local tokenizer or a server's."""

from collections.abc import Sequence

__all__ = ["common_length"]


def common_length(tokens: Sequence[int], others: Sequence[int]) -> int:
    """Return the length of the common prefix of two sequences."""
    pairs = zip(tokens, others, strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(tokens), len(others)))
