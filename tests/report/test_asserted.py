"""The follow rate where a text asserts another option than the distractor (0): both sides are about that option (2)."""

import math

import pytest

from vlmrobust import Metric, Report
from vlmrobust.functional import tango_interval
from vlmrobust.metrics import FollowRate


def told(pair, asserted):
    prompt, response = pair
    return prompt.replace(asserted=asserted), response


def report(pairs, metrics=None):
    return Report.from_responses(*zip(*pairs, strict=True), metrics or [FollowRate()])


def row(table, condition, metric="follow_rate"):
    [found] = table[(table["condition"] == condition) & (table["metric"] == metric)].to_dict("records")
    return found


@pytest.fixture
def unmoved(answer):
    """The text asserts option 2, which 30 of 60 answer with and without it."""
    pairs = [answer(f"s{n}", "base", 2 if n < 30 else 1) for n in range(60)]
    return report([*pairs, *(told(answer(f"s{n}", "x", 2 if n < 30 else 1), 2) for n in range(60))])


def test_a_text_that_moves_no_answer_adds_nothing(unmoved):
    found = row(unmoved.summary, "x")
    assert (found["value"], found["paired_value"], found["base_value"], found["difference"]) == (0.5, 0.5, 0.5, 0.0)
    assert (found["low"], found["high"], found["p"]) == pytest.approx((*tango_interval(0, 0, 60), 1.0))
    assert row(unmoved.summary, "base")["value"] == 0.0  # of the distractor, which nobody answers
    assert "x: follow rate on 60 pairs: 0.50, base 0.50" in unmoved._overview().notes


def test_it_stays_so_in_every_comparison_and_in_a_loaded_report(unmoved, tmp_path):
    loaded = Report.load(unmoved.save(tmp_path / "report.jsonl"))
    for one in (unmoved, loaded):
        assert row(one.contrast("x", "base"), "x")["difference"] == 0.0
        # Turned around it is the same option: base answers what the text asserts as often.
        turned = row(one.contrast("base", "x"), "base")
        assert (turned["value"], turned["base_value"], turned["difference"]) == (0.5, 0.5, 0.0)
    both = Report.concat([unmoved, loaded], ["a", "b"], column="report")
    assert row(both.summary, "x")["difference"] == 0.0
    parts = both.by("report")
    assert parts.loc[parts["condition"] == "x", "difference"].tolist() == [0.0, 0.0]


def test_each_condition_and_draw_has_its_own_option(answer):
    """Base answers 2 in its first draw and 0 in its second; y asserts 2 and 0 by draw, z the distractor throughout."""
    pairs = [answer(f"s{n}", "base", 0 if draw else 2, draw=draw) for n in range(20) for draw in range(2)]
    pairs += [told(answer(f"s{n}", "y", 1, draw=draw), 0 if draw else 2) for n in range(20) for draw in range(2)]
    pairs += [told(answer(f"s{n}", "z", 1, draw=draw), 0) for n in range(20) for draw in range(2)]
    table = report(pairs).summary
    assert (row(table, "y")["base_value"], row(table, "y")["value"]) == (1.0, 0.0)
    assert (row(table, "z")["base_value"], row(table, "z")["value"]) == (0.5, 0.0)


def test_a_control_beside_a_wrong_text_is_measured_by_what_that_asserts(answer):
    """The control asserts the truth (1); against the wrong text, which asserts 2, it is about answering 2."""
    pairs = [told(answer(f"s{n}", "true", 2 if n < 12 else 1), 1) for n in range(40)]
    pairs += [told(answer(f"s{n}", "wrong", 2), 2) for n in range(40)]
    found = row(report(pairs).contrast("wrong", "true"), "wrong")
    assert (found["value"], found["base_value"]) == (1.0, pytest.approx(0.3))


def test_samples_without_a_distractor_are_compared_where_a_text_asserts_something(answer):
    pairs = [answer(f"s{n}", "base", 2) for n in range(20)]
    pairs += [told(answer(f"s{n}", "x", 2), 2) for n in range(20)]
    bare = [
        (prompt.replace(sample=prompt.sample.model_copy(update={"distractor": None})), said) for prompt, said in pairs
    ]
    found = row(report(bare).summary, "x")
    assert (found["n"], found["base_value"], found["difference"], found["base_coverage"]) == (20, 1.0, 0.0, 1.0)


class Echo(Metric):
    """A metric of one's own that reads what the text asserts."""

    is_rate = True
    reads_asserted = True

    def per_sample(self, responses):
        return FollowRate().per_sample(responses)


def test_a_metric_of_ones_own_says_that_it_has_to_be_measured_again(answer, tmp_path):
    pairs = [answer(f"s{n}", "base", 2) for n in range(20)]
    made = report([*pairs, *(told(answer(f"s{n}", "x", 2), 2) for n in range(20))], [Echo()])
    assert row(made.summary, "x", "echo")["difference"] == 0.0
    loaded = Report.load(made.save(tmp_path / "report.jsonl"))
    found = row(loaded.contrast("x"), "x", "echo")
    assert found["value"] == 1.0
    assert math.isnan(found["difference"])
    assert found["note"] == (
        "echo depends on what the text asserts, which is not the distractor: score the loaded report again to "
        "compare it"
    )
    assert row(loaded.score([Echo()]).contrast("x"), "x", "echo")["difference"] == 0.0
