"""JSON Lines files that outlive a kill and are shared by many processes: each is written by one of them alone."""

import json
import math
import os
import platform
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TextIO, TypeVar
from uuid import uuid4

__all__ = [
    "Lines",
    "OwnFile",
    "Position",
    "atomic_draft",
    "batches",
    "create_atomically",
    "files",
    "is_running",
    "json_safe",
    "places",
    "read_lines",
    "unexpected",
    "write_atomically",
    "write_lines_atomically",
]

Position = tuple[int, int]
"""Two numbers: index and count within a batch, or bytes and lines from a file's beginning."""

Described = TypeVar("Described")

_DRAFT = re.compile(r"\..+?(?:\.(?P<process>\d+))?\.(?P<key>[0-9a-f]{32})")
_ABANDONED = 3600.0  # seconds after which nobody writes a file any more

_PLAIN = frozenset({str, int, bool, type(None)})

# What UTF-8 cannot hold is written as JSON escapes it: values are refused before, texts that are made here may be not.
_UTF_8 = ("utf-8", "backslashreplace")


def json_safe(value: Any) -> Any:
    """Return a value with every infinity and NaN in it as a string, since JSON has no numbers for them.

    Example:
        >>> json_safe({"logprobs": (-0.5, -float("inf"))})
        {'logprobs': [-0.5, '-Infinity']}
    """
    # Every value that is written comes through here: plain types first.
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict or isinstance(value, Mapping):
        return {
            key if type(key) is str else str(key): part if type(part) in _PLAIN else json_safe(part)
            for key, part in value.items()
        }
    if kind is list or isinstance(value, tuple | list):
        return [part if type(part) in _PLAIN else json_safe(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each line of a JSON Lines file; a last line without its end is dropped.

    Raises:
        ValueError: any other line is no JSON; the message names file and line.
    """
    for number, line in _whole_lines(path):
        yield number, _value(path, number, line)


def _whole_lines(path: Path, begin: Position = (0, 0)) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        file.seek(begin[0])
        for number, line in enumerate(file, start=begin[1] + 1):
            if line.endswith(b"\n"):
                yield number, line


def _value(path: Path, number: int, line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        shown = line.removesuffix(b"\n")[:80]
        raise ValueError(f"{path}, line {number}: expected JSON, got {shown!r}: {error}") from None


def write_atomically(path: Path, text: str) -> None:
    """Replace a file by a whole new one, in a new folder if need be: a reader, or a kill, never sees a part of one."""
    with atomic_draft(path) as draft, _text_file(draft) as file:
        file.write(text)


def write_lines_atomically(path: Path, values: Iterable[Any]) -> None:
    """Replace a JSON Lines file as `write_atomically` does, line by line; what JSON has no form for becomes text."""
    with atomic_draft(path) as draft, _text_file(draft) as file:
        for value in values:
            file.write(json.dumps(json_safe(value), ensure_ascii=False, allow_nan=False, default=str))
            file.write("\n")


@contextmanager
def atomic_draft(path: Path) -> Iterator[Path]:
    """Yield where to write what takes the place of a file once it is whole, in a new folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft_of(path)
    try:
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def create_atomically(path: Path, text: str) -> bool:
    """Write a file as a whole unless there is one; return whether it was written, and not by another process before."""
    draft = _draft_of(path)
    with _text_file(draft) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    try:
        path.hardlink_to(draft)
    except OSError:
        if path.exists():
            return False
        draft.replace(path)  # a file system without links: the last one wins
    finally:
        draft.unlink(missing_ok=True)
    return True


def _draft_of(path: Path) -> Path:
    _clear_drafts(path.parent)
    return path.with_name(f".{path.name}{_ending(os.getpid(), uuid4().hex)}")


def _text_file(path: Path) -> TextIO:
    return path.open("w", encoding=_UTF_8[0], errors=_UTF_8[1])


def _clear_drafts(folder: Path) -> None:
    """Remove what processes that were killed in the middle of writing a file have left in a folder."""
    for file in folder.iterdir():
        found = _DRAFT.fullmatch(file.name)
        if found is None:
            continue
        with suppress(OSError):  # another process may be clearing up as well
            is_ours = found["process"] is not None and file.name.endswith(_ending(found["process"], found["key"]))
            is_left = not is_running(int(found["process"])) if is_ours else _age(file) > _ABANDONED
            if is_left:
                file.unlink()


def _ending(process: object, key: str) -> str:
    # Process ids are not unique across machines.
    return f".{platform.node()}.{process}.{key}"


def _age(file: Path) -> float:
    return time.time() - file.stat().st_mtime


def is_running(process: int) -> bool:
    """Return whether there is a process of this number on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True


class Lines(NamedTuple):
    """Lines that were written together: the number of the first, and where their bytes are."""

    path: Path
    first: int
    offset: int
    length: int

    def read(self) -> Iterator[tuple[int, Any]]:
        """Yield number and value of each."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            lines = file.read(self.length).splitlines(keepends=True)
        for number, line in enumerate(lines, start=self.first):
            yield number, _value(self.path, number, line)


def places(
    paths: Iterable[Path], describe: Callable[[Any], tuple[str, Position]], *, together: int = 1
) -> dict[str, tuple[Lines, ...]]:
    """Return by sample id where the lines about it are; those of a batch that is not whole are left out.

    Args:
        paths: JSON Lines files.
        describe: returns the sample's id, and index and count within the batch, of a line's value.
        together: batches that follow one another are one place up to so many lines: a place for each of millions of
            short ones would take more memory than what they are about.

    Raises:
        ValueError: a line has another value; the message names file and line.
    """
    found: dict[str, tuple[Lines, ...]] = {}
    for path in paths:
        for lines, ids in _joined(batches(path, describe), together):
            found |= {sample: (*found.get(sample, ()), lines) for sample in ids}
    return found


def batches(
    path: Path, describe: Callable[[Any], tuple[Described, Position]], begin: Position = (0, 0)
) -> Iterator[tuple[Lines, list[Described]]]:
    """Yield where each whole batch of a file is, and what its lines are about.

    Args:
        path: a JSON Lines file.
        describe: returns what a line's value is about, and index and count within the batch.
        begin: bytes and lines that are left out at its beginning.

    Raises:
        ValueError: a line has another value; the message names file and line.
    """
    about: list[Described] = []
    first, offset, end = begin[1] + 1, begin[0], begin[0]
    for number, line in _whole_lines(path, begin):
        row = _value(path, number, line)
        try:
            one, (index, count) = describe(row)
        except (KeyError, TypeError, ValueError) as error:
            raise unexpected(path, number, row, error) from None
        if index == 0:
            about, first, offset = [], number, end
        about.append(one)
        end += len(line)
        if index + 1 == count == len(about):
            yield Lines(path, first, offset, end - offset), about


def _joined(whole: Iterable[tuple[Lines, list[str]]], together: int) -> Iterator[tuple[Lines, list[str]]]:
    """Yield batches, those that follow one another as one as long as they have few lines."""
    held: tuple[Lines, list[str]] | None = None
    for lines, ids in whole:
        if held is not None:
            before, known = held
            if before.offset + before.length == lines.offset and len(known) + len(ids) <= together:
                held = before._replace(length=before.length + lines.length), known + ids
                continue
            yield held
        held = lines, ids
    if held is not None:
        yield held


def unexpected(path: Path, number: int, row: Any, error: Exception) -> ValueError:
    """Return the error of a line that holds something else than a response."""
    return ValueError(f"{path}, line {number}: expected a response, got {row!r:.200}: {error}")


class OwnFile:
    """A JSON Lines file that this process alone writes, its threads in turn; created when there is something to write.

    What is cut off in a write, by an interrupt or a full disk, stays the last of its file: what follows begins another.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self._folder, self._stem = folder, stem
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()

    def append(self, rows: Iterable[Any]) -> None:
        """Write rows in one go and wait until the disk has them."""
        lines = [json.dumps(row, ensure_ascii=False, allow_nan=False).encode(*_UTF_8) + b"\n" for row in rows]
        if not lines:
            return
        with self._lock:
            file = self._file = self._file or self._create()
            try:
                file.write(b"".join(lines))
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                self._file = None
                with suppress(OSError):
                    file.close()
                raise

    def _create(self) -> BinaryIO:
        index = len(files(self._folder, self._stem))
        while True:
            try:
                return (self._folder / f"{self._stem}-{index:03d}.jsonl").open("xb")
            except FileExistsError:
                index += 1

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()
            self._file = None


def files(folder: Path, stem: str) -> list[Path]:
    """Return the files of one kind in the order in which they were begun."""
    return sorted(folder.glob(f"{stem}-*.jsonl"), key=lambda path: (len(path.name), path.name))
