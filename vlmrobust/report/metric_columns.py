"""Hold a report's columns (prompts, answers and one column per metric), and make tables of them."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_type_hints

import numpy as np
import torch
from numpy.typing import NDArray

from ..functional import letter_probabilities
from ..functional.intervals import Outcome
from ..jsonl import json_safe
from ..metrics import JudgedMetric, Metric, PairedMetric
from ..metrics.catalogue import metrics_named, settings_of
from ..types import Responses

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FRAME_COLUMNS",
    "Column",
    "base_rows",
    "derived_column",
    "draws_by_sample",
    "frame_of",
    "frame_without_texts",
    "measured_column",
    "metric_errors",
    "score",
    "table_of",
]


_CHUNK = 100_000  # responses to pair at once

FRAME_COLUMNS = (
    "sample_id",
    "condition",
    "draw",
    "group",
    "target",
    "answer",
    "distractor",
    "asserted",
    "status",
    "readout",
    "carrier",
    "text",
    "think",
    "error",
    "metric_error",
    "question",
    "options",
)
_SAMPLE_COLUMN = re.compile(r"probability_\d+|metadata\..*", re.DOTALL)  # columns that depend on the samples
_TEXTS = frozenset({"group", "text", "think", "error", "metric_error", "question", "options"})
_RESPONSES_FIELD = {"answer": "choice"}  # columns with another name in `Responses`


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One metric's values.

    Attributes:
        name: the column's name.
        scores: `(N,)` float64, NaN = undefined.
        higher_is_better: None = neither.
        is_paired: the values compare a response with the one under base.
        reads_letters: the values come from letter probabilities, which are comparable within one read-out only.
        outcome: the kind of values, see `functional.mean_interval`.
        is_mean: the number for a condition is the mean over its samples.
        metric: None in a loaded report, except for the follow rate, which has no settings but its name.
        failures: by position, why the metric failed on a response.
        reads_asserted: the values depend on what the text asserts.
        settings: of the metric, see `metrics.catalogue.settings_of`; None in a report from an older file without them.
    """

    name: str
    scores: NDArray[np.float64]
    higher_is_better: bool | None
    is_paired: bool
    reads_letters: bool
    is_mean: bool
    metric: Metric | PairedMetric | None
    outcome: Outcome = "mean"
    failures: Mapping[int, str] = field(default_factory=dict)
    reads_asserted: bool = False
    settings: Mapping[str, Any] | None = None

    def taken(self, rows: Sequence[int]) -> Self:
        """Select rows, in the given order."""
        failures = {place: self.failures[row] for place, row in enumerate(rows) if row in self.failures}
        return replace(self, scores=self.scores[np.asarray(rows, dtype=np.int64)], failures=failures)


def derived_column(
    name: str, scores: NDArray[np.float64], outcome: Outcome, *, higher_is_better: bool | None = True
) -> Column:
    """Return a column of values that come from elsewhere than a metric, such as averages of several responses."""
    return Column(
        name, scores, higher_is_better, is_paired=False, reads_letters=False, is_mean=True, metric=None, outcome=outcome
    )


def score(
    responses: Responses,
    metrics: Sequence[Metric | PairedMetric | str],
    verdicts: Path | None = None,
    own: Mapping[str, Metric | PairedMetric] | None = None,
) -> tuple[Column, ...]:
    """Apply metrics to responses.

    Args:
        responses: all of them.
        metrics: metrics or their names.
        verdicts: the folder in which to store judges' verdicts; None = do not store them.
        own: metrics by name, which take precedence over the library's.

    Raises:
        TypeError: an item is not a metric.
        ValueError: the name of a metric is unknown; two metrics, or a metric and a column of the frame, have one name.
    """
    names = list(FRAME_COLUMNS)
    columns = []
    for metric in metrics_named(metrics, own):
        if metric.column in names or _SAMPLE_COLUMN.fullmatch(metric.column):
            raise ValueError(
                f"expected metrics with names that differ from each other and from {', '.join(FRAME_COLUMNS)}, "
                f"probability_0, … and metadata.…; got {metric.column!r} twice; set 'name' on one of them"
            )
        names.append(metric.column)
        stored = metric if verdicts is None or not isinstance(metric, JudgedMetric) else metric.keeping(verdicts)
        columns.append(replace(measured_column(responses, stored), metric=metric))
    return tuple(columns)


def measured_column(responses: Responses, metric: Metric | PairedMetric) -> Column:
    """Apply one metric to responses."""
    # A metric may modify its input.
    values = metric(responses.copied()) if isinstance(metric, Metric) else _paired_values(responses, metric)
    return Column(
        name=metric.column,
        scores=values.double().numpy(),
        higher_is_better=metric.higher_is_better,
        is_paired=isinstance(metric, PairedMetric),
        reads_letters=metric.reads_letters,
        is_mean=metric.is_mean,
        metric=metric,
        outcome="rate" if metric.is_rate else "mean",
        failures=metric.failures(responses.copied()),
        reads_asserted=metric.reads_asserted,
        settings=settings_of(metric),
    )


def _paired_values(responses: Responses, metric: PairedMetric) -> torch.Tensor:
    """Apply a paired metric to each response and the base response of the same sample and draw.

    Under base itself, every draw is compared with every other draw of its sample: any difference is due to chance.
    """
    draws, base = responses.draw.tolist(), base_rows(responses)
    values = _between_draws(responses, metric, base)
    for begin in range(0, len(responses), _CHUNK):
        rows = range(begin, min(begin + _CHUNK, len(responses)))
        found = ((base.get((responses.sample_id[row], draws[row])), row) for row in rows)
        pairs = [(first, row) for first, row in found if first is not None and responses.condition[row] != "base"]
        if pairs:
            before, after = (list(side) for side in zip(*pairs, strict=True))
            values[after] = metric(responses.select(before), responses.select(after)).double()
    return values


def base_rows(responses: Responses) -> dict[tuple[str, int], int]:
    """Return the positions of the responses under base by sample and draw."""
    keys = zip(responses.sample_id, responses.draw.tolist(), strict=True)
    return {key: row for row, key in enumerate(keys) if responses.condition[row] == "base"}


def draws_by_sample(rows: Mapping[tuple[str, int], int]) -> list[list[int]]:
    """Return each sample's rows in the order of the draws."""
    of_sample: dict[str, list[int]] = {}
    for (sample, _), row in sorted(rows.items()):
        of_sample.setdefault(sample, []).append(row)
    return list(of_sample.values())


def _between_draws(responses: Responses, metric: PairedMetric, base: Mapping[tuple[str, int], int]) -> torch.Tensor:
    """Return for each base response the mean of the metric over the other draws of its sample, NaN elsewhere.

    Splitting the draws into halves would give the same on average, but from k/2 pairs instead of all k (k − 1).
    """
    rows_of_sample = draws_by_sample(base)
    sums, counts = torch.zeros(2, len(responses), dtype=torch.float64)
    for shift in range(1, max(map(len, rows_of_sample), default=0)):
        pairs = [
            (rows[place - shift], row) for rows in rows_of_sample if len(rows) > shift for place, row in enumerate(rows)
        ]
        before, after = (list(side) for side in zip(*pairs, strict=True))
        found = metric(responses.select(before), responses.select(after)).double()
        sums[after] += found.nan_to_num()
        counts[after] += (~found.isnan()).double()
    means: torch.Tensor = sums / counts
    return means


def frame_of(responses: Responses, columns: Sequence[Column]) -> "pd.DataFrame":
    """Return one row per response: see `Report.frame`."""
    import pandas as pd

    arrays = {name: _array_of(responses, name) for name in FRAME_COLUMNS if name not in ("metric_error", "options")}
    arrays["metric_error"] = pd.array(metric_errors(columns, len(responses)), dtype="string")
    arrays["options"] = pd.Series(_own_options(responses), dtype=object)
    measured = {column.name: column.scores for column in columns}
    rest = _probabilities(responses) | _metadata(responses.metadata)
    # In an older report, a metric may have the name of a column that was added later: keep the metric.
    later = {name: values for name, values in rest.items() if name not in measured}
    return pd.DataFrame({name: arrays[name] for name in FRAME_COLUMNS} | measured | later)


def frame_without_texts(responses: Responses, columns: Sequence[Column]) -> "pd.DataFrame":
    """Return the columns of the frame that a plot needs; they share memory with the report and must not be modified."""
    import pandas as pd

    arrays = {name: _array_of(responses, name) for name in FRAME_COLUMNS if name not in _TEXTS}
    return pd.DataFrame(arrays | {column.name: column.scores for column in columns}, copy=False)


def metric_errors(columns: Sequence[Column], count: int) -> list[str | None]:
    """Return why a metric failed, by response; None where none failed."""
    found: list[str | None] = [None] * count
    for column in reversed(columns):
        for row, message in column.failures.items():
            found[row] = message
    return found


def _array_of(responses: Responses, name: str) -> Any:
    import pandas as pd

    values = getattr(responses, _RESPONSES_FIELD.get(name, name))
    if isinstance(values, torch.Tensor):
        numbers = values.numpy()
        return pd.arrays.IntegerArray(numbers.copy(), mask=numbers < 0)
    # Many rows share one question object: Python strings refer to it, Arrow would copy it.
    return pd.array(list(values), dtype="string[python]" if name == "question" else "string")


def _own_options(responses: Responses) -> list[tuple[str | None, ...]]:
    """Return the options' texts as shown, in the samples' order, added ones last; None for one that is not shown."""
    known: dict[tuple[tuple[str, ...], tuple[int | None, ...], int], tuple[str | None, ...]] = {}
    found = []
    for key in zip(responses.options, responses.order, responses.option_count.tolist(), strict=True):
        if key not in known:
            options, order, count = key
            own = dict(zip(order, options, strict=True))
            added = [option for option, index in zip(options, order, strict=True) if index is None]
            known[key] = (*map(own.get, range(count)), *added)
        found.append(known[key])
    return found


def _probabilities(responses: Responses) -> dict[str, Any]:
    """Return the letters' probabilities by option index, where letter metrics are defined."""
    is_read = responses.has_status("answered", "abstained")
    found = letter_probabilities(responses.option_logprobs)
    return {
        f"probability_{index}": torch.where(is_read & (index < responses.option_count), of_option, np.nan).numpy()
        for index, of_option in enumerate(found.unbind(dim=1))
    }


def _metadata(metadata: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a column per key; each value is converted once for all rows of a sample."""
    distinct: dict[int, tuple[int, Mapping[str, Any]]] = {}
    rows = np.fromiter((distinct.setdefault(id(one), (len(distinct), one))[0] for one in metadata), np.int64)
    samples = [one for _, one in distinct.values()]
    keys = dict.fromkeys(key for one in samples for key in one)
    return {f"metadata.{key}": _typed([one.get(key) for one in samples]).take(rows) for key in keys}


def _typed(values: Sequence[Any]) -> Any:
    """Return values as an array of their type, with NA for None; mixed or nested values become texts."""
    import pandas as pd

    kinds = {type(value) for value in values if value is not None}
    dtypes = {(bool,): "boolean", (int,): "Int64", (float,): "Float64", (float, int): "Float64"}
    dtype = dtypes.get(tuple(sorted(kinds, key=lambda kind: kind.__name__)))
    if dtype is not None:
        try:
            return pd.array(list(values), dtype=dtype)  # type: ignore[call-overload]
        except OverflowError:  # an integer of more than 64 bits
            pass
    return pd.array([None if value is None else _text(value) for value in values], dtype="string[python]")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    is_nested = isinstance(value, Iterable)
    return json.dumps(json_safe(value), ensure_ascii=False, default=str) if is_nested else str(value)


_DTYPES = {int: "int64", float: "float64", bool: "bool"}


def table_of(kind: type, rows: Sequence[Any]) -> "pd.DataFrame":
    """Return a table of dataclass instances; text is "string" with NA for None, and an empty table has columns too.

    Fields of other types than `int`, `float` and `bool` are texts.
    """
    import pandas as pd

    types = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    table = pd.DataFrame([asdict(row) for row in rows], columns=names)
    return table.astype({name: _DTYPES.get(types[name], "string") for name in names})
