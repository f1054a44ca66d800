"""Write a report for a model's page on the Hugging Face hub: a section in Markdown, and metadata of the results."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..text import readable, unit_labels
from ..types import Responses
from .findings import Finding
from .formats import Table, block, inline, markdown_table, with_interval
from .overview import values_on_pairs
from .summary import SummaryRow

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

__all__ = ["Benchmark", "ModelCardSection", "card_section", "run_of"]

_TASK = "visual-question-answering"
_LEVEL = 0.95
_ARGUMENTS = (
    "condition", "carrier", "n", "errors", "level", "value_low", "value_high", "n_value", "paired_value", "base_value",
    "difference", "low", "high", "coverage", "noise_floor", "note",
)  # fmt: skip
"""What the metadata say of each result, besides facts about the run."""


@dataclass(frozen=True, slots=True)
class ModelCardSection:
    """A report's section and metadata for a model card; `str()` gives a complete card.

    Attributes:
        text: a section in Markdown.
        data: metadata with one result per data set, condition and metric, its `n` and interval in `metric_args`.
    """

    text: str
    data: "ModelCardData"

    def __str__(self) -> str:
        return f"---\n{self.data.to_yaml()}\n---\n\n{self.text}"


@dataclass(frozen=True, slots=True, eq=False)
class Benchmark:
    """Results on one data set.

    Attributes:
        name: for display.
        dataset: its id on the hub.
        rows: the summary.
        findings: the findings that the numbers support.
    """

    name: str
    dataset: str
    rows: Sequence[SummaryRow]
    findings: Sequence[Finding]


def card_section(
    model_name: str, benchmarks: Sequence[Benchmark], metrics: Sequence[str], run: Mapping[str, Any]
) -> ModelCardSection:
    """Return the section and the metadata of some benchmarks.

    Args:
        model_name: for the metadata.
        benchmarks: on different data sets.
        metrics: the metrics to show.
        run: facts about the run, from `run_of`.

    Raises:
        ValueError: none of the metrics has a value with an interval.
    """
    from huggingface_hub import ModelCardData

    results = [result for benchmark in benchmarks for result in _results(benchmark, metrics, run)]
    if not results:
        raise ValueError(f"expected a report in which one of {', '.join(metrics)} has an interval, got none")
    facts = ", ".join(f"{name} {value}" for name, value in run.items())
    parts = [
        "## Robustness to injected text",
        f"{block(model_name)}, measured with vlmrobust ({inline(facts)}). Every condition is compared with base on the "
        "samples that both have; brackets hold 95 % intervals. A change whose interval contains 0 is no finding.",
        *(part for benchmark in benchmarks for part in _section(benchmark, metrics)),
    ]
    return ModelCardSection("\n\n".join(parts) + "\n", ModelCardData(model_name=model_name, eval_results=results))


def run_of(responses: Responses, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts about the run as JSON values: version, number of draws, seed."""
    versions = manifest.get("versions")
    version = versions.get("vlmrobust") if isinstance(versions, Mapping) else None
    known = {"version": version, "draws": len(set(responses.draw.tolist())), "seed": manifest.get("seed")}
    return {name: value for name, value in known.items() if value is not None}


def _shown(benchmark: Benchmark, metrics: Sequence[str]) -> list[tuple[str, SummaryRow]]:
    """Return the rows that have an interval, each with the label of its condition."""
    labels = unit_labels((row.condition, row.carrier) for row in benchmark.rows)
    return [
        (labels[row.condition, row.carrier], row)
        for row in benchmark.rows
        if row.metric in metrics and not math.isnan(row.value_low)
    ]


def _results(benchmark: Benchmark, metrics: Sequence[str], run: Mapping[str, Any]) -> "Iterator[EvalResult]":
    from huggingface_hub import EvalResult

    for label, row in _shown(benchmark, metrics):
        values = asdict(row) | {"level": _LEVEL}
        args = {name: values[name] for name in _ARGUMENTS} | dict(run)
        yield EvalResult(
            task_type=_TASK,
            dataset_type=benchmark.dataset,
            dataset_name=benchmark.name,
            metric_type=row.metric,
            metric_name=f"{_named(row.metric)} under {label}",
            metric_value=row.value,
            metric_args={name: value for name, value in args.items() if _is_known(value)},
        )


def _is_known(value: object) -> bool:
    return value is not None and value != "" and not (isinstance(value, float) and math.isnan(value))


def _named(metric: str) -> str:
    return readable(metric) + (" (judged)" if "consisten" in metric else "")


def _section(benchmark: Benchmark, metrics: Sequence[str]) -> Iterator[str]:
    yield f"### {inline(benchmark.name)}"
    under_base = {row.metric: asdict(row) for row in benchmark.rows if row.condition == "base"}
    rows = tuple(
        (
            label,
            _named(row.metric),
            with_interval(row.value, row.value_low, row.value_high, digits=3),
            "–" if math.isnan(row.low) else with_interval(row.difference, row.low, row.high, digits=3, sign="+"),
            "–" if math.isnan(row.noise_floor) else f"{row.noise_floor:.3f}",
            "; ".join(filter(None, (str(row.n_value), values_on_pairs(asdict(row), under_base.get(row.metric), 3)))),
            str(row.errors),
        )
        for label, row in _shown(benchmark, metrics)
    )
    header = ("condition", "metric", "value [95 %]", "change from base [95 %]", "noise floor", "n", "errors")
    yield markdown_table(Table(header, rows))
    for title, is_limit in (("In words:", False), ("What can't be concluded:", True)):
        texts = [finding.text for finding in benchmark.findings if finding.is_limit is is_limit]
        if texts:
            yield "\n".join([title, "", *(f"- {block(text)}" for text in texts)])
