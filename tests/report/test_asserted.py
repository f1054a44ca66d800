"""Test the follow rate if a text asserts another option than the distractor (0): both sides use that option (2)."""

import math

import pytest

from vlmrobust import Metric, Report
from vlmrobust.functional import tango_interval
from vlmrobust.metrics import FollowRate


def with_asserted(pair, asserted):
    prompt, response = pair
    return prompt.replace(asserted=asserted), response


def report_of(pairs, metrics=None):
    return Report.from_responses(*zip(*pairs, strict=True), metrics or [FollowRate()])


def row_of(table, condition, metric="follow_rate"):
    [found] = table[(table["condition"] == condition) & (table["metric"] == metric)].to_dict("records")
    return found


@pytest.fixture
def unmoved_report(make_pair):
    """A report whose text asserts option 2, which 30 of 60 answer with and without it."""
    pairs = [make_pair(f"s{n}", "base", 2 if n < 30 else 1) for n in range(60)]
    return report_of([*pairs, *(with_asserted(make_pair(f"s{n}", "x", 2 if n < 30 else 1), 2) for n in range(60))])


def test_a_text_without_effect_has_difference_zero(unmoved_report):
    found = row_of(unmoved_report.summary, "x")
    assert (found["value"], found["paired_value"], found["base_value"], found["difference"]) == (0.5, 0.5, 0.5, 0.0)
    assert (found["low"], found["high"], found["p"]) == pytest.approx((*tango_interval(0, 0, 60), 1.0))
    assert row_of(unmoved_report.summary, "base")["value"] == 0.0  # of the distractor, which nobody answers
    assert "x: follow rate on 60 pairs: 0.50, base 0.50" in unmoved_report._overview().notes


def test_other_comparisons_and_loaded_reports_agree(unmoved_report, tmp_path):
    loaded = Report.load(unmoved_report.save(tmp_path / "report.jsonl"))
    for one in (unmoved_report, loaded):
        assert row_of(one.contrast("x", "base"), "x")["difference"] == 0.0
        # With swapped sides the option is the same: base gives the asserted answer as often.
        turned = row_of(one.contrast("base", "x"), "base")
        assert (turned["value"], turned["base_value"], turned["difference"]) == (0.5, 0.5, 0.0)
    both = Report.concat([unmoved_report, loaded], ["a", "b"], column="report")
    assert row_of(both.summary, "x")["difference"] == 0.0
    parts = both.by("report")
    assert parts.loc[parts["condition"] == "x", "difference"].tolist() == [0.0, 0.0]


def test_asserted_option_is_matched_by_condition_and_draw(make_pair):
    """Base answers 2 in draw 0 and 0 in draw 1; y asserts 2 and 0 by draw, z always the distractor."""
    pairs = [make_pair(f"s{n}", "base", 0 if draw else 2, draw=draw) for n in range(20) for draw in range(2)]
    pairs += [
        with_asserted(make_pair(f"s{n}", "y", 1, draw=draw), 0 if draw else 2) for n in range(20) for draw in range(2)
    ]
    pairs += [with_asserted(make_pair(f"s{n}", "z", 1, draw=draw), 0) for n in range(20) for draw in range(2)]
    table = report_of(pairs).summary
    assert (row_of(table, "y")["base_value"], row_of(table, "y")["value"]) == (1.0, 0.0)
    assert (row_of(table, "z")["base_value"], row_of(table, "z")["value"]) == (0.5, 0.0)


def test_a_control_is_measured_by_the_option_of_the_wrong_text(make_pair):
    """The control asserts the target (1); compared with the wrong text, which asserts 2, it is measured by option 2."""
    pairs = [with_asserted(make_pair(f"s{n}", "true", 2 if n < 12 else 1), 1) for n in range(40)]
    pairs += [with_asserted(make_pair(f"s{n}", "wrong", 2), 2) for n in range(40)]
    found = row_of(report_of(pairs).contrast("wrong", "true"), "wrong")
    assert (found["value"], found["base_value"]) == (1.0, pytest.approx(0.3))


def test_samples_without_a_distractor_are_compared_by_the_asserted_option(make_pair):
    pairs = [make_pair(f"s{n}", "base", 2) for n in range(20)]
    pairs += [with_asserted(make_pair(f"s{n}", "x", 2), 2) for n in range(20)]
    bare = [
        (prompt.replace(sample=prompt.sample.model_copy(update={"distractor": None})), response)
        for prompt, response in pairs
    ]
    found = row_of(report_of(bare).summary, "x")
    assert (found["n"], found["base_value"], found["difference"], found["base_coverage"]) == (20, 1.0, 0.0, 1.0)


class Echo(Metric):
    """A custom metric that depends on what the text asserts."""

    is_rate = True
    reads_asserted = True

    def per_sample(self, responses):
        return FollowRate().per_sample(responses)


def test_a_loaded_custom_metric_asks_to_be_scored_again(make_pair, tmp_path):
    pairs = [make_pair(f"s{n}", "base", 2) for n in range(20)]
    echo_report = report_of([*pairs, *(with_asserted(make_pair(f"s{n}", "x", 2), 2) for n in range(20))], [Echo()])
    assert row_of(echo_report.summary, "x", "echo")["difference"] == 0.0
    loaded = Report.load(echo_report.save(tmp_path / "report.jsonl"))
    found = row_of(loaded.contrast("x"), "x", "echo")
    assert found["value"] == 1.0
    assert math.isnan(found["difference"])
    assert found["note"] == (
        "echo depends on what the text asserts, which is not the distractor: score the loaded report again to "
        "compare it"
    )
    assert row_of(loaded.score([Echo()]).contrast("x"), "x", "echo")["difference"] == 0.0
