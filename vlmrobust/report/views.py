"""Show a report: findings and headline, a figure, a page, Markdown and LaTeX tables, and another report beside it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..jsonl import write_atomically
from ..naming import unknown_name
from ..types import Responses, Sample
from ..unreported import Unreported
from .comparison import join_for_comparison, side_by_side
from .files import ReportData
from .findings import Finding, findings
from .formats import Table, html_table, join_tables, latex_table, markdown_table, terminal_table
from .html import page
from .metric_columns import Column
from .overview import headline, overview, unanswered_statuses
from .summary import summarise

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["Views"]


class Views:
    """The views of a `Report`, which holds the data."""

    responses: Responses
    seed: int
    manifest: dict[str, Any]
    unreported: Unreported
    _columns: tuple[Column, ...]

    if TYPE_CHECKING:

        @property
        def frame(self) -> "pd.DataFrame": ...  # noqa: D102

        @property
        def frame_without_texts(self) -> "pd.DataFrame": ...  # noqa: D102

        @property
        def summary(self) -> "pd.DataFrame": ...  # noqa: D102

        @property
        def _data(self) -> ReportData: ...

        def _parts(self, keys: Sequence[str]) -> list[tuple[tuple[str | None, ...], Self]]: ...

    def findings(self, *, margin: float = 0.1) -> tuple[Finding, ...]:
        """Return the findings that the numbers support, in plain sentences, and the limits of what can be concluded.

        The sentences are templates over `summary`; the ends of 95 % intervals decide which ones hold, never point
        estimates. The names follow arXiv:2602.12506, the thresholds are ours. Under a wrong thought,

        - a *stubborn expert* keeps its accuracy (the interval of the difference is above −margin) while consistency
          falls (its interval is below 0) to less than one half (the interval of the value is below 0.5);
        - a *brittle* model loses more than the margin (the interval is below −margin), answers with the asserted wrong
          option in most samples, and its thoughts mostly conclude its answers (both intervals are above 0.5).

        Args:
            margin: the smallest change of accuracy that matters, in (0, 1).

        Returns:
            Condition by condition, then the limits (`is_limit`); see `Finding`.

        Raises:
            ValueError: `margin` is not between 0 and 1.

        Example:
            >>> import vlmrobust as vr
            >>> model = vr.testing.FakeModel(accuracy=1.0, follow_think=1.0)
            >>> report = vr.Evaluator(model, [vr.perturbations.WrongThink()]).run(vr.demo.samples(60))
            >>> [finding.kind for finding in report.findings()]
            ['falls', 'brittle', 'no_control', 'one_draw', 'judged']
            >>> print(report.findings()[0])
            wrong_think: accuracy falls by 1.00 [0.88, 1.00] (n = 60).
        """
        if not 0 < margin < 1:
            raise ValueError(f"field 'margin': expected a number between 0 and 1, got {margin}")
        left_out = [Finding("unreported", None, str(self.unreported), True)] if self.unreported else []
        return (*findings(self._data, margin), *left_out)

    def headline(self) -> tuple[str, ...]:
        """Summarise `findings` in at most five sentences, the most important first.

        Example:
            >>> import vlmrobust as vr
            >>> model = vr.testing.FakeModel(accuracy=1.0, follow_think=1.0)
            >>> report = vr.Evaluator(model, [vr.perturbations.WrongThink()]).run(vr.demo.samples(60))
            >>> for sentence in report.headline():
            ...     print(sentence)
            Accuracy falls under wrong_think: from 1.00 to 0.00, by 1.00 [0.88, 1.00] (n = 60).
            Brittle under wrong_think: it follows the wrong thought, consistently, to the wrong answer.
        """
        return headline(self.findings(), self._data.summary)

    def plot(self) -> "Figure":
        """Draw all available plots in one figure; `vlmrobust.plots` has the single plots.

        Raises:
            LookupError: there is nothing to draw.
            ImportError: matplotlib is not installed (it is the extra `plot`).
        """
        from ..plots import panels

        return panels.overview(self)

    def to_html(
        self,
        path: str | Path | None = None,
        *,
        title: str = "Robustness report",
        samples: Iterable[Sample] = (),
        max_samples: int = 1000,
        labels: int = 100,
    ) -> Path | str:
        """Return one page with tables, plots (with matplotlib) and a browser of the samples; it needs no network.

        Args:
            path: file to write, which is then returned; None = return the page.
            title: of the page.
            samples: those of the run, for their images, which a report does not contain.
            max_samples: maximum number of samples on the page; tables and plots are over all.
            labels: number of thoughts per condition, drawn at random, to label on the page for `Report.consistency`; 0
                = none.

        Example:
            >>> from vlmrobust import Evaluator, demo, perturbations
            >>> from vlmrobust.testing import FakeModel
            >>> samples = demo.samples(5)
            >>> report = Evaluator(FakeModel(), [perturbations.WrongThink()]).run(samples)
            >>> report.to_html(samples=samples).splitlines()[0]
            '<!doctype html>'
        """
        text = page(
            self._data,
            self,
            self.findings(),
            title=title,
            samples=samples,
            max_samples=max_samples,
            labels=labels,
        )
        return _written(text, path)

    def side_by_side(
        self,
        other: "Views",
        path: str | Path | None = None,
        *,
        title: str = "Two reports side by side",
        names: tuple[str, str] | None = None,
        samples: Iterable[Sample] = (),
        max_flips: int = 1000,
    ) -> Path | str:
        """Return a page of the answers that this report has right and another wrong, or the other way round.

        Each pair of answers is shown with the image, both thoughts and their prefills, with filters for won, lost and
        condition. Responses are paired as in `compare`. The page needs no network.

        Args:
            other: the report to compare with.
            path: file to write, which is then returned; None = return the page.
            title: of the page.
            names: of the two reports; None = their models' names if these differ, else "this" and "other".
            samples: those of the run, for their images. Ids may have a prefix on either side; the page says which
                samples were not found.
            max_flips: maximum number of answers on the page; counts are over all.

        Raises:
            ValueError: as in `compare`.

        Example:
            >>> import vlmrobust as vr
            >>> samples = vr.demo.samples(8)
            >>> reports = [vr.Evaluator(vr.testing.FakeModel(accuracy=share), []).run(samples) for share in (1, 0)]
            >>> page = reports[0].side_by_side(reports[1], samples=samples)
            >>> "Of 8 pairs of answers this alone is right in 8, and other alone in 0." in page
            True
        """
        parts = join_for_comparison(self.responses, self._columns, other.responses, other._columns)
        own, theirs = (str((report.manifest.get("model") or {}).get("name", "")) for report in (self, other))
        text = side_by_side(
            self.responses,
            other.responses,
            summarise(*parts, self.seed),
            title=title,
            names=names or ((own, theirs) if own and theirs and own != theirs else ("this", "other")),
            samples=samples,
            max_flips=max_flips,
        )
        return _written(text, path)

    def to_markdown(self) -> str:
        """Return the overview as a Markdown table."""
        return markdown_table(self._overview())

    def to_latex(
        self,
        path: str | Path | None = None,
        *,
        metrics: Sequence[str] | None = None,
        by: str | Sequence[str] | None = None,
        caption: str | None = None,
        label: str | None = None,
    ) -> Path | str:
        r"""Return a table for a paper in LaTeX with `booktabs` rules: a row per condition, a column per metric.

        Below each value is its change from base on the same samples with the 95 % interval, for base the value's own
        interval. Notes are below the table.

        Args:
            path: file to write, which is then returned; None = return the table.
            metrics: columns of the report; None = accuracy, P(correct), letter entropy, consistency, and your own ones.
            by: keys of `sample.metadata` whose values name groups of rows, such as the `column` of `Report.concat`.
            caption: above the table, as plain text.
            label: for `\ref`.

        Raises:
            KeyError: no sample has one of the keys.
            ValueError: the report has no metric of that name, or the label is not valid in LaTeX.

        Example:
            >>> from vlmrobust import Evaluator, demo, perturbations
            >>> from vlmrobust.testing import FakeModel
            >>> report = Evaluator(FakeModel(), [perturbations.WrongThink()]).run(demo.samples(20))
            >>> print(report.to_latex(metrics=["accuracy"], label="tab:robustness").splitlines()[6])
                condition & accuracy $\uparrow$ & unparsed/ truncated & n & errors \\
        """
        known = [column.name for column in self._columns]
        if unknown := [name for name in metrics or () if name not in known]:
            raise ValueError(f"expected metrics of the report, {unknown_name(unknown[0], known)}")
        keys = [] if by is None else [by] if isinstance(by, str) else list(by)
        parts = self._parts(keys) if keys else [((), self)]
        statuses = unanswered_statuses(self.responses)
        tables = [
            (
                ["–" if value is None else value for value in values],
                overview(part._data, metrics=metrics, with_intervals=True, statuses=statuses),
            )
            for values, part in parts
        ]
        return _written(latex_table(join_tables(tables, keys), caption, label, names=1 + len(keys)), path, "\n")

    def __str__(self) -> str:
        return terminal_table(self._overview())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(self._overview())

    def _overview(self) -> Table:
        table = overview(self._data)
        return replace(table, notes=(*table.notes, str(self.unreported))) if self.unreported else table


def _written(text: str, path: str | Path | None, end: str = "") -> Path | str:
    """Write a text to a file and return its path, or return the text if there is no path."""
    if path is None:
        return text
    write_atomically(Path(path), text + end)
    return Path(path)
