"""Responses that a run directory holds and its report does not, as a call that was killed or has failed leaves them.

    reported.json           up to where each file of lines is in the report, and how much of it is not

A report is compared with the lines as long as nothing says how far it has been: what is noted saves a load of a million
responses from reading them twice. A note is about one state of the report's file, and holds while that is the one.
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
"""How the note is called that stands beside a report."""

_FORMAT = "vlmrobust reported 1"
_START: Position = (0, 0)

Key = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Unreported:
    """How many responses a run directory holds that are not in its report.

    Attributes:
        conditions: their numbers by condition, in the order in which they were written; empty = all are reported.
        failed: how many of them are failed calls, which are asked again.

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
    """Return what a run directory holds beside its report; lines are read where no note says what is in them.

    Args:
        folder: the run directory.
        report: the file of its report.
        responses: those in the report.
    """
    note = _Note.of(folder, report)
    try:
        found, _ = _compare(folder, responses, {} if note is None else note.read)
        if note is not None and note.found:
            # What came later may be answers to calls that had failed: it is not known which.
            return _compare(folder, responses, {})[0] if found else note.found
    except (OSError, ValueError) as error:
        logger.warning("%s: whether all of it is in the report is not known: %s", folder, error)
        return Unreported()
    return found


def note_unreported(folder: Path, report: Path, responses: Responses) -> Unreported:
    """Return what a run directory holds beside its report, and note how far the report has been compared with it.

    Args:
        folder: the run directory.
        report: the file of its report, as it was just written.
        responses: those in the report.
    """
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
    """Return all that a run directory without a report holds.

    Raises:
        ValueError: a line holds something else than a response; the message names file and line.
    """
    return _compare(folder, Responses.of([], []), {})[0]


@dataclass(frozen=True, slots=True)
class _Note:
    """What is noted beside a report.

    Attributes:
        read: by the name of a file of lines, how many bytes and lines of it the report was compared with.
        found: what of them was not in the report.
    """

    read: Mapping[str, Position]
    found: Unreported

    @classmethod
    def of(cls, folder: Path, report: Path) -> "_Note | None":
        """Return the note about a report as it is now, None where there is none, or one about another state."""
        try:
            note = json.loads((folder / NOTE).read_bytes())
            read = {name: (int(size), int(lines)) for name, (size, lines) in note["lines"].items()}
            there = {file.name: file.stat().st_size for file in files(folder, "responses")}
            is_known = note["format"] == _FORMAT and note["report"] == _stamp(report)
            if not is_known or any(there.get(name, 0) < size for name, (size, _) in read.items()):
                return None
            return cls(read, Unreported(note["unreported"], note["failed"]))
        except (OSError, ValueError, LookupError, TypeError, AttributeError):  # it says nothing, and lines do
            return None


def _stamp(report: Path) -> list[Any]:
    about = report.stat()
    return [report.name, about.st_size, about.st_mtime_ns]


def _compare(
    folder: Path, responses: Responses, begin: Mapping[str, Position]
) -> tuple[Unreported, dict[str, Position]]:
    """Return what of a directory's lines is in no report, and how much of each file there was.

    Args:
        folder: the run directory.
        responses: those in the report.
        begin: by file what is left out at its beginning.
    """
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
    """Return by key whether a response is an answer, or a call that has failed."""
    keys = zip(responses.sample_id, responses.condition, responses.draw.tolist(), strict=True)
    return {key: status != "error" for key, status in zip(keys, responses.status, strict=True)}


def _describe(row: Any) -> tuple[tuple[Key, bool], Position]:
    said = row["response"]
    return ((said["sample_id"], said["condition"], said.get("draw", 0)), said["status"] != "error"), row["batch"]
