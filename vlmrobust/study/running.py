"""The runs of a study, one model at a time; what fails is a row, and the others go on."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ..catalogue import conditions_named
from ..data import Samples
from ..evaluator import Evaluator
from ..jsonl import write_atomically
from ..locking import DirectoryLock
from ..manifest import config_of, sample_content
from ..metrics import Metric, PairedMetric
from ..metrics.catalogue import default_metrics, metrics_named
from ..models import Model
from ..report.files import report_file
from ..report.run_report import last_report_file
from ..workers import ThisProcess
from .definition import StudyDefinition
from .entries import BenchmarkEntry, ModelEntry, Stage, secrets_of
from .judging import judgements
from .loading import Once, free_memory, model_of, samples_of, style_of
from .tables import JudgementRow, RunRow

__all__ = ["Runner"]

_MARKER = "finished.json"
_OF_A_PLAN = {"size", "new_tokens"}  # fields of a model that decide nothing of its answers


@dataclass(frozen=True, slots=True)
class _Run:
    """One model, at one checkpoint, about one benchmark."""

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
    """Runs a study in a folder.

    Args:
        study: what is asked.
        out: the folder.
        tell: is told what begins and what failed.

    Raises:
        ValueError: this process is one of several.
    """

    def __init__(self, study: StudyDefinition, out: Path, tell: Callable[[str], None]) -> None:
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise ValueError(
                "expected one process for a study, got several, as torchrun starts them; several machines share a "
                "study by its models: `only(models=…)`, or --models"
            )
        self.study, self.out, self.tell = study, out, tell
        self.metrics: list[Metric | PairedMetric] = list(
            {metric.column: metric for metric in (*default_metrics(), *metrics_named(study.metrics))}.values()
        )
        self.samples = {entry.name: Once(partial(samples_of, entry, study.seed)) for entry in study.benchmarks}
        self._shown = {name: Once(partial(self._shown_of, samples)) for name, samples in self.samples.items()}

    def run(self) -> tuple[list[RunRow], list[JudgementRow]]:
        """Ask and judge; return a row per run, and one per finished run and judge."""
        self.out.mkdir(parents=True, exist_ok=True)
        runs = [row for entry in self.study.models for stage in entry.stages for row in self._stage(entry, stage)]
        finished = [row for row in runs if row.status == "finished"]
        judged: list[JudgementRow] = []
        for judge in self.study.judges:
            judged += judgements(judge, finished, self.out, self.tell)
            free_memory()
        return runs, judged

    def _stage(self, entry: ModelEntry, stage: Stage) -> Iterator[RunRow]:
        model = Once(partial(model_of, entry, stage, self.study.seed))
        for benchmark in self.study.benchmarks:
            run = _Run(entry, stage, benchmark)
            self.tell(str(run.folder))
            try:
                with secrets_of(entry).held():
                    row = self._one(run, model)
            except Exception as error:  # noqa: BLE001 - whatever it is, the row has it, and the others go on
                row = run.row("failed", error=secrets_of(entry).error_text(error))
                self.tell(f"{run.folder} failed: {row.error}")
            yield row
        del model
        free_memory()

    def _one(self, run: _Run, model: Callable[[], Model]) -> RunRow:
        samples: Samples = self.samples[run.benchmark.name]()
        folder = self.out / run.folder
        asked = self._asked(run, samples)
        row = run.row("finished", samples=samples)
        if (responses := _finished(folder, asked)) is not None:
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
            (folder / _MARKER).unlink(missing_ok=True)  # it is about the report that is now written over
            report = evaluator.run(samples, folder, workers=ThisProcess(lock.run))
            file = last_report_file(folder)
            report.to_html(file.with_suffix(".html"), title=str(run.folder), samples=samples)
            if file == report_file(folder):  # what was made of a part is gone, and so is what shows it
                for shown in folder.glob("report.part*"):
                    shown.unlink(missing_ok=True)
            errors = int(report.responses.has_status("error").sum())
            if not errors:
                said = {"responses": len(report), "asked": asked}
                write_atomically(folder / _MARKER, json.dumps(said, indent=2) + "\n")
        return replace(row, responses=len(report), errors=errors)

    def _shown_of(self, samples: Callable[[], Samples]) -> dict[str, Any]:
        """Return what decides the prompts of a benchmark beside their style, as JSON values."""
        conditions = conditions_named(self.study.conditions, samples())
        return {
            "samples": _digest(samples()),
            "conditions": {condition.condition: config_of(condition) for condition in conditions},
        }

    def _asked(self, run: _Run, samples: Samples) -> dict[str, Any]:
        """Return what decides a run's report, as JSON values: where it is as before, no model is loaded."""
        asked = {
            "model": run.entry.model_dump(mode="json", exclude={"checkpoints", *_OF_A_PLAN}),
            "stage": run.stage.model_dump(mode="json"),
            "files": _fingerprint(run.entry, run.stage),
            "style": style_of(run.entry).model_dump(mode="json"),
            **self._shown[run.benchmark.name](),
            "metrics": [metric.column for metric in self.metrics],
            **self.study.model_dump(mode="json", include={"draws", "seed", "distractor"}),
        }
        plain: dict[str, Any] = json.loads(json.dumps(asked))
        return plain


def _finished(folder: Path, asked: Mapping[str, Any]) -> int | None:
    """Return the number of responses of a run that was finished as it is asked now; None = it was not."""
    marker = folder / _MARKER
    if not (marker.is_file() and report_file(folder).is_file()):
        return None
    found = json.loads(marker.read_text(encoding="utf-8"))
    return int(found["responses"]) if found["asked"] == asked else None


def _digest(samples: Samples) -> str:
    """Return a digest of what samples ask, images included, and of how their results are summarised."""
    digest = blake2b(digest_size=16)
    for sample in samples:
        rest = sample.model_dump(include={"group", "metadata"})
        digest.update(json.dumps([sample_content(sample), rest], sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _fingerprint(entry: ModelEntry, stage: Stage) -> list[list[Any]]:
    """Return names, sizes and times of the files that a model comes from, as far as they are on this machine."""
    place, _, _ = (entry.factory or "").rpartition(":")
    path = Path(str(stage.checkpoint or entry.checkpoint or place))
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
