"""Find responses in a run directory that are missing from its report, as after a killed or failed call.

    reported.json           how far each file has been compared with the report, and how much was missing

Without this note, loading a million responses would read them twice: once for the report, once for the comparison. The
note is valid for one state of the report's file.
"""

import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .jsonl import Position, batches, files, write_atomically
from .types import Responses

__all__ = ["NOTE", "Unreported", "find_unreported", "note_unreported", "unreported_in"]

logger = logging.getLogger(__name__)

NOTE = "reported.json"
"""Name of the note next to a report."""

_FORMAT = "vlmrobust reported 1"
_START: Position = (0, 0)

Key = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Unreported:
    """The number of responses in a run directory that are missing from its report.

    Attributes:
        conditions: counts by condition, in order of writing; empty = all are reported.
        failed: number of failed calls among them, which are retried.

    Example:
        >>> found = Unreported({"base": 8, "stop_think": 3}, failed=1)
        >>> len(found), bool(Unreported())
        (11, False)
        >>> print(found)
        11 responses that the run directory holds are in no report (base 8, stop_think 3; 1 of them a failed call), and
        in nothing that is shown: their call was killed, has failed or still runs. The same call, made again, asks only
        what is missing and reports all of it.
    """

    conditions: Mapping[str, int] = field(default_factory=dict)
    failed: int = 0

    def __len__(self) -> int:
        return sum(self.conditions.values())

    def __add__(self, other: "Unreported") -> "Unreported":
        return Unreported(dict(Counter(self.conditions) + Counter(other.conditions)), self.failed + other.failed)

    def __str__(self) -> str:
        count = len(self)
        counts = ", ".join(f"{name} {number}" for name, number in self.conditions.items())
        calls = f"; {self.failed} of them {'a failed call' if self.failed == 1 else 'failed calls'}"
        return (
            f"{count} response{'s' * (count != 1)} that the run directory holds {'is' if count == 1 else 'are'} in no "
            f"report ({counts}{calls if self.failed else ''}), and in nothing that is shown: their call was killed, "
            "has failed or still runs. The same call, made again, asks only what is missing and reports all of it."
        )


def find_unreported(folder: Path, report: Path, responses: Responses) -> Unreported:
    """Return the responses of a run directory that its report (a file, and its responses) lacks.

    Only lines that the note does not cover are read.
    """
    read, noted = _read_note(folder, report)
    try:
        found, _ = _compare(folder, responses, read)
        if noted:
            # Later lines may be retries of failed calls, so compare everything.
            return _compare(folder, responses, {})[0] if found else noted
    except (OSError, ValueError) as error:
        logger.warning("%s: whether all of it is in the report is not known: %s", folder, error)
        return Unreported()
    return found


def note_unreported(folder: Path, report: Path, responses: Responses) -> Unreported:
    """Return the responses of a run directory that its report, just written, lacks, and write the note."""
    try:
        found, read = _compare(folder, responses, {})
    except (OSError, ValueError) as error:
        logger.warning("%s: whether all of it is in the report is not known: %s", folder, error)
        return Unreported()
    note = {
        "format": _FORMAT,
        "report": _stamp(report),
        "lines": read,
        "unreported": found.conditions,
        "failed": found.failed,
    }
    write_atomically(folder / NOTE, json.dumps(note, indent=2, ensure_ascii=False) + "\n")
    return found


def unreported_in(folder: Path) -> Unreported:
    """Return the responses of a run directory without a report.

    Raises:
        ValueError: a line is not a response; the message names file and line.
    """
    return _compare(folder, Responses.of([], []), {})[0]


def _read_note(folder: Path, report: Path) -> tuple[Mapping[str, Position], Unreported]:
    """Return bytes and lines of each file that were compared with a report, and unreported responses among them.

    Without a valid note on the report's current state, both are empty.
    """
    try:
        note = json.loads((folder / NOTE).read_bytes())
        read = {name: (int(size), int(lines)) for name, (size, lines) in note["lines"].items()}
        there = {file.name: file.stat().st_size for file in files(folder, "responses")}
        is_known = note["format"] == _FORMAT and note["report"] == _stamp(report)
        if is_known and all(there.get(name, 0) >= size for name, (size, _) in read.items()):
            return read, Unreported(note["unreported"], note["failed"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass
    return {}, Unreported()


def _stamp(report: Path) -> list[Any]:
    status = report.stat()
    return [report.name, status.st_size, status.st_mtime_ns]


def _compare(
    folder: Path, responses: Responses, begin: Mapping[str, Position]
) -> tuple[Unreported, dict[str, Position]]:
    """Return a directory's unreported responses, and the bytes and lines read of each file; `begin` are skipped."""
    reported: dict[Key, bool] | None = None
    missing: dict[Key, bool] = {}
    read: dict[str, Position] = {}
    for file in files(folder, "responses"):
        read[file.name] = begin.get(file.name, _START)
        for lines, rows in batches(file, _describe, read[file.name]):
            read[file.name] = (lines.offset + lines.length, lines.first + len(rows) - 1)
            if reported is None:
                reported = _reported_answers(responses)
            for key, is_answer in rows:
                if key not in reported or (is_answer and not reported[key]):
                    missing[key] = missing.get(key, False) or is_answer
    counts = Counter(condition for _, condition, _ in missing)
    return Unreported(dict(counts), sum(not is_answer for is_answer in missing.values())), read


def _reported_answers(responses: Responses) -> dict[Key, bool]:
    """Return by key whether a response is an answer rather than a failed call."""
    keys = zip(responses.sample_id, responses.condition, responses.draw.tolist(), strict=True)
    return {key: status != "error" for key, status in zip(keys, responses.status, strict=True)}


def _describe(row: Any) -> tuple[tuple[Key, bool], Position]:
    said = row["response"]
    return ((said["sample_id"], said["condition"], said.get("draw", 0)), said["status"] != "error"), row["batch"]
