"""Consistency with a counting judge, and with the rules."""

import math

import pytest
import torch

from vlmrobust.judges import RuleJudge
from vlmrobust.metrics import Consistency, Quadrant, default_metrics, quadrant_labels


def test_judge_runs_once_for_all_columns(plain_responses, stated_judge):
    asked = []
    judge, responses = stated_judge(asked=asked), plain_responses({"think": "says 1"}, {"think": "says 2"})
    for metric in default_metrics():
        if "judge" in type(metric).model_fields:
            metric.replace(judge=judge)(responses)
    quadrant_labels(responses, judge)
    assert asked == [2]
    # An equal judge is the same judge; another one, or other responses, are asked anew.
    Consistency(judge=stated_judge(asked=asked))(responses)
    assert asked == [2]
    Consistency(judge=stated_judge(asked=asked, name="another"))(responses)
    Consistency(judge=judge)(responses.select([1]))
    assert asked == [2, 2, 1]


def test_labels_name_the_quadrant(plain_responses, stated_judge):
    responses = plain_responses(
        {"think": "says 1", "answer": 1},
        {"think": "says 0", "answer": 0},
        {"think": "says 0", "answer": 1},
        {"think": "says 1", "answer": 0},
        {"think": "hm", "answer": 1},
        {"think": "", "answer": 1},
        {"think": "says 1", "answer": None, "status": "abstained"},
        {"think": "says 1", "answer": None, "status": "truncated"},
        {"answer": None, "status": "error"},
        {"answer": None, "status": "not_applicable"},
    )
    labels = quadrant_labels(responses, stated_judge())
    assert labels == [
        "consistent_correct",
        "consistent_incorrect",
        "inconsistent_correct",
        "inconsistent_incorrect",
        *["undefined"] * 4,
        None,
        None,
    ]
    for kind in labels[:4]:
        values = Quadrant(kind=kind, judge=stated_judge())(responses)
        expected = [float(label == kind) for label in labels[:4]] + [math.nan] * 6
        assert values.tolist() == pytest.approx(expected, nan_ok=True)


def test_unknown_quadrant_is_rejected():
    with pytest.raises(ValueError, match="consistent_correct"):
        Quadrant(kind="correct")


def test_the_rule_judge_is_the_default(plain_responses):
    assert isinstance(Consistency().judge, RuleJudge)
    responses = plain_responses(
        {"think": "So the answer is B.", "answer": 1},
        {"think": "So the answer is C.", "answer": 1},
        {"think": "I see a cube.", "answer": 1},
    )
    values = Consistency()(responses)
    assert values[:2].tolist() == [1.0, 0.0]
    assert values[2].isnan()
    assert quadrant_labels(responses) == ["consistent_correct", "inconsistent_correct", "undefined"]


def test_following_a_wrong_thought_is_consistent(plain_responses):
    responses = plain_responses({"think": "So the answer is A.", "answer": 0})
    assert Consistency()(responses).tolist() == [1.0]
    assert torch.equal(Quadrant(kind="consistent_incorrect")(responses), torch.ones(1))
