"""What is found out once for all threads; where that fails, all that wait learn it from the one that tried."""

import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

__all__ = ["Shared"]

Found = TypeVar("Found")


class Shared:
    """Holds what was found out, by keys; a thread at a time finds out, and the others wait for it.

    Those that wait while an attempt fails get its error. Who comes later tries for itself.

    Example:
        >>> shared = Shared()
        >>> shared.of("answer", lambda: 42), shared.of("answer", lambda: 43)
        (42, 42)
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._known: dict[Hashable, Any] = {}
        self._failures = 0
        self._failed: dict[Hashable, tuple[int, Exception]] = {}

    def of(self, key: Hashable, find: Callable[[], Found]) -> Found:
        """Return what `find` has returned for a key; what it needs to know of another key it may ask here as well."""
        before = self._failures
        with self._lock:
            if key not in self._known:
                number, error = self._failed.get(key, (0, None))
                if error is not None and number > before:
                    raise error
                try:
                    self._known[key] = find()
                except Exception as error:
                    self._failures += 1
                    self._failed[key] = self._failures, error
                    raise
            found: Found = self._known[key]
            return found
