"""List all metrics by column name, resolve names, save the settings of metrics as JSON values, and recreate them."""

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ..functional import QUADRANTS
from ..jsonl import json_safe
from ..judges import Judge
from ..naming import made_at, unknown_name
from . import accuracy, consistency, letters, thoughts
from .base import BaseMetric, Metric, PairedMetric

__all__ = ["METRICS", "PAPER_METRICS", "default_metrics", "metric_of", "metrics_named", "settings_of"]

PAPER_METRICS = ("accuracy", "correct_probability", "letter_entropy", "consistency")
"""The columns of short tables: the measures of arXiv:2602.12506."""


def default_metrics() -> tuple[Metric | PairedMetric, ...]:
    """Return the default metrics of a report, including those that are needed to interpret each other.

    They are the measures of arXiv:2602.12506, and further inexpensive ones. Proper scores, calibration, divergence,
    repetition and acknowledgement must be requested by name.

    Example:
        >>> [metric.column for metric in default_metrics()][:3]
        ['accuracy', 'unparsed_rate', 'truncated_rate']
    """
    return (
        accuracy.Accuracy(),
        accuracy.UnparsedRate(),
        accuracy.TruncatedRate(),
        accuracy.AbstainRate(),
        accuracy.FollowRate(),
        accuracy.FlipRate(),
        accuracy.Harmed(),
        accuracy.Helped(),
        accuracy.RobustAccuracy(),
        letters.CorrectProbability(),
        letters.CorrectProbability(with_added=True),
        letters.DistractorProbability(),
        letters.LetterEntropy(),
        letters.LetterEntropy(with_added=True),
        letters.RelativeLetterEntropy(),
        letters.LetterMass(),
        thoughts.TokenEntropy(),
        thoughts.FormatRate(),
        thoughts.ThoughtLength(),
        consistency.Consistency(),
        consistency.ConsistencyCoverage(),
        consistency.ConsistencyGivenCorrect(),
        *(consistency.Quadrant(kind=kind) for kind in QUADRANTS),
    )


METRICS: dict[str, Metric | PairedMetric] = {
    metric.column: metric
    for metric in (
        *default_metrics(),
        letters.AreaUnderRiskCoverage(),
        letters.BrierScore(),
        thoughts.ConflictAcknowledgement(),
        consistency.ConsistentAccuracy(),
        letters.ExpectedCalibrationError(),
        accuracy.LetterDivergence(),
        letters.NegativeLogLikelihood(),
        thoughts.Repetition(),
    )
}


def metrics_named(
    metrics: Iterable[Metric | PairedMetric | str],
    own: Mapping[str, Metric | PairedMetric] | None = None,
    others: Collection[str] = (),
) -> tuple[Metric | PairedMetric, ...]:
    """Return metrics given as objects, by column name, or by the location of a custom class.

    Args:
        metrics: metrics; column names; `module:Class` or `file.py:Class`, which imports the module and runs its code.
        own: metrics by name that take precedence over the library's, such as those of a report.
        others: further known names, for the error message.

    Raises:
        TypeError: an item is something else, or a text was given instead of a list.
        ValueError: a name is unknown (the message suggests the nearest, and lists all), or the class does not exist.

    Example:
        >>> named = metrics_named(["accuracy", letters.LetterEntropy(), "vlmrobust.metrics:BrierScore"])
        >>> [metric.column for metric in named]
        ['accuracy', 'letter_entropy', 'brier_score']
        >>> metrics_named(["brier_scores"])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: expected the name of a metric, got 'brier_scores'; did you mean 'brier_score'? Known are accuracy...
    """
    if isinstance(metrics, str):
        raise TypeError(f"expected a list of metrics, got the text {metrics!r}; a list of one is [{metrics!r}]")
    return tuple(_metric(given, own or {}, others) for given in metrics)


def _metric(
    given: Metric | PairedMetric | str, own: Mapping[str, Metric | PairedMetric], others: Collection[str]
) -> Metric | PairedMetric:
    if isinstance(given, Metric | PairedMetric):
        return given
    if isinstance(given, type) and issubclass(given, BaseMetric):
        raise TypeError(f"expected metrics, or their names, got the class {given.__name__}; write {given.__name__}()")
    if not isinstance(given, str):
        raise TypeError(f"expected metrics, or their names, got {type(given).__name__}: {given!r:.100}")
    known = {**METRICS, **own}
    if given in known:
        return known[given]
    if ":" in given:
        own_metric: Metric | PairedMetric = made_at(given, (Metric, PairedMetric), "metric")
        return own_metric
    names = list(dict.fromkeys((*others, *known)))
    raise ValueError(
        f"expected the name of a metric, {unknown_name(given, names)}; one of your own is module:Class or file.py:Class"
    )


_OURS = "vlmrobust."


def settings_of(metric: BaseMetric) -> dict[str, Any]:
    """Return class and fields of a metric as JSON values; a judge is stored as its identity.

    A class of the library is stored without its module, so that it may move; a field that is not JSON-serialisable is
    stored as its class name.

    Example:
        >>> from vlmrobust.metrics import Repetition
        >>> settings_of(Repetition(n=4))
        {'class': 'vlmrobust.Repetition', 'n': 4}
    """
    kind = type(metric)
    settings: dict[str, Any] = {"class": f"{_OURS if kind.__module__.startswith(_OURS) else ''}{kind.__qualname__}"}
    for field in kind.model_fields:
        if field != "name":  # stored as the column's name
            settings[field] = _plain(metric, field)
    return settings


def metric_of(name: str, settings: Mapping[str, Any]) -> Metric | PairedMetric | None:
    """Recreate the metric of a column from its name and settings; None if that is not possible.

    Only metrics of this library that need no model are recreated; nothing that a file names is imported.

    Example:
        >>> metric_of("loops", {"class": "vlmrobust.Repetition", "n": 4})
        Repetition(name='loops', n=4)
    """
    own = {f"{_OURS}{type(metric).__qualname__}": type(metric) for metric in METRICS.values()}
    kind = own.get(str(settings.get("class")))
    if kind is None:
        return None
    fields = {field: value for field, value in settings.items() if field not in ("class", "judge")}
    try:
        metric = kind.model_validate(fields)
        metric = metric if metric.column == name else metric.replace(name=name)
    except (TypeError, ValueError):
        return None
    restored = settings_of(metric)  # newer fields have their defaults
    return metric if {field: restored.get(field) for field in settings} == settings else None


def _plain(metric: BaseMetric, field: str) -> Any:
    value = getattr(metric, field)
    if isinstance(value, Judge):
        named = {"name": value.name} if value.name else {}
        return json.loads(json.dumps(json_safe(named | value.identity()), default=str, sort_keys=True))
    try:
        return json_safe(metric.model_dump(mode="json", include={field})[field])
    except (TypeError, ValueError):
        return type(value).__qualname__
