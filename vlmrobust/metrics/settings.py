"""Convert the settings of a metric to JSON values for saved columns, and recreate metrics from them."""

import json
from collections.abc import Mapping
from typing import Any

from ..jsonl import json_safe
from ..judges import Judge
from .base import BaseMetric, Metric, PairedMetric

__all__ = ["metric_of", "settings_of"]

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
    settings: dict[str, Any] = {"class": f"{_OURS if _is_ours(kind) else ''}{kind.__qualname__}"}
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
    from .. import metrics

    kind = getattr(metrics, str(settings.get("class")).removeprefix(_OURS), None)
    if not (isinstance(kind, type) and issubclass(kind, Metric | PairedMetric) and _is_ours(kind)):
        return None
    fields = {field: value for field, value in settings.items() if field not in ("class", "judge")}
    try:
        metric = kind.model_validate(fields)
        metric = metric if metric.column == name else metric.replace(name=name)
    except (TypeError, ValueError):
        return None
    restored = settings_of(metric)  # newer fields have their defaults
    return metric if {field: restored.get(field) for field in settings} == settings else None


def _is_ours(kind: type) -> bool:
    return kind.__module__.startswith(_OURS)


def _plain(metric: BaseMetric, field: str) -> Any:
    value = getattr(metric, field)
    if isinstance(value, Judge):
        named = {"name": value.name} if value.name else {}
        return json.loads(json.dumps(json_safe(named | value.identity()), default=str, sort_keys=True))
    try:
        return json_safe(metric.model_dump(mode="json", include={field})[field])
    except (TypeError, ValueError):
        return type(value).__qualname__
