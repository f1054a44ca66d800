"""Hold the result of a run: every response with its values, and every condition compared with base."""

import logging
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, reduce
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..metrics import Metric, PairedMetric, default_metrics
from ..types import Prompt, Response, Responses
from ..unreported import Unreported, find_unreported
from .analyses import Analyses
from .breakdowns import Breakdowns
from .comparison import join_for_comparison
from .files import ReportData, judge_of, read_report, report_file, with_judge, write_report
from .merging import Part, concatenate
from .metric_columns import Column, frame_of, frame_without_texts, score, table_of
from .pairing import check_conditions, contrasts_with
from .run_report import belongs_to_run, keep_report
from .summary import SummaryRow, summarise
from .views import Views

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Report"]

logger = logging.getLogger(__name__)


class Report(Analyses, Breakdowns, Views):
    """Responses, their metrics, and every condition compared with base on the same samples.

    Returned by `Evaluator.run`, `Report.from_responses` and `Report.load`. It prints as a table in a terminal and
    renders as one in a notebook; `frame` and `summary` are the data behind it.

    Attributes:
        responses: the responses as arrays.
        seed: keys the resampling.
        manifest: of the run; empty if there is none.
        unreported: for a report loaded from a run directory, how many responses there are not in it.
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
        """Report on responses from your own loop.

        Args:
            prompts: for instance from `expand`.
            responses: to the prompts, in the same order. Both may be iterators, so that a million responses need not be
                in memory as objects.
            metrics: metrics or their names, see `Evaluator`; None = `default_metrics()`.
            seed: keys the resampling.
            manifest: facts about the run to keep, as JSON values.

        Raises:
            ValueError: prompts and responses do not match, a key is not unique, or two metrics have one name.

        Example:
            >>> from vlmrobust import Sample, expand
            >>> sample = Sample(id="q1", images=["x.png"], question="Which?", options=["red", "blue"], answer=1)
            >>> prompts = list(expand([sample], []))
            >>> responses = [Response.parse(prompt, "<answer>B</answer>") for prompt in prompts]
            >>> float(Report.from_responses(prompts, responses, ["accuracy"]).summary["value"].iloc[0])
            1.0
        """
        arrays = Responses.of_pairs(_checked_pairs(prompts, responses))
        return cls(
            arrays, score(arrays, default_metrics() if metrics is None else metrics), seed=seed, manifest=manifest
        )

    @classmethod
    def concat(cls, reports: Sequence["Report"], names: Sequence[str] | None = None, *, column: str = "report") -> Self:
        """Concatenate reports over benchmarks, models or seeds, for `by(column)` and `macro_average(column)`.

        Each sample is still compared with itself under base in its own report. A sample that several reports share (the
        same id, question, options and answer, as for one benchmark on several models) is resampled together.

        Args:
            reports: with the same metrics. Conditions may differ.
            names: one per report, the prefix (with a slash) of its sample ids, and the value of `column` in their
                metadata. None = ids are unchanged, and must be unique.
            column: the metadata key, such as "benchmark", "model" or "seed".

        Returns:
            A report whose `manifest` contains all manifests under `reports`; its seed is the first report's.

        Raises:
            ValueError: there is no report; names do not match, or one is a prefix of another; the reports differ in
                their metrics or settings, in a condition of one name, in the choice of the distractor, or in one
                model's style; two reports without names share a sample; `column` is in the metadata already.

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
        """The names of the conditions, in the order in which they were run."""
        return tuple(dict.fromkeys(self.responses.condition))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics' columns."""
        return tuple(column.name for column in self._columns)

    @property
    def judge(self) -> dict[str, Any]:
        """The identity of the judge behind `consistency`: its class, and what else determines its verdicts."""
        return judge_of(self._columns, self.manifest)

    @cached_property
    def frame(self) -> "pd.DataFrame":
        """One row per response: its key, prompt and answer, and one column per metric (NaN = undefined).

        `error` says why a call failed, `metric_error` why a metric failed on a response, such as a failed request to a
        judge. `question` is as shown; `options` are the texts as shown, in the order of `sample.options`, added ones
        last. `target`, `answer`, `distractor` and `asserted` are indices in them, or NA.

        After the metrics come the letters' probabilities by the same indices, `probability_0`, `probability_1`, …,
        renormalised over the sample's own options and defined where letter metrics are, and the samples' metadata,
        `metadata.<key>`: numeric if all values of a key are, else texts, with nested values as JSON.

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
        """The columns of `frame` that a plot needs, without texts. Do not modify it."""
        return frame_without_texts(self.responses, self._columns)

    @cached_property
    def _rows(self) -> tuple[SummaryRow, ...]:
        if self._loaded_summary is not None:
            return tuple(self._loaded_summary)
        return tuple(summarise(self.responses, self._columns, contrasts_with("base", self.responses), self.seed))

    @property
    def summary(self) -> "pd.DataFrame":
        """One row per condition × metric: value, base value and difference on the same samples, with intervals.

        See `SummaryRow` for the columns. Letter metrics with different read-outs are not subtracted, and a condition
        with two carriers has a row for each.
        """
        return table_of(SummaryRow, self._rows)

    def contrast(self, condition: str, reference: str = "base") -> "pd.DataFrame":
        """Compare two conditions, such as a condition with and without an abstain option, or with its control.

        Returns:
            The columns of `summary`, with `base_value` for the reference; `p_adjusted` is `p`, unless the condition has
            several carriers, each of which is a comparison. Paired metrics, such as `harmed`, compare either side with
            base: their difference is how many more correct answers are lost than under the reference.

        Raises:
            KeyError: a condition is not in the report.
        """
        check_conditions(self.responses, (condition, reference))
        contrasts = [one for one in contrasts_with(reference, self.responses) if one.unit.condition == condition]
        return table_of(SummaryRow, summarise(self.responses, self._columns, contrasts, self.seed))

    def compare(self, other: "Report") -> "pd.DataFrame":
        """Compare this report with one of another model or checkpoint, on their common samples.

        Each condition is compared with the same condition there, paired by sample. Draws are averaged: the first ones
        that did not fail, as many per sample as both have. Groups are this report's. Samples for which the other
        report's condition asserts another option are left out. `note` says what is left out.

        Args:
            other: the report to compare with, such as that of the checkpoint before training.

        Returns:
            The columns of `summary`: `value` is this report's, `base_value` the other's, `difference` this − other.

        Raises:
            ValueError: the reports have no common sample, condition or metric; or they differ in a sample's target or
                number of options, or in a metric's settings.

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
        """Return a report on the same responses with these metrics instead; needs no model.

        Args:
            metrics: metrics or their names, see `Evaluator`. A name stands for this report's metric, with its judge, if
                it was measured in this process, else for the library's with the rule judge.
            verdicts: a folder in which to store the verdicts of costly judges, so that after a kill or a failed request
                only missing ones are requested; None = do not store them.

        Raises:
            ValueError: two metrics have one name, or a name is unknown; the message suggests the nearest.
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
        """Write the report to one file that `Report.load` reads, and return its path.

        Args:
            path: the file, or a folder, in which it is named `report.parquet`; in its own run directory it is merged
                into the existing report, which loses nothing, see `Evaluator.run`. A name ending in `.jsonl` gives JSON
                Lines, a head and one response per line; any other one gives Parquet, which takes a fraction of the time
                and space.
        """
        if belongs_to_run(self.manifest, Path(path)):
            return self._keep(Path(path))
        return write_report(Path(path), self._data)

    def _keep(self, folder: Path) -> Path:
        """Merge the report into the one in its run directory, and return the file with this report."""
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

        Its values are as saved; `score` measures again. Responses in the directory that are not in the report, as after
        a killed call, are counted in `unreported`, and mentioned in the log and wherever the report is shown.

        Args:
            path: the file, or the folder.

        Raises:
            FileNotFoundError: there is none; the message gives the number of responses without a report.
            ValueError: the file is not a report, or is incomplete.
        """
        path = Path(path)
        data = read_report(path)
        left_out = find_unreported(path, report_file(path), data.responses) if path.is_dir() else None
        if left_out:
            logger.warning("%s: %s", path, left_out)
        return cls._from_data(data, left_out)


def _checked_pairs(prompts: Iterable[Prompt], responses: Iterable[Response]) -> Iterator[tuple[Prompt, Response]]:
    """Yield each prompt with its response; refuse different numbers and repeated keys."""
    if isinstance(prompts, list | tuple) and isinstance(responses, list | tuple):
        _check_counts(len(prompts), len(responses))
    seen: dict[tuple[str, int], dict[str, int]] = {}
    counts = [0, 0]
    for position, (prompt, response) in enumerate(zip_longest(prompts, responses)):
        counts = [count + (one is not None) for count, one in zip(counts, (prompt, response), strict=True)]
        if prompt is None or response is None:
            continue
        known = seen.setdefault((response.condition, response.draw), {})
        first = known.setdefault(response.sample_id, position)
        if first != position:
            raise ValueError(
                f"expected responses with keys that differ, got {response.key} at positions {first} and {position}; "
                "repeated draws of a prompt need different numbers in 'draw'"
            )
        yield prompt, response
    _check_counts(*counts)


def _check_counts(prompts: int, responses: int) -> None:
    if prompts != responses:
        raise ValueError(f"expected one response per prompt ({prompts}), got {responses}")
