"""What a study came to: tables first, and pages that show them."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..report.typed import table_of
from .rows import JudgementRow, RunRow
from .tables import TablesOfRuns, tables_of_judges, tables_of_runs

if TYPE_CHECKING:
    import pandas as pd

    from .pictures import Curves
    from .sections import Section
    from .study import Study

__all__ = ["StudyResult"]


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

    def to_markdown(self, page: str = "study.html") -> str:
        """Return the page as Markdown; what others wrote is escaped, and pictures are in the page of that name."""
        from .markdown import markdown

        return markdown(self, page)

    def to_html(self) -> str:
        """Return the page as HTML, which needs no network; what others wrote is escaped."""
        from .html import page

        return page(self)

    def save(self) -> Path:
        """Write the tables as CSV, and the pages `study.md` and `study.html`, into the folder; return the latter.

        Where those that are there have more than this study names, such as another benchmark, they stay, and these are
        `study.part.md`, `study.part.html` and `tables.part`.
        """
        from .keeping import keep_result

        return keep_result(self)

    def __str__(self) -> str:
        from ..report.tables import terminal_table
        from .sections import overview

        return terminal_table(overview(self))

    __repr__ = __str__
