"""Test which sentences are in the headline, and that their numbers equal the summary's."""

import re

import pytest

import vlmrobust as vr
from vlmrobust import Report
from vlmrobust.metrics import Accuracy, FlipRate
from vlmrobust.report.findings import KINDS
from vlmrobust.report.html import LIMITS, grouped_limits


@pytest.fixture
def make_report(make_pair):
    """Return a builder of a report on 60 samples, right under base, with the given number right per condition."""

    def build(**right):
        pairs = [make_pair(f"q{index}") for index in range(60)]
        for condition, count in right.items():
            pairs += [make_pair(f"q{index}", condition, 1 if index < count else 0) for index in range(60)]
        prompts, responses = zip(*pairs, strict=True)
        return Report.from_responses(prompts, responses, [Accuracy(), FlipRate()])

    return build


def test_falls_share_a_sentence_that_names_the_largest(make_report):
    report = make_report(mild=40, bad=6, same=60)
    first, second = report.headline()
    row = report.summary.query("condition == 'bad' and metric == 'accuracy'").iloc[0]
    assert first.startswith("Accuracy falls under 2 of 3 conditions, most under bad: from 1.00 to 0.10, by 0.90 [")
    assert [float(end) for end in re.findall(r"\d\.\d\d(?=[,\]])", first)][-2:] == [
        round(-row["high"], 2),
        round(-row["low"], 2),
    ]
    same = report.summary.query("condition == 'same' and metric == 'accuracy'").iloc[0]
    assert second == (
        f"Accuracy can't be told from base under same; a fall of up to {-same['low']:.2f} is not excluded."
    )


def test_base_alone_gives_its_accuracy(make_report):
    assert make_report().headline() == (
        "Accuracy under base is 1.00 [0.94, 1.00] (n = 60); no condition is compared with it.",
    )


def test_there_are_at_most_five_sentences(make_report):
    many = {f"c{index}": index for index in range(0, 61, 3)}
    assert len(make_report(**many).headline()) <= 5
    assert "21 conditions" in make_report(**dict.fromkeys(many, 60)).headline()[0]


def test_an_empty_report_has_no_headline():
    assert Report.from_responses([], []).headline() == ()


def test_patterns_name_the_condition():
    model = vr.testing.FakeModel(accuracy=1.0, follow_think=1.0)
    report = vr.Evaluator(model, [vr.perturbations.WrongThink()]).run(vr.demo.samples(60))
    assert report.headline()[1].startswith("Brittle under wrong_think: ")


def test_every_kind_of_limit_has_a_group():
    kinds = list(KINDS)
    limits = kinds[kinds.index("form") :]
    assert sorted(kind for of_group in LIMITS.values() for kind in of_group) == sorted(limits)


def test_grouping_keeps_all_limits(make_report):
    report = make_report(bad=6)
    groups = grouped_limits(report.findings())
    sentences = [text for texts in groups.values() for text in texts]
    assert sorted(sentences) == sorted(finding.text for finding in report.findings() if finding.is_limit)
    assert "Chance" in groups
