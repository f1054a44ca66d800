"""Lock a directory for the processes of a single run.

Every process of a run (a single one, a rank or an actor) holds a lock on a file of its own below `.running/`, next to a
description:

    .running/<key>.lock       locked while the process uses the directory; released when it ends
    .running/<key>.json       run, host, process and start time; touched every few seconds

Processes of the same run share the directory; those of another run are refused. Files of killed processes are removed
by the next one. A process checks for others before and after it enters: of two that enter at the same time, at least
one sees the other and withdraws. Some network file systems do not share locks between machines, so a lock of another
machine's process that can be acquired proves nothing: then the heartbeat decides.
"""

import json
import logging
import os
import platform
import random
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from .jsonl import is_running, write_atomically

__all__ = ["DirectoryInUseError", "DirectoryLock", "new_run"]

logger = logging.getLogger(__name__)

_FOLDER = ".running"
_HEARTBEAT = 5.0  # seconds between heartbeats
_TIMEOUT = 3 * _HEARTBEAT  # without a heartbeat for this time, a process of another machine is gone
_PROBE = 0.3  # seconds to wait for a lock that another process may be probing
_RETRY = 0.5  # maximum delay in seconds before retrying after a collision
_MAX_CLOCK_SKEW = 3600.0  # seconds between the clocks of two machines


class DirectoryInUseError(RuntimeError):
    """Another run is using a directory."""


def new_run() -> str:
    """Return a new id for a run, to be shared by its processes."""
    return uuid4().hex


@dataclass(frozen=True, slots=True)
class _LockHolder:
    """A process that uses, or has used, a directory."""

    file: Path
    run: str
    host: str
    process: int
    since: str

    @classmethod
    def read(cls, file: Path) -> Self | None:
        """Return the process that a file describes; None = it has left."""
        try:
            return cls(file=file, **json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def age(self) -> float:
        """Return the seconds since the last heartbeat, by this machine's clock; inf = it has left."""
        try:
            return time.time() - self.file.stat().st_mtime
        except FileNotFoundError:
            return float("inf")

    def is_gone(self) -> bool:
        """Return whether the process is gone, and remove its files if so; this may take some seconds."""
        from filelock import FileLock, Timeout

        lock = FileLock(str(self.file.with_suffix(".lock")))
        try:
            lock.acquire(timeout=_PROBE, poll_interval=_PROBE / 10)
        except Timeout:
            # Children of a killed process inherit its lock, but have no heartbeat.
            is_here = self.host == platform.node()
            if not is_here or is_running(self.process) or self.age() < _TIMEOUT:
                return False
            self._remove()
            return True
        except FileNotFoundError:  # the folder is gone
            return True
        try:  # a process that is just entering waits for this lock, then checks that its file still exists
            if self.host != platform.node() and self._has_heartbeat():
                return False
            self._remove()
            return True
        finally:
            lock.release()

    def _has_heartbeat(self) -> bool:
        """Return whether the file is touched while this waits, which does not depend on the clocks of two machines."""
        with suppress(FileNotFoundError):
            before, until = self.file.stat().st_mtime_ns, time.monotonic() + _TIMEOUT
            while self.age() < _MAX_CLOCK_SKEW and time.monotonic() < until:
                time.sleep(0.2)
                if self.file.stat().st_mtime_ns != before:
                    return True
        return False

    def _remove(self) -> None:
        for suffix in (".json", ".lock"):
            self.file.with_suffix(suffix).unlink(missing_ok=True)


class DirectoryLock:
    """Keeps other runs out of a directory while it is held; released when the process is killed.

    Args:
        folder: the directory; created if necessary.
        run: id shared by the processes of the run; None = this process is alone.

    Raises:
        DirectoryInUseError: another run is using it; the message names machine, process, start time and last heartbeat.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with DirectoryLock(folder) as held, DirectoryLock(folder, held.run):
        ...     print("two of one run")
        two of one run
    """

    def __init__(self, folder: str | Path, run: str | None = None) -> None:
        self.run = run or new_run()
        self._directory = Path(folder)
        self._folder = self._directory / _FOLDER
        self._file = self._folder / f"{uuid4().hex}.json"
        from filelock import FileLock

        self._lock = FileLock(str(self._file.with_suffix(".lock")))
        self._left = threading.Event()
        self._is_new = not self._directory.exists()

    def __enter__(self) -> Self:
        while True:
            self._refuse_others()
            self._enter()
            try:
                self._refuse_others()
            except DirectoryInUseError:  # another run has entered at the same time
                self._leave()
                time.sleep(random.uniform(0.0, _RETRY))
                continue
            except BaseException:
                self._leave()
                raise
            break
        threading.Thread(target=self._beat, name="vlmrobust-heartbeat", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        self._leave()

    def await_others(self, seconds: float = 30.0) -> None:
        """Wait until the other processes of this run have left, as killed ones do with a delay."""
        until = time.monotonic() + seconds
        for path in self._folder.glob("*.json"):
            while path != self._file and time.monotonic() < until:
                holder = _LockHolder.read(path)
                if holder is None or holder.run != self.run or holder.is_gone():
                    break

    def _enter(self) -> None:
        content = {
            "run": self.run,
            "host": platform.node(),
            "process": os.getpid(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        while True:
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                write_atomically(self._file, json.dumps(content) + "\n")
                self._lock.acquire()
            except FileNotFoundError:  # the last process to leave has just removed the folder
                continue
            if self._file.exists():
                break
            self._lock.release()  # another process took the file for that of a killed one and removed it

    def _leave(self) -> None:
        self._file.unlink(missing_ok=True)
        self._lock.release()
        with suppress(OSError):  # others are still here, or have removed it already
            for path in self._folder.glob("*.lock"):
                if not path.with_suffix(".json").exists():  # orphaned, as the description is written first
                    path.unlink(missing_ok=True)
            self._folder.rmdir()
            if self._is_new:
                self._directory.rmdir()  # which fails where anything was written

    def _refuse_others(self) -> None:
        for path in sorted(self._folder.glob("*.json")):
            holder = _LockHolder.read(path)
            if holder is None or holder.run == self.run:
                continue
            if not holder.is_gone():
                raise DirectoryInUseError(
                    f"run directory {self._directory}: expected no other run in it, but process {holder.process} on "
                    f"{holder.host!r} has been using it since {holder.since}, with the last heartbeat "
                    f"{holder.age():.0f} s ago; wait for it to end, or use another directory"
                )
            logger.info(
                "run directory %s: removed the lock of process %d, which is gone", self._directory, holder.process
            )

    def _beat(self) -> None:
        while not self._left.wait(_HEARTBEAT):
            with suppress(OSError):  # the lock is held even if the disk is full or the file server unreachable
                os.utime(self._file)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a held lock belongs to one process; pass on its `run` instead")
