"""Judges by name, and what a report says once another judge has read its thoughts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ..functional import fleiss_kappa, strict_agreement
from ..judges import Judge, Panel, RuleJudge
from ..metrics import JudgedMetric, Metric
from ..metrics.catalogue import metrics_named
from ..named_judges import judge_named, judged_metrics
from ..naming import unknown_name
from ..report import Report
from ..report.columns import metric_errors
from ..report.contents import keys_of
from .measuring import measured

__all__ = ["JUDGED", "Agreement", "agreement", "is_outdated", "judges_named", "rejudged"]

JUDGED = tuple(metric.column for metric in judged_metrics(RuleJudge()))
"""The metrics that depend on the judge."""


def judges_named(
    names: Sequence[str],
    rule: Literal["majority", "strict", "first_sure"],
    *,
    base_url: str | None,
    api_key_env: str | None,
    dtype: str,
    device: str | None,
    engine: Mapping[str, Any] | None = None,
    report: Report | None = None,
) -> Judge:
    """Return the judge of some names, several being a panel.

    Args:
        names: `rules`, `self`, `hf:NAME` (a checkpoint), `vllm:NAME` (one on vLLM), `openai:NAME` (a model behind a
            server).
        rule: how a panel decides.
        base_url: the server's address.
        api_key_env: the environment variable that holds the server's key.
        dtype: of checkpoints.
        device: of checkpoints that transformers computes.
        engine: options of vLLM.
        report: whose model `self` is, on the engine that computed its answers.

    Raises:
        ValueError: a name is of none of these forms, or there are options of vLLM and nobody to take them.
    """
    model = (report.manifest.get("model") or {}) if report else {}
    is_on_vllm = str(model.get("class", "")).endswith(".VLLMModel")
    itself = None
    if {"weights", "all_weights"} & model.keys():  # what a server runs cannot be loaded
        itself = f"{'vllm' if is_on_vllm else 'hf'}:{model.get('name')}"
    own = dict(model.get("engine", {})) if is_on_vllm else {}
    called = [itself if name == "self" and itself else name for name in names]
    options = dict(engine or {})
    if options and not any(name.startswith("vllm:") for name in called):
        raise ValueError(f"--engine-option: expected it beside a judge on vLLM, got it beside {', '.join(names)}")
    judges = []
    for name, loaded in zip(names, called, strict=True):
        places: dict[str, Any] = {"base_url": base_url, "api_key_env": api_key_env, "dtype": dtype, "device": device}
        if loaded.startswith("vllm:"):
            places |= {"device": None, "options": (own if name == "self" else {}) | options}
        judges.append(judge_named(name, **places, itself=itself, where="--judge"))
    return judges[0] if len(judges) == 1 else Panel(*judges, rule=rule)


def rejudged(report: Report, judge: Judge, verdicts: Path, names: Sequence[str] = ()) -> tuple[Report, list[str]]:
    """Return a report whose thoughts are judged by another judge; all that does not depend on it stays as it was.

    Args:
        report: of the thoughts.
        judge: who reads them.
        verdicts: the folder in which its verdicts are kept.
        names: of metrics that depend on the judge, and are measured though the report lacks them.

    Returns:
        The report, and the columns of the metrics that are named.

    Raises:
        ValueError: a metric does not depend on a judge, or is not known.
    """
    ours = {metric.column: metric for metric in judged_metrics(judge)}
    wanted: dict[str, Metric] = {
        name: metric for name, metric in ours.items() if name in report.metrics or name == "consistency"
    }
    columns = []
    for name, metric in zip(names, metrics_named(names, ours), strict=True):
        if not isinstance(metric, JudgedMetric):
            raise ValueError(f"--metrics: expected metrics that depend on the judge, {unknown_name(name, ours)}")
        wanted[metric.column] = metric.replace(judge=judge)
        columns.append(metric.column)
    again = measured(report, list(wanted.values()), verdicts)
    again.manifest["judge"] = judge.identity()
    return again, columns


def is_outdated(judged: Report, run: Report) -> bool:
    """Return whether a judge failed on some thoughts of a report, or the run has got responses or metrics since."""
    known = set(keys_of(judged.responses))
    has_grown = any(key not in known for key in keys_of(run.responses)) or not set(run.metrics) <= set(judged.metrics)
    return has_grown or any(metric_errors(judged._columns, len(judged)))


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two judges say the same of a report's responses.

    Attributes:
        answered: number of answered responses.
        old_verdicts, new_verdicts: of how many of them each says whether thought and answer are consistent.
        both: of how many both do; `same` and `kappa` are on these.
        same: the share of which they say the same, in [0, 1].
        kappa: Fleiss' κ, at most 1.
        changed: sample, condition and draw of those of which they do not.
    """

    answered: int
    old_verdicts: int
    new_verdicts: int
    both: int
    same: float
    kappa: float
    changed: tuple[tuple[str, str, int], ...]


def agreement(old: Report, new: Report) -> Agreement:
    """Return how far the verdicts of two reports on the same responses agree."""
    missing = [float("nan")] * len(old)
    before, after = (
        torch.tensor(list(report.frame.get("consistency", missing)), dtype=torch.float64) for report in (old, new)
    )
    ratings = torch.stack([before, after], dim=1)
    both = ~ratings.isnan().any(dim=1)
    differ = (both & (before != after)).nonzero()[:, 0].tolist()
    responses = new.responses
    return Agreement(
        answered=int(responses.has_status("answered").sum()),
        old_verdicts=int((~before.isnan()).sum()),
        new_verdicts=int((~after.isnan()).sum()),
        both=int(both.sum()),
        same=strict_agreement(ratings),
        kappa=fleiss_kappa(ratings),
        changed=tuple((responses.sample_id[row], responses.condition[row], int(responses.draw[row])) for row in differ),
    )
