"""What a report holds, as plain values: what it is made of, and what is in its file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..judges import RuleJudge
from ..metrics import JudgedMetric
from ..types import Responses
from .columns import Column
from .summary import SummaryRow

__all__ = ["Contents", "Key", "ReportData", "judge_of", "keys_of", "with_judge"]

Key = tuple[str, str, int]


@dataclass(frozen=True, slots=True, eq=False)
class ReportData:
    """A report as values.

    Attributes:
        responses: all of them.
        columns: their metrics.
        summary: of them, against base.
        seed: keys the bootstrap.
        manifest: what the run was begun with; empty without one.
    """

    responses: Responses
    columns: Sequence[Column]
    summary: Sequence[SummaryRow]
    seed: int
    manifest: Mapping[str, Any]

    @property
    def judge(self) -> dict[str, Any]:
        """The identity of the judge whose verdicts `consistency` holds."""
        return judge_of(self.columns, self.manifest)


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """What a file of a report holds, whether of lines or of columns.

    Attributes:
        responses: all of them.
        scores, failures: by metric, values, and by position why there is none.
        head: the rest: how many responses there are, seed, manifest, summary, and what is to be known of each metric.
    """

    responses: Responses
    scores: Mapping[str, NDArray[np.float64]]
    failures: Mapping[str, Mapping[int, str]]
    head: Mapping[str, Any]


def keys_of(responses: Responses) -> Iterator[Key]:
    """Yield the keys of responses."""
    return zip(responses.sample_id, responses.condition, responses.draw.tolist(), strict=True)


def judge_of(columns: Sequence[Column], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the identity of the judge whose verdicts `consistency` holds: of the metric, else as the manifest says."""
    metric = next((column.metric for column in columns if column.name == "consistency"), None)
    if isinstance(metric, JudgedMetric):
        return metric.judge.identity()
    return dict(manifest.get("judge") or RuleJudge().identity())


def with_judge(manifest: Mapping[str, Any], columns: Sequence[Column]) -> dict[str, Any]:
    """Return a manifest with the judge, unless that is the default one: columns that are loaded name none."""
    judge = judge_of(columns, manifest)
    return dict(manifest) | ({} if judge == RuleJudge().identity() else {"judge": judge})
