"""Merge run directories of several machines into one that can be resumed like any other.

Everything is read and compared before anything is written. Rows are added one by one, to a new directory or to one that
holds a run: after a kill, the same call adds what is still missing.
"""

import errno
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from .jsonl import OwnFile, files, read_lines, write_atomically
from .locking import DirectoryLock
from .manifest import Manifest
from .report import Report
from .report.run_report import report_of_runs
from .store import RecordedRow, RunDirectory, changed_field
from .types import Response
from .unreported import NOTE

__all__ = ["merge_runs"]

logger = logging.getLogger(__name__)

Differing = Literal["refuse", "first"]
Key = tuple[str, str, int]

_CHUNK = 1024  # samples with rows in memory at a time
_TOLERANCE = 1e-5  # of floats from two machines
_KNOWN = (
    "manifest.json",
    "responses-*.jsonl",
    "samples-*.jsonl",
    "verdicts",
    "report.jsonl",
    "report.parquet",
    "weights.json",  # digests of a checkpoint's files, recomputed when needed
    "report.part.*",
    NOTE,
    "run.toml",
    ".*",
)


def merge_runs(folders: Sequence[str | Path], out: str | Path, *, differing: Differing = "refuse") -> Report:
    """Merge run directories of one model, with the samples, conditions, draws and metrics of all of them.

    Args:
        folders: the run directories, which are not modified.
        out: a new directory, or one that holds a run, to which the others are added. An `Evaluator` can resume it like
            any other.
        differing: treatment of samples with different answers in two directories (beyond 1e-5 in numbers): "refuse", or
            "first", which keeps all answers of the first directory to the sample and logs the number of the others.

    Returns:
        The report of the merged run, as `Report.load(out)` returns it.

    Raises:
        DirectoryInUseError: a run is using one of the directories.
        FileNotFoundError: a directory holds no run, or none holds a report.
        ValueError: model, seed, style or a condition differ; a sample's content, group or answers differ; a metric has
            different settings. The message says where. Nothing has been written.

    Example:
        >>> import tempfile
        >>> import vlmrobust as vr
        >>> runs, samples = Path(tempfile.mkdtemp()), vr.demo.samples(4, seed=0)
        >>> evaluator = vr.Evaluator(vr.testing.FakeModel(), [])
        >>> halves = [evaluator.run(half, runs / name) for half, name in ((samples[:2], "a"), (samples[2:], "b"))]
        >>> len(merge_runs([runs / "a", runs / "b"], runs / "both"))
        4
    """
    if differing not in get_args(Differing):
        raise ValueError(f"field 'differing': expected 'refuse' or 'first', got {differing!r}")
    target = Path(out)
    sources = _sources([Path(folder) for folder in folders], target)
    with ExitStack() as stack:
        for folder in {path.resolve(): path for path in (*sources, target)}.values():
            _lock(stack, folder, is_written=folder.resolve() == target.resolve())
        runs = [stack.enter_context(RunDirectory(folder)) for folder in sources]
        manifest = _manifest(runs)
        comparison = _Comparison(runs, keep_first=differing == "first")
        comparison.compare()
        dropped = {run.path: ids for run, ids in zip(runs, comparison.dropped, strict=True)}
        report = Report._from_data(report_of_runs(dropped, manifest.model_dump(mode="json"), manifest.seed))
        comparison.log_omissions(report)
        target.mkdir(parents=True, exist_ok=True)
        write_atomically(target / "manifest.json", manifest.model_dump_json(indent=2) + "\n")
        with RunDirectory(target) as directory:
            _write(comparison, directory)
        for run in runs:
            _add_verdicts(run.path / "verdicts", target / "verdicts")
            if run.path.resolve() != target.resolve() and (left := _unmerged_files(run.path)):
                logger.warning("%s: not merged, and to be made again: %s", run.path, ", ".join(left))
        report._keep(target)
    return report


def _sources(folders: Sequence[Path], out: Path) -> list[Path]:
    """Return the directories to merge, starting with `out` if it holds a run."""
    for folder in folders:
        if not (folder / "manifest.json").is_file():
            raise FileNotFoundError(f"run directory {folder}: expected a run (manifest.json), found none")
    if (out / "manifest.json").is_file():
        folders = [out, *folders]
    elif out.exists() and any(out.iterdir()):
        raise ValueError(
            f"field 'out': expected a new directory, or one that holds a run, got {out}, which has other files"
        )
    distinct = list({folder.resolve(): folder for folder in reversed(folders)}.values())[::-1]
    if len(distinct) < 2:
        raise ValueError(f"expected at least two run directories, got {', '.join(map(str, distinct)) or 'none'}")
    return distinct


def _lock(stack: ExitStack, folder: Path, *, is_written: bool) -> None:
    try:
        stack.enter_context(DirectoryLock(folder))
    except OSError as error:
        if is_written or error.errno not in (errno.EACCES, errno.EROFS):
            raise  # a read-only directory cannot be in use


def _manifest(runs: Sequence[RunDirectory]) -> Manifest:
    """Return the combined manifest of all runs."""
    manifest = runs[0].manifest
    for run in runs[1:]:
        try:
            manifest = manifest.merged(run.manifest)
        except ValueError as error:
            raise ValueError(
                f"{run.path / 'manifest.json'} and {runs[0].path / 'manifest.json'}: {error}; Report.concat and "
                "Report.compare take reports of several models"
            ) from None
    return manifest


@dataclass(frozen=True, slots=True)
class _SampleInRuns:
    """A sample's contents in each run, the most complete last, and its rows in each run."""

    contents: Sequence[Sequence[tuple[Path, int, dict[str, Any]]]]
    rows: Sequence[Sequence[RecordedRow]]


class _Comparison:
    """Compares runs of one model sample by sample; `dropped` are the samples of each run whose rows are left out.

    With `keep_first`, the first run's answers to a sample are kept if another run's differ.
    """

    def __init__(self, runs: Sequence[RunDirectory], *, keep_first: bool) -> None:
        self.runs = runs
        self.dropped: list[set[str]] = [set() for _ in runs]
        self._keep_first = keep_first
        self._answered: list[set[Key]] = [set() for _ in runs]
        self._first = ""

    def samples(self) -> Iterator[tuple[str, _SampleInRuns]]:
        """Yield all samples in the order of the runs, with few of them in memory."""
        ids = list(dict.fromkeys(sample for run in self.runs for sample in run.samples))
        for start in range(0, len(ids), _CHUNK):
            part = dict.fromkeys(ids[start : start + _CHUNK])
            rows: dict[str, list[list[RecordedRow]]] = {sample: [[] for _ in self.runs] for sample in part}
            for place, run in enumerate(self.runs):
                for row in run.rows(part):
                    rows[row.response.sample_id][place].append(row)
            for sample in part:
                contents = [sorted(run.contents(sample), key=_is_complete) for run in self.runs]
                yield sample, _SampleInRuns(contents, rows[sample])

    def compare(self) -> None:
        """Compare the contents and answers of all samples.

        Raises:
            ValueError: runs differ in a sample's content, or in its answers without `keep_first`.
        """
        for name, sample in self.samples():
            _check_content(name, sample)
            answers = [_answers(rows) for rows in sample.rows]
            for place, by_key in enumerate(answers):
                self._answered[place] |= by_key.keys()
                for before in range(place):
                    if name not in self.dropped[before] and (why := _difference(sample, answers, before, place)):
                        self._first = self._first or why
                        self.dropped[place].add(name)
        count = len(set().union(*self.dropped))
        if count and not self._keep_first:
            raise ValueError(
                f"{self._first}; so {count} sample{'s' * (count != 1)} in all; with differing='first' (--differing "
                "first) the answers of the first directory stand"
            )

    def log_omissions(self, report: Report) -> None:
        """Log the number of answers that are left out, and of those missing from all reports."""
        for run, dropped, answered in zip(self.runs, self.dropped, self._answered, strict=True):
            if dropped:
                count = sum(sample in dropped for sample, _, _ in answered)
                logger.warning(
                    "%s: left out %d answers to %d samples that differ from those of an earlier directory (%s)",
                    run.path,
                    count,
                    len(dropped),
                    self._first,
                )
        responses = report.responses
        reported = set(zip(responses.sample_id, responses.condition, responses.draw.tolist(), strict=True))
        for run, dropped, answered in zip(self.runs, self.dropped, self._answered, strict=True):
            if missing := sum(key not in reported and key[0] not in dropped for key in answered):
                logger.warning(
                    "%s: %d of %d answers are not in any report, as their call did not finish; they are kept, and a "
                    "call that includes them will report them",
                    run.path,
                    missing,
                    len(answered),
                )


def _is_complete(content: tuple[Path, int, Mapping[str, Any]]) -> bool:
    return None not in content[2]["images"]


def _answers(rows: Sequence[RecordedRow]) -> dict[Key, RecordedRow]:
    """Return the last answer to each key, without failed calls."""
    return {row.response.key: row for row in rows if _is_answer(row)}


def _check_content(name: str, sample: _SampleInRuns) -> None:
    known = [contents[-1] for contents in sample.contents if contents]
    for file, line, content in known[1:]:
        first_file, first_line, first = known[0]
        if difference := changed_field(first, content):
            field, old, new = difference
            raise ValueError(
                f"{file}, line {line}: sample {name!r}, field {field!r}: expected {old}, as in {first_file}, line "
                f"{first_line}, got {new}; another sample needs another id"
            )


def _difference(sample: _SampleInRuns, answers: Sequence[Mapping[Key, RecordedRow]], before: int, place: int) -> str:
    """Return the difference of two runs' answers to a sample as text; empty = none."""
    read = all(_is_complete(contents[-1]) for contents in (sample.contents[before], sample.contents[place]) if contents)
    for key, row in answers[place].items():
        first = answers[before].get(key)
        if first is None:
            continue
        difference = ("prompt", first.prompt, row.prompt) if read and first.prompt != row.prompt else None
        if difference := difference or _differing_field(first.response, row.response):
            field, old, new = difference
            name, condition, draw = key
            return (
                f"{row.file}, line {row.line}: sample {name!r}, condition {condition!r}, draw {draw}, field {field!r}: "
                f"expected {old!r:.200}, as in {first.file}, line {first.line}, got {new!r:.200}"
            )
    return ""


def _differing_field(first: Response, other: Response) -> tuple[str, Any, Any] | None:
    for field in type(first).model_fields:
        old, new = getattr(first, field), getattr(other, field)
        if field != "error" and not _is_close(old, new):
            return field, old, new
    return None


def _is_close(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
        return all(map(_is_close, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE) or (
            math.isnan(one) and math.isnan(other)
        )
    return bool(one == other)


def _write(comparison: _Comparison, directory: RunDirectory) -> None:
    """Add what a directory lacks: each answer once, and failed calls without an answer."""
    there = [run.path.resolve() == directory.path.resolve() for run in comparison.runs]
    contents: list[Mapping[str, Any]] = []
    rows: list[RecordedRow] = []
    for count, (name, sample) in enumerate(comparison.samples(), start=1):
        asked = [content for of_run in sample.contents for _, _, content in of_run]
        held = [row[2] for is_there, of_run in zip(there, sample.contents, strict=True) if is_there for row in of_run]
        contents += [one for place, one in enumerate(asked) if one not in held and one not in asked[:place]]
        kept = [() if name in comparison.dropped[place] else of_run for place, of_run in enumerate(sample.rows)]
        rows += _missing_rows(kept, there)
        if count % _CHUNK == 0:
            directory.add(contents, rows)
            contents, rows = [], []
    directory.add(contents, rows)


def _missing_rows(runs: Sequence[Sequence[RecordedRow]], there: Sequence[bool]) -> list[RecordedRow]:
    """Return the rows of one sample that a directory lacks."""
    held = [row for is_there, rows in zip(there, runs, strict=True) if is_there for row in rows]
    known = {_prompt_key(row) for row in held if _is_answer(row)}
    failed = {row.response.key for row in held}
    new: dict[tuple[Key, str], RecordedRow] = {}
    for rows in runs:
        own = {_prompt_key(row): row for row in rows if _is_answer(row)}
        new |= {asked: row for asked, row in own.items() if asked not in known and asked not in new}
    answered = {key for key, _ in (*known, *new)} | failed
    rest = {row.response.key: row for rows in runs for row in rows if row.response.key not in answered}
    return [*new.values(), *rest.values()]


def _is_answer(row: RecordedRow) -> bool:
    return row.response.status != "error"


def _prompt_key(row: RecordedRow) -> tuple[Key, str]:
    return row.response.key, row.prompt


def _add_verdicts(source: Path, target: Path) -> None:
    """Add a source's judge verdicts to a target, for thoughts without a verdict there."""
    if not source.is_dir() or source.resolve() == target.resolve():
        return
    for stem in sorted({file.name.rpartition("-")[0] for file in source.glob("verdicts-*.jsonl")}):
        known = {row["thought"] for file in files(target, stem) for _, row in read_lines(file)}
        rows = {row["thought"]: row for file in files(source, stem) for _, row in read_lines(file)}
        target.mkdir(parents=True, exist_ok=True)
        with closing(OwnFile(target, stem)) as file:
            file.append(row for thought, row in rows.items() if thought not in known)


def _unmerged_files(folder: Path) -> list[str]:
    """Return the files that are not merged, such as pages and reports by other judges."""
    return sorted(file.name for file in folder.iterdir() if not any(map(file.match, _KNOWN)))
