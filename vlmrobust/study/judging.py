"""Judge the thoughts of finished runs, one judge after another, without running the models again."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..catalogue import judged_metrics, slug_of
from ..judges import Judge
from ..locking import DirectoryLock
from ..report import Report
from ..report.files import LINES, last_report_file, report_file
from .construction import Lazy, judge_of
from .entries import JudgeEntry, secrets_of
from .tables import JudgementRow, RunRow

__all__ = ["judgements"]

_JUDGED_FIELDS = ("sample_id", "condition", "status", "question", "options", "think")


def judgements(
    entry: JudgeEntry, runs: Sequence[RunRow], out: Path, tell: Callable[[str], None]
) -> Iterator[JudgementRow]:
    """Yield a row per run after saving this judge's report next to the run's own.

    The judge is loaded only if a run has no such report yet, or one of other responses.

    Args:
        entry: the judge.
        runs: the finished runs.
        out: the study's folder.
        tell: called with messages about progress and failures.
    """
    judge = Lazy(lambda: judge_of(entry))
    for run in runs:
        # Beside the report that is judged: what is said of a part does not take the place of what is said of the whole.
        file = Path(run.folder) / f"{last_report_file(out / run.folder).stem}-{slug_of(entry.name)}.parquet"
        row = JudgementRow(
            model=run.model,
            checkpoint=run.checkpoint,
            benchmark=run.benchmark,
            judge=entry.name,
            status="judged",
            answered=0,
            verdicts=0,
            file=str(file),
            error="",
        )
        try:
            with secrets_of(entry).held(), DirectoryLock(out / run.folder):
                judged = _kept_or_judged(out / file, Report.load(last_report_file(out / run.folder)), entry, judge)
        except Exception as error:  # noqa: BLE001 - recorded in the row; the other runs continue
            row = replace(row, status="failed", file="", error=secrets_of(entry).error_text(error))
            tell(f"{run.folder}, judged by {entry.name}, failed: {row.error}")
        else:
            answered = int(judged.responses.has_status("answered").sum())
            row = replace(row, answered=answered, verdicts=int(judged.frame["consistency"].notna().sum()))
        yield row


def _kept_or_judged(file: Path, report: Report, entry: JudgeEntry, judge: Callable[[], Judge]) -> Report:
    before = report_file(file.parent, file.name)
    judged = None if entry.name == "rules" else _kept(before, report, entry)  # rules are quick, and change
    if judged is not None and before == file:
        return judged
    if judged is None:
        judged = report.score(judged_metrics(judge()), verdicts=file.with_name("verdicts"))
        judged.manifest |= {"judge": judge().identity(), "judge_entry": _entry(entry)}
    judged.save(file)
    file.with_suffix(LINES).unlink(missing_ok=True)  # as earlier versions wrote it
    return judged


def _kept(file: Path, report: Report, entry: JudgeEntry) -> Report | None:
    """Return the existing judged report if it is by the same judge and of the same responses."""
    if not file.is_file():
        return None
    judged = Report.load(file)
    same = all(getattr(judged.responses, field) == getattr(report.responses, field) for field in _JUDGED_FIELDS)
    same = same and judged.responses.choice.tolist() == report.responses.choice.tolist()
    return judged if same and judged.manifest.get("judge_entry") == _entry(entry) else None


def _entry(entry: JudgeEntry) -> dict[str, Any]:
    return entry.model_dump(mode="json", exclude={"size"})
