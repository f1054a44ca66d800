"""What a study came to: tables first, and pages that show them."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..jsonl import write_atomically
from ..judges import RuleJudge
from ..metrics import Accuracy, CorrectProbability, LetterEntropy
from ..named_judges import judged_metrics
from ..report import MacroRow, Report, SummaryRow, SurvivalRow
from ..report.typed import table_of
from .agreement import agreement
from .rows import AgreementRow, JudgementRow, RunRow

if TYPE_CHECKING:
    import pandas as pd

    from .pictures import Curves
    from .sections import Section
    from .study import Study

__all__ = ["StudyResult"]

JUDGED = frozenset(metric.column for metric in judged_metrics(RuleJudge()))
_TABLES = ("runs", "judgements", "summary", "judged", "survival", "agreement", "averages")


class StudyResult:
    """The tables of a study, and its pages.

    Attributes:
        study: what was asked.
        out: its folder.
    """

    def __init__(self, study: "Study", out: Path, runs: Sequence[RunRow], judgements: Sequence[JudgementRow]) -> None:
        self.study, self.out = study, out
        self.run_rows, self.judgement_rows = tuple(runs), tuple(judgements)

    @property
    def failed(self) -> bool:
        """Whether a run or a judge failed, or rows are errors."""
        return any(row.status == "failed" or row.errors for row in self.run_rows) or any(
            row.status == "failed" for row in self.judgement_rows
        )

    @property
    def runs(self) -> "pd.DataFrame":
        """One row per model, checkpoint and benchmark: finished, or failed with its error; see `RunRow`."""
        return table_of(RunRow, self.run_rows)

    @property
    def judgements(self) -> "pd.DataFrame":
        """One row per run and judge; see `JudgementRow`."""
        return table_of(JudgementRow, self.judgement_rows)

    @cached_property
    def reports(self) -> dict[RunRow, Report]:
        """The reports of the finished runs."""
        return {row: Report.load(self.out / row.folder) for row in self.run_rows if row.status == "finished"}

    @cached_property
    def judged_reports(self) -> dict[JudgementRow, Report]:
        """The reports by each judge."""
        return {row: Report.load(self.out / row.file) for row in self.judgement_rows if row.status == "judged"}

    @cached_property
    def summary(self) -> "pd.DataFrame":
        """The rows of `Report.summary` of every run, but for what depends on a judge, with the run in front."""
        tables = [(_names(row), _other(report.summary)) for row, report in self.reports.items()]
        return _stacked(tables, SummaryRow)

    @cached_property
    def judged(self) -> "pd.DataFrame":
        """The same of what depends on a judge: consistency, its coverage, consistent accuracy, the quadrants."""
        tables = [(_names(row) | {"judge": row.judge}, report.summary) for row, report in self.judged_reports.items()]
        return _stacked(tables, SummaryRow, ("judge",))

    @cached_property
    def survival(self) -> "pd.DataFrame":
        """The rows of `Report.survival()` of every run: AUROC of base confidence for what holds."""
        return _stacked([(_names(row), report.survival()) for row, report in self.reports.items()], SurvivalRow)

    @cached_property
    def averages(self) -> "pd.DataFrame":
        """Averages over a model's benchmarks, each of which weighs the same; see `MacroRow`."""
        tables = []
        for names, reports in self._by_stage().items():
            if len(reports) > 1:
                tables.append((dict(zip(("model", "checkpoint"), names, strict=True)), _averaged(reports)))
        return _stacked(tables, MacroRow, before=("model", "checkpoint"))

    @cached_property
    def agreement(self) -> "pd.DataFrame":
        """How far the judges agree on each run, all of them and each two; see `AgreementRow`."""
        by_run: dict[tuple[str, str, str], dict[str, Report]] = {}
        for row, report in self.judged_reports.items():
            by_run.setdefault((row.model, row.checkpoint, row.benchmark), {})[row.judge] = report
        rows = []
        for (model, checkpoint, benchmark), judged in by_run.items():
            teams = [tuple(judged)] if len(judged) > 1 else []
            teams += list(combinations(judged, 2)) if len(judged) > 2 else []
            for team in teams:
                numbers: Any = agreement([judged[name] for name in team], self.study.seed)
                rows.append(AgreementRow(model, checkpoint, benchmark, judges=" & ".join(team), **numbers))
        return table_of(AgreementRow, rows)

    def curves(self) -> dict[tuple[str, str], list[tuple[int, RunRow]]]:
        """Return by model and benchmark the finished runs of several checkpoints, with their steps, in order."""
        found: dict[tuple[str, str], list[tuple[int, RunRow]]] = {}
        for row in self.reports:
            if row.step:
                found.setdefault((row.model, row.benchmark), []).append((int(row.step), row))
        return {key: sorted(steps, key=lambda pair: pair[0]) for key, steps in found.items() if len(steps) > 1}

    @cached_property
    def sections(self) -> "list[Section]":
        """What the pages show but for their pictures."""
        from .sections import sections

        return sections(self)

    @cached_property
    def pictures(self) -> "list[Curves]":
        """The curves over checkpoints, drawn."""
        from .pictures import drawn

        return drawn(self)

    def to_markdown(self) -> str:
        """Return the page as Markdown; what others wrote is escaped."""
        from .markdown import markdown

        return markdown(self)

    def to_html(self) -> str:
        """Return the page as HTML, which needs no network; what others wrote is escaped."""
        from .html import page

        return page(self)

    def save(self) -> None:
        """Write the tables as CSV, and the pages `study.md` and `study.html`, into the folder."""
        tables = self.out / "tables"
        tables.mkdir(parents=True, exist_ok=True)
        for name in _TABLES:
            write_atomically(tables / f"{name}.csv", getattr(self, name).to_csv(index=False))
        write_atomically(self.out / "study.json", self.study.model_dump_json(indent=2) + "\n")
        write_atomically(self.out / "study.md", self.to_markdown())
        write_atomically(self.out / "study.html", self.to_html())

    def __str__(self) -> str:
        from ..report.tables import terminal_table
        from .sections import overview

        return terminal_table(overview(self))

    __repr__ = __str__

    def _by_stage(self) -> dict[tuple[str, str], dict[str, Report]]:
        found: dict[tuple[str, str], dict[str, Report]] = {}
        for row, report in self.reports.items():
            found.setdefault((row.model, row.checkpoint), {})[row.benchmark] = report
        return found


def _names(row: RunRow | JudgementRow) -> dict[str, str]:
    return {"model": row.model, "checkpoint": row.checkpoint, "benchmark": row.benchmark}


def _other(summary: "pd.DataFrame") -> "pd.DataFrame":
    return summary[~summary["metric"].isin(JUDGED)]


def _averaged(reports: Mapping[str, Report]) -> "pd.DataFrame":
    scored = [report.score([Accuracy(), CorrectProbability(), LetterEntropy()]) for report in reports.values()]
    column = "benchmark of the study"  # no sample has such metadata
    return Report.concat(scored, list(reports), column=column).macro_average(column)


def _stacked(
    tables: "Sequence[tuple[Mapping[str, str], pd.DataFrame]]",
    kind: type,
    further: Sequence[str] = (),
    *,
    before: Sequence[str] = ("model", "checkpoint", "benchmark"),
) -> "pd.DataFrame":
    """Return tables below one another, each with names in front; without any, a table with all columns."""
    import pandas as pd

    columns = (*before, *further)
    parts = []
    for names, table in tables or [(dict.fromkeys(columns, ""), table_of(kind, []))]:
        front = pd.DataFrame({name: pd.Series(names[name], index=table.index, dtype="string") for name in columns})
        parts.append(pd.concat([front, table], axis=1))
    return pd.concat(parts, ignore_index=True)
