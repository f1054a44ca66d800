"""The result of a run: every response with its values, and every condition compared with base."""

import logging
import operator
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..metrics import Metric, PairedMetric, default_metrics
from ..types import Prompt, Response, Responses
from ..unreported import Unreported, find_unreported
from .analyses import Analyses
from .breakdowns import Breakdowns
from .columns import Column, frame_of, frame_without_texts, score, table_of
from .comparison import join_for_comparison
from .concatenation import Part, checked_pairs, concatenate
from .contents import ReportData, judge_of, with_judge
from .files import read_report, report_file, write_report
from .pairing import contrasts_with
from .run_report import belongs_to_run, keep_report
from .summary import SummaryRow, summarise
from .views import Views

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Report"]

logger = logging.getLogger(__name__)


class Report(Analyses, Breakdowns, Views):
    """Responses, their metrics, and every condition compared with base on the same samples.

    Made by `Evaluator.run`, `Report.from_responses` or `Report.load`. It prints as a table in a terminal and renders as
    one in a notebook; `frame` and `summary` are the data behind it.

    Attributes:
        responses: the responses as arrays.
        seed: keys the bootstrap.
        manifest: what the run was begun with; empty without one.
        unreported: how many responses its run directory holds that are not in it, where it was loaded from one.
    """

    def __init__(
        self,
        responses: Responses,
        columns: Sequence[Column],
        *,
        seed: int = 0,
        manifest: Mapping[str, Any] | None = None,
        summary: Sequence[SummaryRow] | None = None,
        unreported: Unreported | None = None,
    ) -> None:
        self.responses = responses
        self.seed = seed
        self.manifest = dict(manifest or {})
        self.unreported = unreported or Unreported()
        self._columns = tuple(columns)
        self._loaded_summary = summary

    @classmethod
    def from_responses(
        cls,
        prompts: Iterable[Prompt],
        responses: Iterable[Response],
        metrics: Sequence[Metric | PairedMetric | str] | None = None,
        *,
        seed: int = 0,
        manifest: Mapping[str, Any] | None = None,
    ) -> Self:
        """Report on responses from one's own loop.

        Args:
            prompts: what was asked, for instance from `expand`.
            responses: what was said, in the same order. Both may be iterators: a million responses are never in memory
                as objects then.
            metrics: what is measured, by names too, see `Evaluator`; None = `default_metrics()`.
            seed: keys the bootstrap.
            manifest: anything worth keeping about the run, as JSON values.

        Raises:
            ValueError: prompts and responses do not belong together, a key occurs twice, or two metrics have one name.

        Example:
            >>> from vlmrobust import Sample, expand
            >>> sample = Sample(id="q1", images=["x.png"], question="Which?", options=["red", "blue"], answer=1)
            >>> prompts = list(expand([sample], []))
            >>> responses = [Response.parse(prompt, "<answer>B</answer>") for prompt in prompts]
            >>> float(Report.from_responses(prompts, responses, ["accuracy"]).summary["value"].iloc[0])
            1.0
        """
        arrays = Responses.of_pairs(checked_pairs(prompts, responses))
        return cls(
            arrays, score(arrays, default_metrics() if metrics is None else metrics), seed=seed, manifest=manifest
        )

    @classmethod
    def concat(cls, reports: Sequence["Report"], names: Sequence[str] | None = None, *, column: str = "report") -> Self:
        """Put several reports together: over benchmarks, models or seeds, for `by(column)` and `macro_average(column)`.

        Each sample is still compared with itself under base in its own report. A sample that several reports have in
        common (the same id, question, options and answer: one benchmark asked of several models) is resampled together.

        Args:
            reports: with the same metrics. Conditions may differ.
            names: one per report; a name and a slash are put before its samples' ids, and the name into the samples'
                metadata. None = ids stay as they are, and must differ.
            column: the metadata's key, such as "benchmark", "model" or "seed".

        Returns:
            Its `manifest` holds all of theirs under `reports`. Its bootstrap has the first report's seed.

        Raises:
            ValueError: there is no report; names do not fit, or one begins another; metrics differ, or are set in
                another way; a condition of one name, the choice of the distractor, or one model's style is another; two
                reports without names have a sample in common; `column` is in the metadata already.

        Example:
            >>> import vlmrobust as vr
            >>> models = [vr.testing.FakeModel(accuracy=accuracy) for accuracy in (1.0, 0.0)]
            >>> reports = [vr.Evaluator(model, []).run(vr.demo.samples(4)) for model in models]
            >>> both = vr.Report.concat(reports, ["good", "bad"], column="model")
            >>> both.by("model").query("metric == 'accuracy'")[["model", "value"]].values.tolist()
            [['bad', 0.0], ['good', 1.0]]
        """
        labels = [str(number) for number in range(len(reports))] if names is None else list(names)
        has_prefix = any(one != other and f"{other}/".startswith(f"{one}/") for one in labels for other in labels)
        if not reports or len(labels) != len(reports) or len(set(labels)) < len(labels) or has_prefix or "" in labels:
            raise ValueError(
                f"field 'names': expected a name for each of at least one report, none empty, repeated or before a "
                f"slash in another; got {labels} for {len(reports)} reports"
            )
        parts = [
            Part(name, report.responses, report._columns, with_judge(report.manifest, report._columns), report.judge)
            for name, report in zip(labels, reports, strict=True)
        ]
        responses, columns, manifest = concatenate(parts, column, is_named=names is not None)
        left_out = reduce(operator.add, (report.unreported for report in reports))
        return cls(responses, columns, seed=reports[0].seed, manifest=manifest, unreported=left_out)

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

    @property
    def judge(self) -> dict[str, Any]:
        """The identity of the judge whose verdicts `consistency` holds: its class, and what else decides them."""
        return judge_of(self._columns, self.manifest)

    @cached_property
    def frame(self) -> "pd.DataFrame":
        """One row per response: its key, what was asked and said, and one column per metric (NaN = undefined).

        `error` says why a call failed, `metric_error` why a response has no value in a metric that asked for one, such
        as a judge's request that failed. `question` is as shown; `options` are the texts as shown, in the order of
        `sample.options`, added ones behind. `target`, `answer`, `distractor` and `asserted` are indices in them, NA
        where there is none.

        Behind the metrics stand the letters' probabilities by the same indices, `probability_0`, `probability_1`, …,
        renormalised over the sample's own options and defined where letter metrics are, and the samples' metadata,
        `metadata.<key>`: numbers where all values of a key are, else texts, what is nested as JSON.

        Example:
            >>> import vlmrobust as vr
            >>> report = vr.Evaluator(vr.testing.FakeModel(accuracy=1.0), [], ["accuracy"]).run(vr.demo.samples(4))
            >>> row = report.frame.iloc[0]
            >>> row["question"], row["options"][row["answer"]]
            ('What colour is the cross?', 'blue')
            >>> bool(row[f"probability_{row['target']}"] > 0.5), row["metadata.kind"]
            (True, 'colour')
        """
        return frame_of(self.responses, self._columns)

    @cached_property
    def frame_without_texts(self) -> "pd.DataFrame":
        """The columns of `frame` that a plot needs: nothing that was said. Not to be written into."""
        return frame_without_texts(self.responses, self._columns)

    @cached_property
    def _rows(self) -> tuple[SummaryRow, ...]:
        if self._loaded_summary is not None:
            return tuple(self._loaded_summary)
        return tuple(summarise(self.responses, self._columns, contrasts_with("base", self.responses), self.seed))

    @property
    def summary(self) -> "pd.DataFrame":
        """One row per condition × metric: value, base value and difference on the same samples, with intervals.

        See `SummaryRow` for the columns. Letter metrics that were read at different places are not subtracted, and a
        condition that was carried in two ways has a row for each.
        """
        return table_of(SummaryRow, self._rows)

    def contrast(self, condition: str, reference: str = "base") -> "pd.DataFrame":
        """Compare two conditions, like a condition with the same one plus an abstain option, or with its control.

        Returns:
            The columns of `summary`, `base_value` being the reference's; `p_adjusted` is `p`, unless the condition was
            carried in several ways, each of which is a comparison. Metrics of pairs, such as `harmed`, compare either
            side with base: their difference is how many more right answers are lost than under the reference.

        Raises:
            KeyError: a condition is not in the report.
        """
        for name in (condition, reference):
            if name not in self.conditions:
                raise KeyError(f"expected one of the conditions {', '.join(self.conditions)}; got {name!r}")
        contrasts = [one for one in contrasts_with(reference, self.responses) if one.unit.condition == condition]
        return table_of(SummaryRow, summarise(self.responses, self._columns, contrasts, self.seed))

    def compare(self, other: "Report") -> "pd.DataFrame":
        """Compare this report with one of another model or checkpoint, on the samples that both have.

        Every condition is compared with the same condition there, paired by sample, draws averaged: the first ones, as
        many as both have of a sample. Groups are this report's. A sample for which the condition asserts another option
        there is left out. What is left out stands in `note`.

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
            SummaryRow,
            summarise(*join_for_comparison(self.responses, self._columns, other.responses, other._columns), self.seed),
        )

    def _select(self, rows: Sequence[int]) -> Self:
        columns = [column.taken(rows) for column in self._columns]
        return type(self)(self.responses.select(rows), columns, seed=self.seed, manifest=self.manifest)

    def score(self, metrics: Sequence[Metric | PairedMetric | str], *, verdicts: str | Path | None = None) -> "Report":
        """Return a report on the same responses with these metrics in place of the old; needs no model.

        Args:
            metrics: what is measured, by names too, see `Evaluator`. A name is this report's metric, judge and all, if
                it was measured in this process, else the library's, whose judge are the rules.
            verdicts: a folder in which the verdicts of costly judges are kept, so that after a kill, or a request that
                failed, only the others are asked for; None = they are not kept.

        Raises:
            ValueError: two metrics have one name, or a name is not known; the message has the nearest.
            RefusedError: a judge failed on every thought.

        Example:
            >>> import vlmrobust as vr
            >>> report = vr.Evaluator(vr.testing.FakeModel(), []).run(vr.demo.samples(4))
            >>> report.score(["brier_score", "consistency"]).metrics
            ('brier_score', 'consistency')
        """
        own = {column.name: column.metric for column in self._columns if column.metric is not None}
        columns = score(self.responses, metrics, None if verdicts is None else Path(verdicts), own)
        return Report(self.responses, columns, seed=self.seed, manifest=self.manifest, unreported=self.unreported)

    def save(self, path: str | Path) -> Path:
        """Write the report as one file that `Report.load` reads, and return its path.

        Args:
            path: the file, or a folder, in which it is named `report.parquet`; in the directory of its own run it joins
                the report that is there and takes nothing away, see `Evaluator.run`. A file whose name ends in `.jsonl`
                is JSON Lines, a head and then a response a line; any other one is Parquet, which takes a fraction of
                the time and the space.
        """
        if belongs_to_run(self.manifest, Path(path)):
            return self._keep(Path(path))
        return write_report(Path(path), self._data)

    def _keep(self, folder: Path) -> Path:
        """Join the report to the one in the directory of its run, and return the file of its own."""
        file, unreported = keep_report(self._data, folder)
        self.unreported = self.unreported if unreported is None else unreported
        return file

    @property
    def _data(self) -> ReportData:
        return ReportData(self.responses, self._columns, self._rows, self.seed, self.manifest)

    @classmethod
    def _from_data(cls, data: ReportData, unreported: Unreported | None = None) -> Self:
        return cls(
            data.responses,
            data.columns,
            seed=data.seed,
            manifest=data.manifest,
            summary=data.summary,
            unreported=unreported,
        )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a saved report, or the one in a run directory.

        Its values are those that were saved; `score` measures anew. What the directory holds beside the report, as a
        call that was killed leaves it, is counted in `unreported`, said in the log and wherever the report is shown.

        Args:
            path: the file, or the folder.

        Raises:
            FileNotFoundError: there is none; the message counts the responses that are there nevertheless.
            ValueError: the file is no report, or a part of it is missing.
        """
        path = Path(path)
        data = read_report(path)
        left_out = find_unreported(path, report_file(path), data.responses) if path.is_dir() else None
        if left_out:
            logger.warning("%s: %s", path, left_out)
        return cls._from_data(data, left_out)
