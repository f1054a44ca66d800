"""What a conformance check demands, said in a sentence."""

__all__ = ["require"]


def require(holds: bool, sentence: str) -> None:
    """Raise an `AssertionError` with `sentence` unless `holds`; unlike `assert`, also under `python -O`.

    Example:
        >>> require(1 + 1 == 2, "expected arithmetic")
    """
    if not holds:
        raise AssertionError(sentence)
