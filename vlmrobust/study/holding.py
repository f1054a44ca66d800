"""What is large is loaded when it is first needed, and let go before the next."""

import gc
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Once", "free_memory"]

Made = TypeVar("Made")


class Once(Generic[Made]):
    """Something that is made when it is first asked for, and that fails each time as it failed first.

    Example:
        >>> made = Once(lambda: print("made") or 1)
        >>> made(), made()
        made
        (1, 1)
    """

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make = make
        self._made: list[Made] = []
        self._error: Exception | None = None

    def __call__(self) -> Made:
        """Return it."""
        if self._error is not None:
            raise self._error
        if not self._made:
            try:
                self._made.append(self._make())
            except Exception as error:
                self._error = error
                raise
        return self._made[0]


def free_memory() -> None:
    """Give back what nothing refers to any more, on a GPU as well."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
