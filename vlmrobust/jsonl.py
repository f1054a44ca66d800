"""Read and write JSON Lines files that survive kills and have a single writing process each (`OwnFile`).

Other files are written atomically (`write_atomically`, `atomic_draft`). `batches` and `locate_samples` find the lines
of complete batches and of their samples.
"""

import errno
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
    "invalid_row_error",
    "is_running",
    "json_safe",
    "locate_samples",
    "read_lines",
    "write_atomically",
    "write_lines_atomically",
]

Position = tuple[int, int]
"""Two numbers: index and size within a batch, or bytes and lines from the start of a file."""

Described = TypeVar("Described")

_DRAFT = re.compile(r"\..+?(?:\.(?P<process>\d+))?\.(?P<key>[0-9a-f]{32})")
_OF_DISKS = frozenset({errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC})
_ABANDONED = 3600.0  # seconds after which a draft is considered abandoned

_PLAIN = frozenset({str, int, bool, type(None)})

# Values are checked before, but other texts may contain surrogates, which are written as JSON escapes.
_UTF_8 = ("utf-8", "backslashreplace")


def json_safe(value: Any) -> Any:
    """Return a value with every infinity and NaN as a string, as JSON has no numbers for them.

    Example:
        >>> json_safe({"logprobs": (-0.5, -float("inf"))})
        {'logprobs': [-0.5, '-Infinity']}
    """
    # A hot path: check plain types first.
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
    """Yield number and value of each line of a JSON Lines file, except for an incomplete last line.

    Raises:
        ValueError: a line is not JSON; the message names file and line.
    """
    for number, line in _complete_lines(path):
        yield number, _value(path, number, line)


def _complete_lines(path: Path, begin: Position = (0, 0)) -> Iterator[tuple[int, bytes]]:
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
    """Write or replace a file atomically; create its folder if necessary."""
    with atomic_draft(path) as draft, _text_file(draft) as file:
        file.write(text)


def write_lines_atomically(path: Path, values: Iterable[Any]) -> None:
    """Write or replace a JSON Lines file like `write_atomically`; values of other types become text."""
    with atomic_draft(path) as draft, _text_file(draft) as file:
        for value in values:
            file.write(json.dumps(json_safe(value), ensure_ascii=False, allow_nan=False, default=str))
            file.write("\n")


@contextmanager
def atomic_draft(path: Path) -> Iterator[Path]:
    """Yield the path of a draft that replaces a file on exit; create its folder if necessary.

    Raises:
        IsADirectoryError: the path is a folder.
        OSError: the file cannot be written; the message names it.
    """
    if path.is_dir():
        raise IsADirectoryError(f"expected a file to write to, got the folder {str(path)!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft_of(path)
    try:
        with _naming(path):
            yield draft
            with draft.open("rb+") as file:
                os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name a path in the error of a disk that is full or broken, which names none."""
    try:
        yield
    except OSError as error:
        if error.errno in _OF_DISKS and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def create_atomically(path: Path, text: str) -> bool:
    """Create a file atomically unless it exists; return whether this call has created it."""
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
        draft.replace(path)  # without hard links, the last process wins
    finally:
        draft.unlink(missing_ok=True)
    return True


def _draft_of(path: Path) -> Path:
    _clear_drafts(path.parent)
    return path.with_name(f".{path.name}{_draft_suffix(os.getpid(), uuid4().hex)}")


def _text_file(path: Path) -> TextIO:
    return path.open("w", encoding=_UTF_8[0], errors=_UTF_8[1])


def _clear_drafts(folder: Path) -> None:
    """Remove drafts of killed processes from a folder."""
    for file in folder.iterdir():
        found = _DRAFT.fullmatch(file.name)
        if found is None:
            continue
        with suppress(OSError):  # another process may remove it too
            is_ours = found["process"] is not None and file.name.endswith(_draft_suffix(found["process"], found["key"]))
            age = time.time() - file.stat().st_mtime
            if not is_running(int(found["process"])) if is_ours else age > _ABANDONED:
                file.unlink()


def _draft_suffix(process: object, key: str) -> str:
    # Process ids are not unique across machines.
    return f".{platform.node()}.{process}.{key}"


def is_running(process: int) -> bool:
    """Return whether a process with this id exists on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's process
        return True
    return True


class Lines(NamedTuple):
    """Consecutive lines of a file: the number of the first, and the offset and length in bytes."""

    path: Path
    first: int
    offset: int
    length: int

    def read(self) -> Iterator[tuple[int, Any]]:
        """Yield number and value of each line."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            lines = file.read(self.length).splitlines(keepends=True)
        for number, line in enumerate(lines, start=self.first):
            yield number, _value(self.path, number, line)


def locate_samples(
    paths: Iterable[Path], describe: Callable[[Any], tuple[str, Position]], *, together: int = 1
) -> dict[str, tuple[Lines, ...]]:
    """Return the locations of lines by sample id, without incomplete batches.

    Args:
        paths: JSON Lines files.
        describe: returns the sample's id, and index and size within the batch, for a line's value.
        together: adjacent batches share a location up to this number of lines, which saves memory for millions of
            short ones.

    Raises:
        ValueError: a line has an invalid value; the message names file and line.
    """
    found: dict[str, tuple[Lines, ...]] = {}
    for path in paths:
        for lines, ids in _merge_adjacent(batches(path, describe), together):
            found |= {sample: (*found.get(sample, ()), lines) for sample in ids}
    return found


def batches(
    path: Path, describe: Callable[[Any], tuple[Described, Position]], begin: Position = (0, 0)
) -> Iterator[tuple[Lines, list[Described]]]:
    """Yield the location of each complete batch of a file, and the descriptions of its lines.

    Args:
        path: a JSON Lines file.
        describe: returns a description, and index and size within the batch, for a line's value.
        begin: bytes and lines to skip at the start.

    Raises:
        ValueError: a line has an invalid value; the message names file and line.
    """
    described: list[Described] = []
    first, offset, end = begin[1] + 1, begin[0], begin[0]
    for number, line in _complete_lines(path, begin):
        row = _value(path, number, line)
        try:
            description, (index, count) = describe(row)
        except (KeyError, TypeError, ValueError) as error:
            raise invalid_row_error(path, number, row, error) from None
        if index == 0:
            described, first, offset = [], number, end
        described.append(description)
        end += len(line)
        if index + 1 == count == len(described):
            yield Lines(path, first, offset, end - offset), described


def _merge_adjacent(whole: Iterable[tuple[Lines, list[str]]], together: int) -> Iterator[tuple[Lines, list[str]]]:
    """Yield batches, with adjacent ones merged up to `together` lines."""
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


def invalid_row_error(path: Path, number: int, row: Any, error: Exception) -> ValueError:
    """Return the error for a line that is not a response."""
    return ValueError(f"{path}, line {number}: expected a response, got {row!r:.200}: {error}")


class OwnFile:
    """A JSON Lines file that only this process writes, created on the first write; thread-safe.

    After an incomplete write, due to an interrupt or a full disk, further rows go to a new file.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self._folder, self._stem = folder, stem
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()

    def append(self, rows: Iterable[Any]) -> None:
        """Write rows with a single write, and wait until they are on disk."""
        lines = [json.dumps(row, ensure_ascii=False, allow_nan=False).encode(*_UTF_8) + b"\n" for row in rows]
        if not lines:
            return
        with self._lock:
            file = self._file = self._file or self._create()
            try:
                with _naming(Path(file.name)):
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
    """Return the files of one kind in order of creation."""
    return sorted(folder.glob(f"{stem}-*.jsonl"), key=lambda path: (len(path.name), path.name))
