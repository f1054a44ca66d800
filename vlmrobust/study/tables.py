"""Make the tables of a study from the reports in its folder, of which few are in memory at a time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..catalogue import judged_metrics
from ..judges import RuleJudge
from ..metrics import Accuracy, CorrectProbability, LetterEntropy
from ..report import MacroRow, Report, SummaryRow, SurvivalRow
from ..report.columns import table_of
from ..report.run_report import last_report_file
from .agreement import agreement
from .definition import StudyDefinition

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "AgreementRow",
    "FindingRow",
    "JudgementRow",
    "RunRow",
    "StudyTables",
    "TablesOfRuns",
    "tables_of_judges",
    "tables_of_runs",
]


@dataclass(frozen=True, slots=True)
class RunRow:
    """One model, at one checkpoint, asked one benchmark.

    Attributes:
        model, checkpoint, benchmark: their names; the checkpoint's is empty where a model has but one.
        step: of the checkpoint, as text; empty = not given.
        status: finished, or failed.
        samples: how many were asked.
        left_out: rows of the benchmark that made no sample: no multiple-choice question, or with a problem.
        responses: how many there are.
        errors: those among them whose call failed.
        folder: the run directory, below that of the study.
        error: why it failed; empty if it did not.
    """

    model: str
    checkpoint: str
    step: str
    benchmark: str
    status: str
    samples: int
    left_out: int
    responses: int
    errors: int
    folder: str
    error: str


@dataclass(frozen=True, slots=True)
class JudgementRow:
    """One judge's reading of one run.

    Attributes:
        model, checkpoint, benchmark, judge: names.
        status: judged, or failed.
        answered: number of answered responses.
        verdicts: of how many of them the judge says whether thought and answer are consistent.
        file: the judged report, below the folder of the study.
        error: why it failed.
    """

    model: str
    checkpoint: str
    benchmark: str
    judge: str
    status: str
    answered: int
    verdicts: int
    file: str
    error: str


@dataclass(frozen=True, slots=True)
class AgreementRow:
    """How far judges agree whether the thoughts of a run are consistent with its answers.

    Attributes:
        model, checkpoint, benchmark: of the run.
        judges: their names.
        n: number of responses on which all of them have a verdict; everything is on these.
        strict: the share of which all say the same, in [0, 1].
        strict_low, strict_high: 95 % bootstrap interval over groups of samples.
        kappa: Fleiss' κ, at most 1.
        low, high: its 95 % interval, likewise.
        note: why something is undefined.
    """

    model: str
    checkpoint: str
    benchmark: str
    judges: str
    n: int
    strict: float
    strict_low: float
    strict_high: float
    kappa: float
    low: float
    high: float
    note: str


@dataclass(frozen=True, slots=True)
class FindingRow:
    """One sentence that the numbers of a run support.

    Attributes:
        model, checkpoint, benchmark: which run.
        condition: what it is about; "" = the whole run.
        kind: one of `report.findings.KINDS`.
        is_limit: it says what can't be concluded.
        text: the sentence.
    """

    model: str
    checkpoint: str
    benchmark: str
    condition: str
    kind: str
    is_limit: bool
    text: str


_JUDGED = frozenset(metric.column for metric in judged_metrics(RuleJudge()))
_STAGE = ("model", "checkpoint")
_RUN = (*_STAGE, "benchmark")
_JUDGEMENT = (*_RUN, "judge")


class TablesOfRuns(NamedTuple):
    """What the reports of finished runs say; see `StudyTables`."""

    summary: "pd.DataFrame"
    survival: "pd.DataFrame"
    averages: "pd.DataFrame"
    findings: "pd.DataFrame"


class StudyTables:
    """The tables of a study, each of which is made when it is first asked for.

    Attributes:
        study: what was asked.
        out: its folder.
        run_rows, judgement_rows: the rows of `runs` and `judgements`.
    """

    def __init__(
        self, study: StudyDefinition, out: Path, runs: Sequence[RunRow], judgements: Sequence[JudgementRow]
    ) -> None:
        self.study, self.out = study, out
        self.run_rows, self.judgement_rows = tuple(runs), tuple(judgements)

    @property
    def runs(self) -> "pd.DataFrame":
        """One row per model, checkpoint and benchmark: finished, or failed with its error; see `RunRow`."""
        return table_of(RunRow, self.run_rows)

    @property
    def judgements(self) -> "pd.DataFrame":
        """One row per run and judge; see `JudgementRow`."""
        return table_of(JudgementRow, self.judgement_rows)

    @property
    def summary(self) -> "pd.DataFrame":
        """The rows of `Report.summary` of every run, but for what depends on a judge, with the run in front."""
        return self._of_runs.summary

    @property
    def survival(self) -> "pd.DataFrame":
        """The rows of `Report.survival()` of every run: AUROC of base confidence for what holds."""
        return self._of_runs.survival

    @property
    def averages(self) -> "pd.DataFrame":
        """Averages over a model's benchmarks, each of which weighs the same; see `MacroRow`."""
        return self._of_runs.averages

    @property
    def findings(self) -> "pd.DataFrame":
        """What the numbers of every run allow to say, and what not, in sentences: `Report.findings()`."""
        return self._of_runs.findings

    @property
    def judged(self) -> "pd.DataFrame":
        """Like `summary`, of what depends on a judge: consistency, its coverage, consistent accuracy, the quadrants."""
        return self._of_judges[0]

    @property
    def agreement(self) -> "pd.DataFrame":
        """How far the judges agree on each run, all of them and each two; see `AgreementRow`."""
        return self._of_judges[1]

    @cached_property
    def _of_runs(self) -> TablesOfRuns:
        return tables_of_runs(self.run_rows, self.out)

    @cached_property
    def _of_judges(self) -> "tuple[pd.DataFrame, pd.DataFrame]":
        judged = [row for row in self.judgement_rows if row.status == "judged"]
        return tables_of_judges(judged, self.out, self.study.seed)


def tables_of_runs(rows: Iterable[RunRow], out: Path) -> TablesOfRuns:
    """Return the tables of finished runs.

    Args:
        rows: of all runs, those of one checkpoint together.
        out: the study's folder.
    """
    summaries: list[tuple[tuple[str, ...], pd.DataFrame]] = []
    survivals: list[tuple[tuple[str, ...], pd.DataFrame]] = []
    averages: list[tuple[tuple[str, ...], pd.DataFrame]] = []
    findings: list[FindingRow] = []
    for stage, of_stage in groupby(rows, key=lambda row: (row.model, row.checkpoint)):
        runs = list(of_stage)
        reports = {
            row.benchmark: Report.load(last_report_file(out / row.folder)) for row in runs if row.status == "finished"
        }
        for benchmark, report in reports.items():
            summary = report.summary
            summaries.append(((*stage, benchmark), summary[~summary["metric"].isin(_JUDGED)]))
            survivals.append(((*stage, benchmark), report.survival()))
            findings += [
                FindingRow(*stage, benchmark, one.condition or "", one.kind, one.is_limit, one.text)
                for one in report.findings()
            ]
        if len(reports) > 1:
            missing = [row.benchmark for row in runs if row.benchmark not in reports]
            averages.append((stage, _averaged(reports, missing)))
    return TablesOfRuns(
        _stacked(summaries, SummaryRow, _RUN),
        _stacked(survivals, SurvivalRow, _RUN),
        _stacked(averages, MacroRow, _STAGE),
        table_of(FindingRow, findings),
    )


def tables_of_judges(rows: Iterable[JudgementRow], out: Path, seed: int) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """Return what depends on a judge, and how far judges agree; see `StudyTables`.

    Args:
        rows: of runs that were judged.
        out: the study's folder.
        seed: keys the bootstrap of agreement.
    """
    by_run: dict[tuple[str, str, str], list[JudgementRow]] = {}
    for row in rows:
        by_run.setdefault((row.model, row.checkpoint, row.benchmark), []).append(row)
    judged: list[tuple[tuple[str, ...], pd.DataFrame]] = []
    agreements: list[AgreementRow] = []
    for run, of_run in by_run.items():
        reports = {row.judge: Report.load(out / row.file) for row in of_run}
        judged += [((*run, judge), report.summary) for judge, report in reports.items()]
        agreements += _agreements(run, reports, seed)
    return _stacked(judged, SummaryRow, _JUDGEMENT), table_of(AgreementRow, agreements)


def _agreements(run: tuple[str, str, str], reports: Mapping[str, Report], seed: int) -> Iterator[AgreementRow]:
    """Yield the agreement of all judges, then that of each two where there are more."""
    teams = [tuple(reports)] if len(reports) > 1 else []
    teams += list(combinations(reports, 2)) if len(reports) > 2 else []
    for team in teams:
        numbers: Any = agreement([reports[name] for name in team], seed)
        yield AgreementRow(*run, judges=" & ".join(team), **numbers)


def _averaged(reports: Mapping[str, Report], missing: Sequence[str]) -> "pd.DataFrame":
    scored = [report.score([Accuracy(), CorrectProbability(), LetterEntropy()]) for report in reports.values()]
    for report in scored:
        report.manifest = {}  # the study has asked the same of all, but for the pool of swapped images
    column = "benchmark of the study"  # no sample has such metadata
    table = Report.concat(scored, list(reports), column=column).macro_average(column)
    left_out = f"not finished, left out: {', '.join(missing)}" if missing else ""
    return table.assign(note=["; ".join(filter(None, (note, left_out))) for note in table["note"]]).astype(
        {"note": "string"}
    )


def _stacked(
    tables: "Sequence[tuple[tuple[str, ...], pd.DataFrame]]", kind: type, columns: tuple[str, ...]
) -> "pd.DataFrame":
    """Return tables below one another, each with names in front; without any, a table with all columns."""
    import pandas as pd

    parts = []
    for names, table in tables or [(("",) * len(columns), table_of(kind, []))]:
        front = {
            column: pd.Series(name, index=table.index, dtype="string")
            for column, name in zip(columns, names, strict=True)
        }
        parts.append(pd.concat([pd.DataFrame(front), table], axis=1))
    return pd.concat(parts, ignore_index=True)
