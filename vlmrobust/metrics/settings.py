"""How a metric was set, as JSON values: what a saved column says of itself, and what it can be measured again with."""

import json
from collections.abc import Mapping
from typing import Any

from ..jsonl import json_safe
from ..judges import Judge
from .base import BaseMetric, Metric, PairedMetric

__all__ = ["metric_of", "settings_of"]

_OURS = "vlmrobust."


def settings_of(metric: BaseMetric) -> dict[str, Any]:
    """Return class and fields of a metric as JSON values; a judge is its identity.

    A library's class goes by its name alone, so that it may move to another module; of a field that JSON cannot hold,
    its class is said.

    Example:
        >>> from vlmrobust.metrics import Repetition
        >>> settings_of(Repetition(n=4))
        {'class': 'vlmrobust.Repetition', 'n': 4}
    """
    kind = type(metric)
    settings: dict[str, Any] = {"class": f"{_OURS if _is_ours(kind) else ''}{kind.__qualname__}"}
    for field in kind.model_fields:
        if field != "name":  # it is the column's
            settings[field] = _plain(metric, field)
    return settings


def metric_of(name: str, settings: Mapping[str, Any]) -> Metric | PairedMetric | None:
    """Return the metric of a column, by its name and settings; None where only its author can make it.

    Made are this library's, none of which asks a model: nothing that a file names is imported.

    Example:
        >>> metric_of("loops", {"class": "vlmrobust.Repetition", "n": 4})
        Repetition(name='loops', n=4)
    """
    from .. import metrics

    kind = getattr(metrics, str(settings.get("class")).removeprefix(_OURS), None)
    if not (isinstance(kind, type) and issubclass(kind, Metric | PairedMetric) and _is_ours(kind)):
        return None
    fields = {field: value for field, value in settings.items() if field not in ("class", "judge")}
    try:
        made = kind.model_validate(fields)
        named = made if made.column == name else made.replace(name=name)
    except (TypeError, ValueError):
        return None
    now = settings_of(named)  # of fields that the metric has got since, the default is what it was before
    return named if {field: now.get(field) for field in settings} == settings else None


def _is_ours(kind: type) -> bool:
    return kind.__module__.startswith(_OURS)


def _plain(metric: BaseMetric, field: str) -> Any:
    value = getattr(metric, field)
    if isinstance(value, Judge):
        said = {"name": value.name} if value.name else {}
        return json.loads(json.dumps(json_safe(said | value.identity()), default=str, sort_keys=True))
    try:
        return json_safe(metric.model_dump(mode="json", include={field})[field])
    except (TypeError, ValueError):
        return type(value).__qualname__
