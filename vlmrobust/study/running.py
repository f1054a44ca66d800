"""Run a study, one model at a time, and judge its runs, one judge at a time; a failure becomes a row."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ..catalogue import judged_metrics, slug_of
from ..data import Samples
from ..evaluator import Evaluator
from ..jsonl import write_atomically
from ..judges import Judge
from ..locking import DirectoryLock
from ..manifest import config_of, sample_content
from ..metrics import Metric, PairedMetric
from ..metrics.catalogue import default_metrics, metrics_named
from ..models import Model
from ..perturbations.catalogue import conditions_named
from ..report import Report
from ..report.files import LINES, last_report_file, report_file
from ..workers import ThisProcess
from .construction import Lazy, free_memory, judge_of, model_of, samples_of, style_of
from .definition import StudyDefinition
from .entries import BenchmarkEntry, JudgeEntry, ModelEntry, Stage, secrets_of
from .tables import JudgementRow, RunRow

__all__ = ["Runner", "judgements"]


_JUDGED_FIELDS = ("sample_id", "condition", "status", "question", "options", "think")
_MARKER = "finished.json"
_PLAN_FIELDS = {"size", "new_tokens"}  # fields of a model that do not affect its responses


@dataclass(frozen=True, slots=True)
class _Run:
    """One model at one checkpoint on one benchmark."""

    entry: ModelEntry
    stage: Stage
    benchmark: BenchmarkEntry

    @property
    def folder(self) -> Path:
        """The run directory, below the study's."""
        return Path("runs", *filter(None, (self.entry.name, self.stage.title, self.benchmark.name)))

    def row(self, status: str, *, samples: Samples | None = None, error: str = "") -> RunRow:
        return RunRow(
            model=self.entry.name,
            checkpoint=self.stage.title,
            step="" if self.stage.step is None else str(self.stage.step),
            benchmark=self.benchmark.name,
            status=status,
            samples=0 if samples is None else len(samples),
            left_out=0 if samples is None else len(samples.problems) + len(samples.left_out),
            responses=0,
            errors=0,
            folder=str(self.folder),
            error=error,
        )


class Runner:
    """Run a study in a folder.

    Args:
        study: the study.
        out: the folder.
        tell: called with messages about progress and failures.

    Raises:
        ValueError: this process is one of several.
    """

    def __init__(self, study: StudyDefinition, out: Path, tell: Callable[[str], None]) -> None:
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise ValueError(
                "expected one process for a study, got several (torchrun); to use several machines, give each some of "
                "the models: `only(models=…)`, or --models"
            )
        self.study, self.out, self.tell = study, out, tell
        self.metrics: list[Metric | PairedMetric] = list(
            {metric.column: metric for metric in (*default_metrics(), *metrics_named(study.metrics))}.values()
        )
        self.samples = {entry.name: Lazy(partial(samples_of, entry, study.seed)) for entry in study.benchmarks}
        self._prompt_settings = {
            name: Lazy(partial(self._prompt_settings_of, samples)) for name, samples in self.samples.items()
        }

    def run(self) -> tuple[list[RunRow], list[JudgementRow]]:
        """Run all models and judges; return a row per run, and one per finished run and judge."""
        self.out.mkdir(parents=True, exist_ok=True)
        runs = [row for entry in self.study.models for stage in entry.stages for row in self._stage(entry, stage)]
        finished = [row for row in runs if row.status == "finished"]
        judged: list[JudgementRow] = []
        for judge in self.study.judges:
            judged += judgements(judge, finished, self.out, self.tell)
            free_memory()
        return runs, judged

    def _stage(self, entry: ModelEntry, stage: Stage) -> Iterator[RunRow]:
        model = Lazy(partial(model_of, entry, stage, self.study.seed))
        for benchmark in self.study.benchmarks:
            run = _Run(entry, stage, benchmark)
            self.tell(str(run.folder))
            try:
                with secrets_of(entry).held():
                    row = self._one(run, model)
            except Exception as error:  # noqa: BLE001 - recorded in the row; the other runs continue
                row = run.row("failed", error=secrets_of(entry).error_text(error))
                self.tell(f"{run.folder} failed: {row.error}")
            yield row
        del model
        free_memory()

    def _one(self, run: _Run, model: Callable[[], Model]) -> RunRow:
        samples: Samples = self.samples[run.benchmark.name]()
        folder = self.out / run.folder
        settings = self._settings(run)
        row = run.row("finished", samples=samples)
        if (responses := _finished(folder, settings)) is not None:
            return replace(row, responses=responses)
        evaluator = Evaluator(
            model(),
            conditions_named(self.study.conditions, samples),
            self.metrics,
            style=style_of(run.entry),
            draws=self.study.draws,
            batch_size=self.study.batch_size,
            seed=self.study.seed,
            distractor=self.study.distractor,
            strict=self.study.strict,
        )
        with DirectoryLock(folder) as lock:
            (folder / _MARKER).unlink(missing_ok=True)  # its report is now overwritten
            report = evaluator.run(samples, folder, workers=ThisProcess(lock.run))
            file = last_report_file(folder)
            report.to_html(file.with_suffix(".html"), title=str(run.folder), samples=samples)
            if file == report_file(folder):  # what was made of a part is gone, and so is what shows it
                for shown in folder.glob("report.part*"):
                    shown.unlink(missing_ok=True)
            errors = int(report.responses.has_status("error").sum())
            if not errors:
                marker = {"responses": len(report), "asked": settings}
                write_atomically(folder / _MARKER, json.dumps(marker, indent=2) + "\n")
        return replace(row, responses=len(report), errors=errors)

    def _prompt_settings_of(self, samples: Callable[[], Samples]) -> dict[str, Any]:
        """Return the settings that determine the prompts of a benchmark, except their style, as JSON values."""
        conditions = conditions_named(self.study.conditions, samples())
        return {
            "samples": _digest(samples()),
            "conditions": {condition.condition: config_of(condition) for condition in conditions},
        }

    def _settings(self, run: _Run) -> dict[str, Any]:
        """Return the settings that determine a run's report as JSON values; if unchanged, no model is loaded."""
        settings = {
            "model": run.entry.model_dump(mode="json", exclude={"checkpoints", *_PLAN_FIELDS}),
            "stage": run.stage.model_dump(mode="json"),
            "files": _fingerprint(run.entry, run.stage),
            "style": style_of(run.entry).model_dump(mode="json"),
            **self._prompt_settings[run.benchmark.name](),
            "metrics": [metric.column for metric in self.metrics],
            **self.study.model_dump(mode="json", include={"draws", "seed", "distractor"}),
        }
        as_json: dict[str, Any] = json.loads(json.dumps(settings))
        return as_json


def _finished(folder: Path, settings: Mapping[str, Any]) -> int | None:
    """Return the number of responses of a run finished with the same settings; None if there is none."""
    marker = folder / _MARKER
    if not (marker.is_file() and report_file(folder).is_file()):
        return None
    found = json.loads(marker.read_text(encoding="utf-8"))
    return int(found["responses"]) if found["asked"] == settings else None


def _digest(samples: Samples) -> str:
    """Return a digest of samples, including their images, groups and metadata."""
    digest = blake2b(digest_size=16)
    for sample in samples:
        rest = sample.model_dump(include={"group", "metadata"})
        digest.update(json.dumps([sample_content(sample), rest], sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _fingerprint(entry: ModelEntry, stage: Stage) -> list[list[Any]]:
    """Return names, sizes and modification times of a model's files on this machine."""
    place, _, _ = (entry.factory or "").rpartition(":")
    path = Path(str(stage.checkpoint or entry.checkpoint or place))
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


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
        row = partial(JudgementRow, run.model, run.checkpoint, run.benchmark, entry.name)
        try:
            with secrets_of(entry).held(), DirectoryLock(out / run.folder):
                judged = _kept_or_judged(out / file, Report.load(last_report_file(out / run.folder)), entry, judge)
        except Exception as error:  # noqa: BLE001 - recorded in the row; the other runs continue
            reason = secrets_of(entry).error_text(error)
            tell(f"{run.folder}, judged by {entry.name}, failed: {reason}")
            yield row(status="failed", answered=0, verdicts=0, file="", error=reason)
        else:
            answered = int(judged.responses.has_status("answered").sum())
            verdicts = int(judged.frame["consistency"].notna().sum())
            yield row(status="judged", answered=answered, verdicts=verdicts, file=str(file), error="")


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
