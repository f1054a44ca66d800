"""Settings of metrics in saved columns, and metrics recreated from them."""

import json

import pytest
import torch
from pydantic import ConfigDict

from vlmrobust.judges import Panel, RuleJudge
from vlmrobust.metrics import Accuracy, Consistency, CorrectProbability, ExpectedCalibrationError, Metric
from vlmrobust.metrics.catalogue import METRICS
from vlmrobust.metrics.settings import metric_of, settings_of


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_library_metrics_are_recreated_from_settings(metric):
    said = json.loads(json.dumps(settings_of(metric)))
    assert metric_of(metric.column, said) == metric


def test_settings_and_names_are_restored():
    metric = ExpectedCalibrationError(name="ece_5", bins=5)
    again = metric_of("ece_5", settings_of(metric))
    assert (again, again.column) == (metric, "ece_5")


class Own(Metric):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    words: tuple[str, ...] = ("so",)
    limit: float = float("inf")
    embedding: object = None

    def per_sample(self, responses):
        return torch.zeros(len(responses))


def test_custom_metric_has_settings_but_is_not_recreated():
    said = settings_of(Own(embedding=torch.nn.Identity()))
    assert said["class"] == "Own"
    assert (said["words"], said["limit"]) == (["so"], "Infinity")
    assert "Identity" in said["embedding"]
    json.dumps(said, allow_nan=False)
    assert metric_of("own", said) is None


class Accurate(Accuracy):
    """Of the same fields as the library's."""


@pytest.mark.parametrize(
    "said",
    [
        {"class": "os.system"},
        {"class": "vlmrobust.default_metrics"},
        {"class": "vlmrobust.BaseMetric"},
        {"class": "vlmrobust.Accuracy", "unknown": 1},
        {"class": "vlmrobust.Repetition", "n": "many"},
        settings_of(Accurate()),
        settings_of(Consistency(judge=RuleJudge(name="mine"))),
        settings_of(Consistency(judge=RuleJudge(min_contradiction=0.5))),
        settings_of(Consistency(judge=Panel(RuleJudge(), RuleJudge(name="other")))),
        {},
    ],
    ids=str,
)
def test_ambiguous_settings_are_not_recreated(said):
    assert metric_of("any", said) is None


def test_newer_fields_get_their_defaults():
    said = {"class": "vlmrobust.CorrectProbability", "with_added": True}
    assert metric_of("p", said) == CorrectProbability(name="p", with_added=True)
