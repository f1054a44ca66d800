"""One run at a time in a directory: who writes in it, since when, and whether that process is still there.

Every process of a run, be it one, a rank or an actor, holds a lock on a file of its own below `.running/`, beside which
stands who it is:

    .running/<key>.lock       held as long as the process works in the directory; it ends with the process
    .running/<key>.json       run, host, process, since when; touched every few seconds

Processes of one run have its name in common and share the directory; those of another run are refused. What a killed
process has left is removed by the next. Whoever enters looks around before and after: of two that come at one moment
one at least sees the other, and withdraws. Where the lock of another machine's process can be had, it says nothing,
since some network file systems keep locks on each machine apart; whether the file is still touched does.
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
_BEAT = 5.0  # seconds between two signs of life
_SILENT = 3 * _BEAT  # without one for so long, a process of another machine is gone
_LOOK = 0.3  # seconds for which a lock that another process looks at may be held by that
_APART = 0.5  # seconds within which two that came at one moment try again
_LONG_GONE = 3600.0  # the clocks of two machines do not differ by so much


class DirectoryInUseError(RuntimeError):
    """Another run is at work in a directory."""


def new_run() -> str:
    """Return a name that the processes of one run have in common."""
    return uuid4().hex


@dataclass(frozen=True, slots=True)
class _Member:
    """A process that is, or was, at work in a directory."""

    file: Path
    run: str
    host: str
    process: int
    since: str

    @classmethod
    def read(cls, file: Path) -> Self | None:
        """Return who a file is about; None = it has left."""
        try:
            return cls(file=file, **json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def age(self) -> float:
        """Return how many seconds ago the last sign of life came, by this machine's clock; inf = it has left."""
        try:
            return time.time() - self.file.stat().st_mtime
        except FileNotFoundError:
            return float("inf")

    def is_gone(self) -> bool:
        """Return whether the process works here no more, and remove what it has left; this may take some seconds."""
        from filelock import FileLock, Timeout

        lock = FileLock(str(self.file.with_suffix(".lock")))
        try:
            lock.acquire(timeout=_LOOK, poll_interval=_LOOK / 10)
        except Timeout:
            # Children that outlive a killed process hold its lock with it, but show no sign of life.
            is_here = self.host == platform.node()
            if not is_here or is_running(self.process) or self.age() < _SILENT:
                return False
            self._remove()
            return True
        except FileNotFoundError:  # the folder is gone
            return True
        try:  # what is just about to enter waits for this lock, and looks whether its file is still there
            if self.host != platform.node() and self._shows_life():
                return False
            self._remove()
            return True
        finally:
            lock.release()

    def _shows_life(self) -> bool:
        """Return whether the file is touched while one looks on: clocks of two machines need not agree."""
        with suppress(FileNotFoundError):
            before, until = self.file.stat().st_mtime_ns, time.monotonic() + _SILENT
            while self.age() < _LONG_GONE and time.monotonic() < until:
                time.sleep(0.2)
                if self.file.stat().st_mtime_ns != before:
                    return True
        return False

    def _remove(self) -> None:
        for suffix in (".json", ".lock"):
            self.file.with_suffix(suffix).unlink(missing_ok=True)


class DirectoryLock:
    """Keeps other runs out of a directory as long as it is held; a process that is killed lets go of it.

    Args:
        folder: the directory; made if it is not there.
        run: the name that the processes of one run have in common; None = this process is alone.

    Raises:
        DirectoryInUseError: another run is at work there; the message says on which machine, in which process, since
            when, and when it was last heard of.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with DirectoryLock(folder) as held, DirectoryLock(folder, held.run):
        ...     print("two of one run")
        two of one run
    """

    def __init__(self, folder: str | Path, run: str | None = None) -> None:
        self.run = run or new_run()
        self._shown = Path(folder)
        self._folder = self._shown / _FOLDER
        self._file = self._folder / f"{uuid4().hex}.json"
        from filelock import FileLock

        self._lock = FileLock(str(self._file.with_suffix(".lock")))
        self._left = threading.Event()
        self._is_new = not self._shown.exists()

    def __enter__(self) -> Self:
        while True:
            self._refuse_others()
            self._enter()
            try:
                self._refuse_others()
            except DirectoryInUseError:  # it came at the same moment
                self._leave()
                time.sleep(random.uniform(0.0, _APART))
                continue
            except BaseException:
                self._leave()
                raise
            break
        threading.Thread(target=self._show_life, name="vlmrobust-heartbeat", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        self._leave()

    def await_others(self, seconds: float = 30.0) -> None:
        """Wait until the other processes of this run have left, as those do a moment after that are killed."""
        until = time.monotonic() + seconds
        for path in self._folder.glob("*.json"):
            while path != self._file and time.monotonic() < until:
                member = _Member.read(path)
                if member is None or member.run != self.run or member.is_gone():
                    break

    def _enter(self) -> None:
        about = {
            "run": self.run,
            "host": platform.node(),
            "process": os.getpid(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        while True:
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                write_atomically(self._file, json.dumps(about) + "\n")
                self._lock.acquire()
            except FileNotFoundError:  # the last one to leave has removed the folder in the meantime
                continue
            if self._file.exists():
                break
            self._lock.release()  # who looked in between took it for what a killed process has left

    def _leave(self) -> None:
        self._file.unlink(missing_ok=True)
        self._lock.release()
        with suppress(OSError):  # others are still there, or were faster
            for path in self._folder.glob("*.lock"):
                if not path.with_suffix(".json").exists():  # nobody's: whoever enters has written that before
                    path.unlink(missing_ok=True)
            self._folder.rmdir()
            if self._is_new:
                self._shown.rmdir()  # which fails where anything was written

    def _refuse_others(self) -> None:
        for path in sorted(self._folder.glob("*.json")):
            member = _Member.read(path)
            if member is None or member.run == self.run:
                continue
            if not member.is_gone():
                raise DirectoryInUseError(
                    f"run directory {self._shown}: expected no other run at work in it, but process {member.process} "
                    f"on {member.host!r} has been since {member.since}, and was last heard of {member.age():.0f} s "
                    "ago; wait for it to end, or use another directory"
                )
            logger.info("run directory %s: process %d is gone, and is forgotten", self._shown, member.process)

    def _show_life(self) -> None:
        while not self._left.wait(_BEAT):
            with suppress(OSError):  # on a full disk, or a file server that is away: the lock is still held
                os.utime(self._file)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a held lock belongs to one process; pass on its `run` instead")
