"""Break a report down by groups of its samples, average over groups with equal weights, and make a model card."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..functional.closed_form import average_interval
from ..naming import did_you_mean
from ..types import Responses
from .card import Benchmark, ModelCardSection, card_section, run_of
from .findings import Finding
from .metric_columns import table_of
from .summary import SummaryRow

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Breakdowns", "Category", "MacroRow", "macro_rows"]


@dataclass(frozen=True, slots=True)
class MacroRow:
    """One condition × metric, averaged over categories with equal weights.

    Attributes:
        condition, metric: names.
        value, base_value, difference: averages of the categories' values.
        low, high: 95 % interval of the difference, from the categories' intervals by `functional.average_interval`.
        n: number of samples in the averaged categories.
        value_low, value_high: 95 % interval of the value.
        categories: number of averaged categories.
        weights: each category's weight and n, as text.
        micro_value, micro_difference: the same over all samples with equal weights.
        carrier: how the condition was carried.
        note: which categories and samples are left out, and what the interval allows for.
        paired_value, n_value: as in the summary: the value on the samples of the difference, and the number of samples
            behind `value`.
    """

    condition: str
    metric: str
    value: float
    base_value: float
    difference: float
    low: float
    high: float
    n: int
    value_low: float
    value_high: float
    categories: int
    weights: str
    micro_value: float
    micro_difference: float
    carrier: str | None
    note: str
    paired_value: float
    n_value: int


@dataclass(frozen=True, slots=True, eq=False)
class Category:
    """A category of samples: its value in the metadata, the labels of its groups, and its summary."""

    name: str
    groups: frozenset[str]
    rows: Sequence[SummaryRow]


Key = tuple[str, str | None, str]


def macro_rows(categories: Sequence[Category], overall: Sequence[SummaryRow], left_out: str) -> list[MacroRow]:
    """Return a row for each row of `overall`, the summary of all samples; categories that share a group are dependent.

    `left_out` is the note on samples without a category.
    """
    block_of = _blocks(categories)
    tables: list[tuple[Category, Mapping[Key, SummaryRow]]] = [
        (category, {_key(row): row for row in category.rows}) for category in categories
    ]
    found = []
    for micro in overall:
        cells = [(category, rows[_key(micro)]) for category, rows in tables if _key(micro) in rows]
        compared = [(category, row) for category, row in cells if not math.isnan(row.difference)]
        averaged = compared or [(category, row) for category, row in cells if not math.isnan(row.value)]
        names = [category.name for category, _ in averaged]
        missing = [category.name for category in categories if category.name not in names]
        notes = [left_out, f"undefined in {', '.join(missing)}, left out" if missing else ""]
        found.append(_averaged(micro, averaged, [block_of[name] for name in names], notes))
    return found


def _averaged(
    micro: SummaryRow, averaged: Sequence[tuple[Category, SummaryRow]], blocks: Sequence[int], notes: list[str]
) -> MacroRow:
    rows = [row for _, row in averaged]
    value_low, value_high = average_interval(
        [row.value for row in rows], [row.value_low for row in rows], [row.value_high for row in rows], blocks
    )
    low, high = average_interval(
        [row.difference for row in rows], [row.low for row in rows], [row.high for row in rows], blocks
    )
    if len(set(blocks)) < len(blocks):
        notes.append("categories share groups of samples: the interval allows for any dependence between them")
    if alone := [
        category.name
        for category, row in averaged
        if math.isnan(row.value_low) or (math.isnan(row.low) and not math.isnan(row.difference))
    ]:
        notes.append(f"no interval in {', '.join(alone)}")
    sizes = ", ".join(f"{category.name} (n = {row.n})" for category, row in averaged)
    return MacroRow(
        condition=micro.condition,
        metric=micro.metric,
        value=_mean([row.value for row in rows]),
        base_value=_mean([row.base_value for row in rows]),
        difference=_mean([row.difference for row in rows]),
        low=low,
        high=high,
        n=sum(row.n for row in rows),
        value_low=value_low,
        value_high=value_high,
        categories=len(rows),
        weights=f"1/{len(rows)} each: {sizes}" if rows else "",
        micro_value=micro.value,
        micro_difference=micro.difference,
        carrier=micro.carrier,
        note="; ".join(filter(None, notes)),
        paired_value=_mean([row.paired_value for row in rows]),
        n_value=sum(row.n_value for row in rows),
    )


def _key(row: SummaryRow) -> Key:
    return row.condition, row.carrier, row.metric


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _blocks(categories: Sequence[Category]) -> dict[str, int]:
    """Return each category's block number; categories linked by shared groups are in one block."""
    blocks: list[tuple[set[str], set[str]]] = []
    for category in categories:
        names, groups = {category.name}, set(category.groups)
        apart = []
        for block in blocks:
            if block[1] & groups:
                names |= block[0]
                groups |= block[1]
            else:
                apart.append(block)
        blocks = [*apart, (names, groups)]
    return {name: number for number, (names, _) in enumerate(blocks) for name in names}


class Breakdowns:
    """The breakdowns of a `Report` by groups of its samples."""

    responses: Responses
    manifest: dict[str, Any]

    if TYPE_CHECKING:

        @property
        def _rows(self) -> tuple[SummaryRow, ...]: ...

        @property
        def summary(self) -> "pd.DataFrame": ...  # noqa: D102

        def findings(self, *, margin: float = 0.1) -> tuple[Finding, ...]: ...  # noqa: D102

        def _select(self, rows: Sequence[int]) -> Self: ...

    def by(self, column: str | Sequence[str], *more: str) -> "pd.DataFrame":
        """Return a summary of each group of samples with the same values of one or several metadata keys.

        Intervals are over the groups (`Sample.group`) of its samples, as in `summary`. `p_adjusted` corrects for the
        conditions within one group of samples only: among many groups, some intervals miss 0 by chance.

        Args:
            column: a key of `sample.metadata`, or several; samples without it form a group of their own, named NA.
            *more: further keys.

        Returns:
            A column per key, named like it, or `metadata.…` where the summary has a column of that name; then the
            columns of `summary`. Groups are ordered by their values as text, key by key, NA last; there is one for each
            combination that occurs.

        Raises:
            KeyError: no sample has one of the keys; the message names it and the known ones.
            ValueError: there is no key, or a key is given twice.

        Example:
            >>> import vlmrobust as vr
            >>> samples = [
            ...     sample.replace(metadata={"kind": "ab"[n % 2], "split": "train" if n < 4 else "test"})
            ...     for n, sample in enumerate(vr.demo.samples(8))
            ... ]
            >>> report = vr.Evaluator(vr.testing.FakeModel(accuracy=1.0), [], ["accuracy"]).run(samples)
            >>> report.by("kind", "split")[["kind", "split", "metric", "value", "n"]].values.tolist()[:2]
            [['a', 'test', 'accuracy', 1.0, 2], ['a', 'train', 'accuracy', 1.0, 2]]
        """
        import pandas as pd

        keys = [*([column] if isinstance(column, str) else column), *more]
        if not keys or len(set(keys)) < len(keys):
            raise ValueError(f"expected columns of the samples' metadata, each once, got {keys}")
        tables = []
        for values, part in self._parts(keys):
            table = part.summary
            # The summary has columns of its own, such as `condition` and `n`, and so may the metadata.
            names = [f"metadata.{key}" if key in table else key for key in keys]
            for place, (name, value) in enumerate(zip(names, values, strict=True)):
                table.insert(place, name, pd.Series([value] * len(table), dtype="string"))
            tables.append(table)
        return pd.concat(tables, ignore_index=True)

    def macro_average(self, column: str) -> "pd.DataFrame":
        """Return the average over the values of a metadata column with equal weights, however many samples each has.

        A benchmark of 1,000 counting questions and 100 about depth is mostly about counting in `summary`, where all
        samples have equal weights (`micro_value`), and half about depth here. `weights` says so in each row.

        Args:
            column: a key of `sample.metadata`; samples without it are left out, and counted in `note`.

        Returns:
            One row per condition × metric; see `MacroRow` for the columns. A category for which the metric is undefined
            is left out of that row, and named in `note`. For categories that share groups, such as one sample run on
            several models, the interval allows any dependence, which makes it wider.

        Raises:
            KeyError: no sample has it.

        Example:
            >>> import vlmrobust as vr
            >>> report = vr.Evaluator(vr.testing.FakeModel(accuracy=1.0), []).run(vr.demo.samples(6))
            >>> report.macro_average("kind").set_index("metric").loc["accuracy", "weights"]
            '1/5 each: colour (n = 2), count (n = 1), position (n = 1), relation (n = 1), shape (n = 1)'
        """
        categories, without = [], 0
        for (value,), part in self._parts([column]):
            if value is None:
                without = len(set(part.responses.sample_id))
            else:
                categories.append(Category(value, frozenset(part.responses.group), part._rows))
        left_out = f"{without} samples without {column!r} left out" if without else ""
        return table_of(MacroRow, macro_rows(categories, self._rows, left_out))

    def model_card(
        self,
        model_name: str,
        dataset: str | Mapping[str, str],
        *,
        by: str | None = None,
        metrics: Sequence[str] = ("accuracy", "consistency", "follow_rate", "flip_rate"),
    ) -> ModelCardSection:
        """Return a section for the model's card on the Hugging Face hub, with the results as metadata (`model-index`).

        A number without an interval is not shown. Text from outside, such as names of conditions, is escaped.

        Args:
            model_name: for the metadata.
            dataset: the data set's id on the hub; for several, a mapping from the values of `by` to their ids.
            by: a key of `sample.metadata`, such as the `column` of `Report.concat`.
            metrics: the metrics to show.

        Returns:
            `text` and `data`, a `huggingface_hub.ModelCardData` with one `EvalResult` per data set, condition and
            metric. As text it is a whole card.

        Raises:
            KeyError: no sample has `by` in its metadata, or `dataset` has no id for one of its values.
            TypeError: only one of `by` and a mapping is given.
            ValueError: two values have one id, so that the metadata could not tell them apart; or nothing has an
                interval.

        Example:
            >>> import vlmrobust as vr
            >>> report = vr.Evaluator(vr.testing.FakeModel(accuracy=1.0), []).run(vr.demo.samples(20))
            >>> card = report.model_card("my-model", "me/shapes", metrics=["accuracy"])
            >>> [result.metric_args["n"] for result in card.data.eval_results]
            [20]
        """
        if isinstance(dataset, str) is not (by is None):
            raise TypeError(f"expected a mapping in 'dataset' with 'by', and an id without; got {dataset!r} and {by!r}")
        if isinstance(dataset, str):
            benchmarks = [Benchmark(dataset, dataset, self._rows, self.findings())]
        else:
            parts = [(value, part) for (value,), part in self._parts([str(by)])]
            if unknown := [str(name) for name, _ in parts if name not in dataset]:
                raise KeyError(
                    f"expected an id in 'dataset' for each value of {by!r}, got none for {', '.join(unknown)}"
                )
            benchmarks = [
                Benchmark(name, dataset[name], part._rows, part.findings()) for name, part in parts if name is not None
            ]
            if len({benchmark.dataset for benchmark in benchmarks}) < len(benchmarks):
                raise ValueError(f"field 'dataset': expected ids that differ, got {dict(dataset)}")
        return card_section(model_name, benchmarks, metrics, run_of(self.responses, self.manifest))

    def _parts(self, keys: Sequence[str]) -> list[tuple[tuple[str | None, ...], Self]]:
        """Return each combination of metadata values that occurs, with the report on its samples.

        They are ordered as text; None, for samples without a key, comes last.
        """
        known = sorted({key for metadata in self.responses.metadata for key in metadata})
        if unknown := [key for key in keys if key not in known]:
            near = did_you_mean(unknown[0], known)
            raise KeyError(
                f"expected a column of the samples' metadata ({', '.join(known) or 'none'}); "
                f"got {', '.join(map(repr, unknown))}{f'; {near}' if near else ''}"
            )
        groups: dict[tuple[str | None, ...], list[int]] = {}
        for row, metadata in enumerate(self.responses.metadata):
            values = tuple(str(metadata[key]) if key in metadata else None for key in keys)
            groups.setdefault(values, []).append(row)
        ordered = sorted(groups, key=lambda values: [(value is None, value or "") for value in values])
        return [(values, self._select(groups[values])) for values in ordered]
