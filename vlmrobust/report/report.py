"""The result of a run: every response with its values, and every condition compared with base."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from torch import Tensor

from ..metrics import Metric, PairedMetric, default_metrics
from ..types import Prompt, Response, Responses
from .circular import circular
from .columns import FRAME_COLUMNS, Column, score
from .comparison import between
from .files import read_report, write_report
from .pairing import contrasts_with
from .robustness import HedgeRow, hedge_recovery, robust_accuracy
from .summary import SummaryRow, summarised
from .survival import SurvivalRow, survival
from .typed import table_of
from .views import Views

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Report"]

_INDICES = {"draw": "draw", "target": "target", "answer": "choice", "distractor": "distractor", "asserted": "asserted"}


class Report(Views):
    """Responses, their metrics, and every condition compared with base on the same samples.

    Made by `Evaluator.run`, `Report.from_responses` or `Report.load`. It prints as a table in a terminal and renders as
    one in a notebook; `frame` and `summary` are the data behind it.

    Attributes:
        responses: the responses as arrays.
        seed: keys the bootstrap.
        manifest: what the run was begun with; empty without one.
    """

    def __init__(
        self,
        responses: Responses,
        columns: Sequence[Column],
        *,
        seed: int = 0,
        manifest: Mapping[str, Any] | None = None,
        summary: Sequence[SummaryRow] | None = None,
    ) -> None:
        self.responses = responses
        self.seed = seed
        self.manifest = dict(manifest or {})
        self._columns = tuple(columns)
        self._loaded_summary = summary

    @classmethod
    def from_responses(
        cls,
        prompts: Sequence[Prompt],
        responses: Sequence[Response],
        metrics: Sequence[Metric | PairedMetric] | None = None,
        *,
        seed: int = 0,
        manifest: Mapping[str, Any] | None = None,
    ) -> Self:
        """Report on responses from one's own loop.

        Args:
            prompts: what was asked, for instance from `expand`.
            responses: what was said, in the same order.
            metrics: what is measured; None = `default_metrics()`.
            seed: keys the bootstrap.
            manifest: anything worth keeping about the run, as JSON values.

        Raises:
            ValueError: prompts and responses do not belong together, a key occurs twice, or two metrics have one name.

        Example:
            >>> from vlmrobust import Sample, expand
            >>> from vlmrobust.metrics import Accuracy
            >>> sample = Sample(id="q1", images=["x.png"], question="Which?", options=["red", "blue"], answer=1)
            >>> prompts = list(expand([sample], []))
            >>> responses = [Response.parse(prompt, "<answer>B</answer>") for prompt in prompts]
            >>> float(Report.from_responses(prompts, responses, [Accuracy()]).summary["value"].iloc[0])
            1.0
        """
        seen: dict[tuple[str, str, int], int] = {}
        for position, response in enumerate(responses):
            if response.key in seen:
                raise ValueError(
                    f"expected responses with keys that differ, got {response.key} at positions {seen[response.key]} "
                    f"and {position}; repeated draws of a prompt need different numbers in 'draw'"
                )
            seen[response.key] = position
        arrays = Responses.of(prompts, responses)
        return cls(
            arrays, score(arrays, default_metrics() if metrics is None else metrics), seed=seed, manifest=manifest
        )

    def __len__(self) -> int:
        return len(self.responses)

    @property
    def conditions(self) -> tuple[str, ...]:
        """The conditions' names, in the order in which they were asked."""
        return tuple(dict.fromkeys(self.responses.condition))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics' columns."""
        return tuple(column.name for column in self._columns)

    @cached_property
    def frame(self) -> "pd.DataFrame":
        """One row per response: its key, what was asked and said, and one column per metric (NaN = undefined).

        `target`, `answer`, `distractor` and `asserted` are indices in `sample.options`, NA where there is none.
        """
        import pandas as pd

        series: dict[str, Any] = {}
        for name in FRAME_COLUMNS:
            values = getattr(self.responses, _INDICES.get(name, name))
            if isinstance(values, Tensor):
                numbers = values.numpy()
                series[name] = pd.arrays.IntegerArray(numbers.copy(), mask=numbers < 0)
            else:
                series[name] = pd.array(list(values), dtype="string")
        return pd.DataFrame(series | {column.name: column.scores for column in self._columns})

    @cached_property
    def _rows(self) -> tuple[SummaryRow, ...]:
        if self._loaded_summary is not None:
            return tuple(self._loaded_summary)
        return tuple(summarised(self.responses, self._columns, contrasts_with("base", self.responses), self.seed))

    @property
    def summary(self) -> "pd.DataFrame":
        """One row per condition × metric: value, base value and difference on the same samples, with intervals.

        See `SummaryRow` for the columns. Letter metrics that were read at different places are not subtracted, and a
        condition that was carried in two ways has a row for each.
        """
        return table_of(SummaryRow, self._rows)

    def contrast(self, condition: str, reference: str = "base") -> "pd.DataFrame":
        """Compare two conditions, like a condition with the same one plus an abstain option.

        Returns:
            The columns of `summary`, `base_value` being the reference's; `p_adjusted` is `p`, for it is one comparison.

        Raises:
            KeyError: a condition is not in the report.
        """
        for name in (condition, reference):
            if name not in self.conditions:
                raise KeyError(f"expected one of the conditions {', '.join(self.conditions)}; got {name!r}")
        contrasts = [one for one in contrasts_with(reference, self.responses) if one.unit.condition == condition]
        columns = [column for column in self._columns if not column.is_paired or reference == "base"]
        return table_of(SummaryRow, summarised(self.responses, columns, contrasts, self.seed))

    def compare(self, other: "Report") -> "pd.DataFrame":
        """Compare this report with one of another model or checkpoint, on the samples that both have.

        Every condition is compared with the same condition there, paired by sample, draws averaged; groups are this
        report's. A sample for which the condition asserts another option there is left out, and counted in `note`.

        Args:
            other: what this report is compared with, such as that of the checkpoint before training.

        Returns:
            The columns of `summary`: `value` is this report's, `base_value` the other's, `difference` this − other.

        Raises:
            ValueError: the reports have no sample, condition or metric in common, a sample has another answer or number
                of options there, or a metric was set in another way.

        Example:
            >>> import vlmrobust as vr
            >>> prompts = list(vr.expand(vr.demo.samples(4, seed=0), []))
            >>> models = [vr.testing.FakeModel(accuracy=accuracy) for accuracy in (1.0, 0.0)]
            >>> after, before = (vr.Report.from_responses(prompts, model.respond(prompts)) for model in models)
            >>> float(after.compare(before).set_index("metric").loc["accuracy", "difference"])
            1.0
        """
        return table_of(
            SummaryRow, summarised(*between(self.responses, self._columns, other.responses, other._columns), self.seed)
        )

    def circular(self, conditions: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return the share of samples that are answered right under every rotation of their options.

        A sample of which a rotation was not asked, or failed, is undefined; `note` counts them. Draws are averaged.

        Args:
            conditions: those that together show every rotation, the first being what is compared with; None = `base`
                and what `perturbations.rotations` returns.

        Returns:
            One row with the columns of `summary`: `value` is circular accuracy, `base_value` accuracy under base.

        Raises:
            KeyError: a condition is not in the report.
            ValueError: the report has no rotations.

        Source: CircularEval of MMBench, Liu et al., arXiv:2307.06281.

        Example:
            >>> import vlmrobust as vr
            >>> prompts = list(vr.expand(vr.demo.samples(4, seed=0), vr.perturbations.rotations(4)))
            >>> report = vr.Report.from_responses(prompts, vr.testing.FakeModel(accuracy=1.0).respond(prompts))
            >>> float(report.circular()["value"].iloc[0])
            1.0
        """
        return table_of(SummaryRow, summarised(*circular(self.responses, conditions), self.seed))

    def robust_accuracy(self, conditions: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return the share of samples that are right under base and under all of some conditions: the worst case.

        A sample for which one of them was not asked, failed or does not fit is undefined; `note` counts them.

        Args:
            conditions: those that an answer must survive; None = all that were scored, controls among them.

        Returns:
            One row with the columns of `summary`: `base_value` is accuracy under base on the same samples.

        Raises:
            KeyError: a condition is not in the report.
            ValueError: there is none but base.
        """
        return table_of(SummaryRow, summarised(*robust_accuracy(self.responses, conditions), self.seed))

    def hedge_recovery(self) -> "pd.DataFrame":
        """Return how much of the drop a hedge ("but I think", the disclaimer) brings back, in accuracy and consistency.

        One row per hedged condition whose plain one was asked too, and metric; see `HedgeRow` for the columns.
        """
        return table_of(HedgeRow, hedge_recovery(self.responses, self._columns, self.seed))

    def survival(self) -> "pd.DataFrame":
        """Return how well the base response tells which answers hold: AUROC per condition, predictor and population.

        See `SurvivalRow` for the columns. Predictors are P(correct), ranked by log-odds, negative letter entropy and,
        as the trivial baseline, thought length, on the same pairs. The interval is `functional.auroc_interval`, or a
        bootstrap where responses share a group.

        Source: arXiv:2602.12506; whether its AUROC is over all samples is not known, so both populations are given.
        """
        return table_of(SurvivalRow, survival(self.responses, self.seed))

    def by(self, column: str) -> "pd.DataFrame":
        """Return the summary of each group of samples that share a value in their metadata.

        Args:
            column: a key of `sample.metadata`; samples without it form a group of their own, named NA.

        Returns:
            The columns of `summary` behind one named `column`.

        Raises:
            KeyError: no sample has it.
        """
        import pandas as pd

        groups: dict[str | None, list[int]] = {}
        for row, metadata in enumerate(self.responses.metadata):
            groups.setdefault(str(metadata[column]) if column in metadata else None, []).append(row)
        if not any(value is not None for value in groups):
            known = sorted({key for metadata in self.responses.metadata for key in metadata})
            raise KeyError(f"expected a column of the samples' metadata ({', '.join(known) or 'none'}); got {column!r}")
        tables = []
        for value in sorted(groups, key=lambda value: (value is None, value or "")):
            table = self._select(groups[value]).summary
            table.insert(0, column, pd.Series([value] * len(table), dtype="string"))
            tables.append(table)
        return pd.concat(tables, ignore_index=True)

    def _select(self, rows: Sequence[int]) -> "Report":
        columns = [replace(column, scores=column.scores[np.asarray(rows)]) for column in self._columns]
        return Report(self.responses.select(rows), columns, seed=self.seed, manifest=self.manifest)

    def score(self, metrics: Sequence[Metric | PairedMetric]) -> "Report":
        """Return a report on the same responses with these metrics in place of the old; needs no model.

        Raises:
            ValueError: two metrics have one name.
        """
        return Report(self.responses, score(self.responses, metrics), seed=self.seed, manifest=self.manifest)

    def save(self, path: str | Path) -> Path:
        """Write the report as one JSON Lines file that `Report.load` reads, and return its path.

        Args:
            path: the file, or a folder (such as the run's), in which it is named `report.jsonl`.
        """
        return write_report(
            Path(path), self.responses, self._columns, self._rows, {"seed": self.seed, "manifest": self.manifest}
        )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a saved report, or the one in a run directory.

        Its values are those that were saved; `score` measures anew.

        Raises:
            FileNotFoundError: there is none.
            ValueError: the file is no report, or a part of it is missing.
        """
        responses, columns, summary, rest = read_report(Path(path))
        return cls(responses, columns, summary=summary, seed=rest["seed"], manifest=rest["manifest"])
