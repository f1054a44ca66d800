"""What evaluations cost beside the training that they interrupt, and which of them are left out."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

__all__ = ["Budget"]


class Budget:
    """Seconds of training and of evaluations, from now on.

    Args:
        share: how many seconds of evaluations a second of training may cost; None = any.

    Attributes:
        spent: seconds of all evaluations so far.
        last: seconds of the last one.
        skipped: how many were left out.

    Example:
        >>> budget = Budget(0.1)
        >>> with budget.spending():
        ...     pass
        >>> budget.spent < 1.0, budget.skipped
        (True, 0)
    """

    def __init__(self, share: float | None) -> None:
        self.share = share
        self.spent = 0.0
        self.last = 0.0
        self.skipped = 0
        self._begun = perf_counter()

    @property
    def training(self) -> float:
        """Seconds since the beginning, without those of evaluations."""
        return perf_counter() - self._begun - self.spent

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Count what is done inside as an evaluation."""
        begun = perf_counter()
        yield
        self.last = perf_counter() - begun
        self.spent += self.last

    def allows_one_more(self) -> bool:
        """Return whether one as long as the last stays within the share, with room left for the final one."""
        return self.share is None or self.spent + 2 * self.last <= self.share * self.training
