"""Make the tables of a study from the reports in its folder, and the agreement of its judges.

Few reports are in memory at a time.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from ..catalogue import JUDGED_METRICS
from ..functional import fleiss_kappa, mean_intervals, strict_agreement
from ..functional.bootstrap import percentile_limits
from ..functional.resampling import columns_by_group, replicate_means
from ..metrics import Accuracy, CorrectProbability, LetterEntropy
from ..report import MacroRow, Report, SummaryRow, SurvivalRow
from ..report.files import last_report_file
from ..report.metric_columns import table_of
from ..seeding import generator
from .definition import StudyDefinition

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "AgreementRow",
    "FindingRow",
    "JudgementRow",
    "RunRow",
    "StudyTables",
    "agreement",
]


@dataclass(frozen=True, slots=True)
class RunRow:
    """One model at one checkpoint on one benchmark.

    Attributes:
        model, checkpoint, benchmark: their names; the checkpoint's is empty for a model without checkpoints.
        step: step of the checkpoint, as text; empty = not given.
        status: "finished" or "failed".
        samples: number of samples.
        left_out: number of rows without a sample: not a multiple-choice question, or invalid.
        responses: number of responses.
        errors: number of failed calls among them.
        folder: the run directory, relative to the study's folder.
        error: why the run failed; empty if it did not.
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
    """The verdicts of one judge on one run.

    Attributes:
        model, checkpoint, benchmark, judge: names.
        status: "judged" or "failed".
        answered: number of answered responses.
        verdicts: number of these with a verdict on their consistency.
        file: the judged report, relative to the study's folder.
        error: why judging failed.
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
    """Agreement of judges on whether the thoughts of a run are consistent with its answers.

    Attributes:
        model, checkpoint, benchmark: of the run.
        judges: their names.
        n: number of responses with a verdict of all judges; all numbers refer to these.
        strict: share with the same verdict of all judges, in [0, 1].
        strict_low, strict_high: 95 % bootstrap interval over groups of samples.
        kappa: Fleiss' κ, at most 1.
        low, high: 95 % bootstrap interval of κ.
        note: why a number is undefined.
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
        model, checkpoint, benchmark: of the run.
        condition: its condition; "" = the whole run.
        kind: one of `report.findings.KINDS`.
        is_limit: whether it says what cannot be concluded.
        text: the sentence.
    """

    model: str
    checkpoint: str
    benchmark: str
    condition: str
    kind: str
    is_limit: bool
    text: str


_STAGE = ("model", "checkpoint")
_RUN = (*_STAGE, "benchmark")
_JUDGEMENT = (*_RUN, "judge")
_Tables: TypeAlias = "list[tuple[tuple[str, ...], pd.DataFrame]]"
_REPLICATES = 10_000
_LEVEL = 0.95


class StudyTables:
    """The tables of a study, each made at its first use.

    Attributes:
        study: the study.
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
        """The rows of `Report.summary` of every run, after columns that name the run, without judged metrics."""
        return self._of_runs["summary"]

    @property
    def survival(self) -> "pd.DataFrame":
        """The rows of `Report.survival()` of every run: AUROC of base confidence for answers that survive."""
        return self._of_runs["survival"]

    @property
    def averages(self) -> "pd.DataFrame":
        """Averages over a model's benchmarks, with equal weights; see `MacroRow`."""
        return self._of_runs["averages"]

    @property
    def findings(self) -> "pd.DataFrame":
        """The findings of every run in sentences, and their limits: `Report.findings()`."""
        return self._of_runs["findings"]

    @property
    def judged(self) -> "pd.DataFrame":
        """`summary` of the judged metrics: consistency, its coverage, consistent accuracy, the quadrants."""
        return self._of_judges[0]

    @property
    def agreement(self) -> "pd.DataFrame":
        """Agreement of the judges on each run, of all of them and of each pair; see `AgreementRow`."""
        return self._of_judges[1]

    @cached_property
    def _of_runs(self) -> "dict[str, pd.DataFrame]":
        return _tables_of_runs(self.run_rows, self.out)

    @cached_property
    def _of_judges(self) -> "tuple[pd.DataFrame, pd.DataFrame]":
        judged = [row for row in self.judgement_rows if row.status == "judged"]
        return _tables_of_judges(judged, self.out, self.study.seed)


def _tables_of_runs(rows: Iterable[RunRow], out: Path) -> "dict[str, pd.DataFrame]":
    """Return the tables of finished runs by name, from rows sorted by checkpoint and the study's folder."""
    summaries: _Tables = []
    survivals: _Tables = []
    averages: _Tables = []
    findings: list[FindingRow] = []
    for stage, of_stage in groupby(rows, key=lambda row: (row.model, row.checkpoint)):
        runs = list(of_stage)
        reports = {
            row.benchmark: Report.load(last_report_file(out / row.folder)) for row in runs if row.status == "finished"
        }
        for benchmark, report in reports.items():
            summary = report.summary
            summaries.append(((*stage, benchmark), summary[~summary["metric"].isin(JUDGED_METRICS)]))
            survivals.append(((*stage, benchmark), report.survival()))
            findings += [
                FindingRow(*stage, benchmark, one.condition or "", one.kind, one.is_limit, one.text)
                for one in report.findings()
            ]
        if len(reports) > 1:
            missing = [row.benchmark for row in runs if row.benchmark not in reports]
            averages.append((stage, _averaged(reports, missing)))
    return {
        "summary": _stacked(summaries, SummaryRow, _RUN),
        "survival": _stacked(survivals, SurvivalRow, _RUN),
        "averages": _stacked(averages, MacroRow, _STAGE),
        "findings": table_of(FindingRow, findings),
    }


def _tables_of_judges(rows: Iterable[JudgementRow], out: Path, seed: int) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """Return the tables of judged metrics and of the judges' agreement, from the rows of judged runs."""
    by_run: dict[tuple[str, str, str], list[JudgementRow]] = {}
    for row in rows:
        by_run.setdefault((row.model, row.checkpoint, row.benchmark), []).append(row)
    judged: _Tables = []
    agreements: list[AgreementRow] = []
    for run, of_run in by_run.items():
        reports = {row.judge: Report.load(out / row.file) for row in of_run}
        judged += [((*run, judge), report.summary) for judge, report in reports.items()]
        agreements += _agreements(run, reports, seed)
    return _stacked(judged, SummaryRow, _JUDGEMENT), table_of(AgreementRow, agreements)


def _agreements(run: tuple[str, str, str], reports: Mapping[str, Report], seed: int) -> Iterator[AgreementRow]:
    """Yield the agreement of all judges, then of each pair if there are more than two."""
    teams = [tuple(reports)] if len(reports) > 1 else []
    teams += list(combinations(reports, 2)) if len(reports) > 2 else []
    for team in teams:
        numbers: Any = agreement([reports[name] for name in team], seed)
        yield AgreementRow(*run, judges=" & ".join(team), **numbers)


def agreement(judged: Sequence[Report], seed: int) -> dict[str, float | int | str]:
    """Return strict agreement and Fleiss' κ of judges on one run's responses, all conditions together.

    Args:
        judged: the run's report by each judge, at least two.
        seed: seed of the bootstrap over groups of samples.

    Returns:
        The numbers of an `AgreementRow`.

    Source:
        Zhao et al., arXiv:2602.12506, Table 3: strict three-way agreement and Fleiss' κ of three judges.
    """
    ratings = np.stack([report.frame["consistency"].to_numpy(dtype=np.float64) for report in judged], axis=1)
    complete = ~np.isnan(ratings).any(axis=1)
    found = torch.from_numpy(ratings)
    numbers: dict[str, float | int | str] = {
        "n": int(complete.sum()),
        "strict": strict_agreement(found),
        "kappa": fleiss_kappa(found),
    }
    strict_limits = kappa_limits = (math.nan, math.nan)
    note = "" if complete.any() else "no response has a verdict of all judges"
    if complete.any():
        groups = [group for group, kept in zip(judged[0].responses.group, complete.tolist(), strict=True) if kept]
        strict_limits, kappa_limits = _limits(ratings[complete], groups, seed)
        if math.isnan(float(numbers["kappa"])):
            note = f"all {numbers['n']} verdicts are the same: chance alone would agree"
        elif math.isnan(kappa_limits[0]):
            note = "κ has no interval: no two verdicts differ"
    limits = ("strict_low", "strict_high", "low", "high")
    return numbers | dict(zip(limits, (*strict_limits, *kappa_limits), strict=True)) | {"note": note}


def _limits(
    ratings: "np.ndarray[tuple[int, int], np.dtype[np.float64]]", groups: Sequence[str], seed: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the intervals of strict agreement and of κ, a function of means over responses.

    The interval of κ is NaN if all replicates are equal: a bootstrap cannot estimate unobserved disagreement.
    """
    raters = ratings.shape[1]
    ones = ratings.sum(axis=1)
    others = raters - ones
    pairs = (ones * (ones - 1) + others * (others - 1)) / (raters * (raters - 1))
    same = ((ones == 0) | (others == 0)).astype(np.float64)
    key = generator(seed, "bootstrap", "strict agreement")
    [strict] = mean_intervals([same], groups, outcomes=["rate"], rng=key, level=_LEVEL)
    rng = generator(seed, "bootstrap", "agreement")
    columns = columns_by_group([pairs, ones / raters], groups, rng)
    observed, share = replicate_means(columns, _REPLICATES, rng)
    chance = share**2 + (1 - share) ** 2
    kappa = np.divide(observed - chance, 1 - chance, out=np.full(len(chance), math.nan), where=chance < 1)
    low, high = percentile_limits(kappa, columns[0].groups, _LEVEL)
    return (strict.low, strict.high), (low, high) if low < high else (math.nan, math.nan)


def _averaged(reports: Mapping[str, Report], missing: Sequence[str]) -> "pd.DataFrame":
    scored = [report.score([Accuracy(), CorrectProbability(), LetterEntropy()]) for report in reports.values()]
    for report in scored:
        report.manifest = {}  # equal but for the pool of swapped images
    column = "benchmark of the study"  # not a name in any sample's metadata
    table = Report.concat(scored, list(reports), column=column).macro_average(column)
    left_out = f"not finished, left out: {', '.join(missing)}" if missing else ""
    return table.assign(note=["; ".join(filter(None, (note, left_out))) for note in table["note"]]).astype(
        {"note": "string"}
    )


def _stacked(tables: _Tables, kind: type, columns: tuple[str, ...]) -> "pd.DataFrame":
    """Concatenate tables, each after columns of its names; without tables, return an empty one with all columns."""
    import pandas as pd

    parts = []
    for names, table in tables or [(("",) * len(columns), table_of(kind, []))]:
        front = {
            column: pd.Series(name, index=table.index, dtype="string")
            for column, name in zip(columns, names, strict=True)
        }
        parts.append(pd.concat([pd.DataFrame(front), table], axis=1))
    return pd.concat(parts, ignore_index=True)
