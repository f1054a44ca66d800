"""The bar that shows how much is answered."""

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Never, Self

from ..perturbations import Perturbation
from ..text import printable
from .plan import Batch

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Progress"]


class Progress:
    """Counts responses, and shows the count where standard error is a terminal.

    Args:
        total: the number of responses that are wanted.
        shown: whether there is a bar at all.

    Attributes:
        asked: how many responses are new, and not from disk.
    """

    def __init__(self, total: int, *, shown: bool = True) -> None:
        self.asked = 0
        self._bar = _bar(total) if shown else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def name(self, batch: Batch, conditions: Sequence[Perturbation]) -> None:
        """Say what is asked now."""
        if self._bar is not None:
            first, last = batch.start + 1, batch.start + len(batch.samples)
            self._bar.set_description(f"samples {first}–{last}: {_listed(conditions)}")

    def add(self, responses: int, asked: int) -> None:
        """Count responses, of which `asked` are new."""
        self.asked += asked
        if self._bar is None:
            return
        if not self._bar.disable:
            # What was on disk already counts as done, but not for the rate.
            self._bar.initial += responses - asked
        self._bar.update(responses)


def _listed(conditions: Sequence[Perturbation]) -> str:
    names = [printable(condition.condition) for condition in conditions]
    return ", ".join(names) if len(names) <= 2 else f"{names[0]} … {names[-1]} ({len(names)} conditions)"


def _bar(total: int) -> "tqdm[Never]":
    from tqdm.auto import tqdm

    # `disable=None`: no bar where standard error is no terminal.
    return tqdm(total=total, unit=" responses", disable=None)
