"""A report by groups of its samples, and the average in which each of them weighs the same."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from ..naming import did_you_mean
from ..types import Responses
from .card import Benchmark, ModelCardSection, card_section, run_of
from .findings import Finding
from .macro import Category, MacroRow, macro_rows
from .summary import SummaryRow
from .typed import table_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Breakdowns"]


class Breakdowns:
    """What a `Report` says of parts of its samples."""

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
        """Return the summary of each group of samples that share a value in their metadata, or one in each of several.

        Intervals are over the groups (`Sample.group`) of its samples, as in `summary`, and `p_adjusted` counts the
        conditions within one group of samples: with many of these, some intervals miss 0 by chance.

        Args:
            column: a key of `sample.metadata`, or several; samples without it form a group of their own, named NA.
            *more: further keys.

        Returns:
            The columns of `summary` behind one for each key, called like it, or `metadata.…` where the summary has one
            of that name. Groups are ordered by their values as text, key by key, NA last; there is one for each
            combination that occurs.

        Raises:
            KeyError: no sample has one of the keys; the message names it, and those that there are.
            ValueError: there is no key, or one comes twice.

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
        """Return the average over the values of a metadata column, each of which weighs the same, however many samples.

        A benchmark of 1,000 counting questions and 100 about depth is mostly about counting in `summary`, where each
        sample weighs the same (`micro_value`), and half about depth here. `weights` says so in each row.

        Args:
            column: a key of `sample.metadata`; samples without it are left out, and counted in `note`.

        Returns:
            One row per condition × metric; see `MacroRow` for the columns. A category for which the metric is undefined
            is left out of that row, and named in `note`. Categories that share groups, such as one sample asked of
            several models, are allowed any dependence, which widens the interval.

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

        A number without an interval is not shown. What others wrote, such as names of conditions, is escaped.

        Args:
            model_name: as the metadata has it.
            dataset: the data set's id on the hub; for several, a mapping from the values of `by` to their ids.
            by: a key of `sample.metadata`, such as the `column` of `Report.concat`.
            metrics: what is shown.

        Returns:
            `text` and `data`, a `huggingface_hub.ModelCardData` with one `EvalResult` per data set, condition and
            metric. As text it is a whole card.

        Raises:
            KeyError: no sample has `by` in its metadata, or `dataset` has no id for one of its values.
            TypeError: of `by` and a mapping, one is given without the other.
            ValueError: two values have one id, which the metadata could not tell apart; or nothing has an interval.

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
        """Return what values of keys of the metadata occur together, each with the report on samples that have them.

        They are in the order of their texts, None for samples without a key last.
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
