"""Metrics by object, by name and by the location of a custom class; recreated from saved settings."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import ConfigDict

from vlmrobust import Evaluator, Study, demo
from vlmrobust.judges import Panel, RuleJudge
from vlmrobust.metrics import (
    Accuracy,
    Consistency,
    CorrectProbability,
    ExpectedCalibrationError,
    LetterEntropy,
    Metric,
    Repetition,
    default_metrics,
)
from vlmrobust.metrics.catalogue import METRICS, PAPER_METRICS, metric_of, metrics_named, settings_of
from vlmrobust.perturbations import WrongThink
from vlmrobust.rl import RobustnessCallback
from vlmrobust.testing import FakeModel

OWN = """
import torch
from vlmrobust import Metric
from vlmrobust.metrics import Repetition


class Words(Metric):
    def per_sample(self, responses):
        return torch.tensor([float(len(text.split())) for text in responses.text])


class Needy(Words):
    words: tuple[str, ...]


class Abstract(Metric):
    pass


LONG = Repetition(n=5, name="long")
NUMBER = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def test_names_are_columns() -> None:
    assert [metric.column for metric in metrics_named(METRICS)] == list(METRICS)
    assert {metric.column for metric in default_metrics()} <= set(METRICS)
    assert set(PAPER_METRICS) <= set(METRICS)


def test_names_and_metrics_can_be_mixed(own: Path) -> None:
    found = metrics_named(
        ["letter_entropy", Repetition(n=4), f"{own}:Words", f"{own}:LONG", "vlmrobust.metrics:Accuracy"]
    )
    assert found[0] == LetterEntropy()
    assert [metric.column for metric in found] == ["letter_entropy", "repetition_4", "words", "long", "accuracy"]
    assert found[4] == Accuracy()
    assert metrics_named(["accuracy"], {"accuracy": Accuracy(name="mine")})[0].column == "mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("LetterEntropy", "got 'LetterEntropy'; did you mean 'letter_entropy'? Known are accuracy, "),
        ("zzz", "got 'zzz'; known are accuracy, "),
        ("", "got ''; known are accuracy, "),
        (
            "no_such_module:Words",
            "metric 'no_such_module:Words': expected a module 'no_such_module' that can be imported",
        ),
        ("{own}:Word", "expected a class 'Word' in {own}, found none"),
        ("{own}x.py:Words", "expected a Python file, found none at '{own}x.py'"),
        ("{own}:NUMBER", "expected a Metric or a PairedMetric there, got 3"),
        ("{own}:Needy", "expected a class that needs no settings, or a metric that is made there"),
        ("{own}:Abstract", "expected a class that needs no settings, or a metric that is made there"),
        ("vlmrobust.demo:", "expected module:Class or file.py:Class, got 'vlmrobust.demo:'"),
    ],
)
def test_unknown_metrics_are_rejected(name: str, message: str, own: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(message.format(own=own))):
        metrics_named([name.format(own=own)])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("accuracy", r"expected a list of metrics, got the text 'accuracy'; a list of one is \['accuracy'\]"),
        ([Accuracy], r"got the class Accuracy; write Accuracy\(\)"),
        ([3], "expected metrics, or their names, got int: 3"),
    ],
)
def test_invalid_lists_of_metrics_are_rejected(given: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        metrics_named(given)


@pytest.mark.parametrize(
    "make",
    [
        lambda metrics: Evaluator(FakeModel(), [WrongThink()], metrics),
        lambda metrics: RobustnessCallback([WrongThink()], demo.samples(2), metrics=metrics),
        lambda metrics: Study(
            models=[{"name": "m", "factory": "a:b"}], benchmarks=[{"name": "cv-bench"}], metrics=metrics
        ),
    ],
    ids=["Evaluator", "RobustnessCallback", "Study"],
)
def test_unknown_name_is_reported_before_any_request(make: Callable[[list[str]], object]) -> None:
    with pytest.raises(ValueError, match=r"got 'consistensy'; did you mean 'consistency'\? Known are accuracy, "):
        make(["accuracy", "consistensy"])


def test_evaluator_uses_named_metrics() -> None:
    assert Evaluator(FakeModel(), [], ["consistency"]).metrics == (Consistency(),)
    assert Evaluator(FakeModel(), []).metrics is None


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
