"""How a report is looked at: as a table, as a figure, as a page."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..jsonl import write_atomically
from ..types import Responses, Sample
from .columns import Column
from .summary import SummaryRow
from .tables import Table, html_table, markdown_table, overview, terminal_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["Views"]


class Views:
    """What a `Report` shows of its data; the data are its own."""

    responses: Responses
    manifest: dict[str, Any]
    _columns: tuple[Column, ...]

    if TYPE_CHECKING:

        @property
        def frame(self) -> "pd.DataFrame": ...  # noqa: D102

        @property
        def summary(self) -> "pd.DataFrame": ...  # noqa: D102

        @property
        def _rows(self) -> tuple[SummaryRow, ...]: ...

    def plot(self) -> "Figure":
        """Draw what the report can show in one figure; `vlmrobust.plots` has the plots one by one.

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
    ) -> Path | str:
        """Return one page with tables, plots (with matplotlib) and a browser of the samples; it needs no network.

        Args:
            path: where to write it, and what is then returned; None = the page itself is returned.
            title: of the page.
            samples: those that were asked: a report has no images, the page shows theirs.
            max_samples: how many samples can be looked at; tables and plots are of all.

        Example:
            >>> from vlmrobust import Evaluator, demo, perturbations
            >>> from vlmrobust.testing import FakeModel
            >>> samples = demo.samples(5)
            >>> report = Evaluator(FakeModel(), [perturbations.WrongThink()]).run(samples)
            >>> report.to_html(samples=samples).splitlines()[0]
            '<!doctype html>'
        """
        from .html import page

        text = page(self, self._columns, self._rows, title=title, samples=samples, max_samples=max_samples)
        if path is None:
            return text
        write_atomically(Path(path), text)
        return Path(path)

    def to_markdown(self) -> str:
        """Return the overview as a Markdown table."""
        return markdown_table(self._overview())

    def __str__(self) -> str:
        return terminal_table(self._overview())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(self._overview())

    def _overview(self) -> Table:
        return overview(self.responses, self._columns, self._rows)
