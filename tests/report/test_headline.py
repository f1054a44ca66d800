"""At most five sentences: which they are, and that their numbers are the summary's."""

import re

import pytest

import vlmrobust as vr
from vlmrobust import Report
from vlmrobust.metrics import Accuracy, FlipRate
from vlmrobust.report.findings import KINDS
from vlmrobust.report.headline import LIMITS, grouped_limits


@pytest.fixture
def made(answer):
    """Return a report on 60 samples, right under base, with so many right under each condition."""

    def build(**right):
        pairs = [answer(f"q{index}") for index in range(60)]
        for condition, count in right.items():
            pairs += [answer(f"q{index}", condition, 1 if index < count else 0) for index in range(60)]
        prompts, responses = zip(*pairs, strict=True)
        return Report.from_responses(prompts, responses, [Accuracy(), FlipRate()])

    return build


def test_falls_are_one_sentence_that_names_the_largest(made):
    report = made(mild=40, bad=6, same=60)
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


def test_with_base_alone_it_says_how_good_that_is(made):
    assert made().headline() == (
        "Accuracy under base is 1.00 [0.94, 1.00] (n = 60); no condition is compared with it.",
    )


def test_there_are_never_more_than_five(made):
    many = {f"c{index}": index for index in range(0, 61, 3)}
    assert len(made(**many).headline()) <= 5
    assert "21 conditions" in made(**dict.fromkeys(many, 60)).headline()[0]


def test_nothing_was_asked():
    assert Report.from_responses([], []).headline() == ()


def test_patterns_stand_with_the_condition():
    model = vr.testing.FakeModel(accuracy=1.0, follow_think=1.0)
    report = vr.Evaluator(model, [vr.perturbations.WrongThink()]).run(vr.demo.samples(60))
    assert report.headline()[1].startswith("Brittle under wrong_think: ")


def test_every_kind_of_limit_has_a_group():
    kinds = list(KINDS)
    limits = kinds[kinds.index("form") :]
    assert sorted(kind for of_group in LIMITS.values() for kind in of_group) == sorted(limits)


def test_limits_are_grouped_and_none_is_lost(made):
    report = made(bad=6)
    groups = grouped_limits(report.findings())
    said = [text for texts in groups.values() for text in texts]
    assert sorted(said) == sorted(finding.text for finding in report.findings() if finding.is_limit)
    assert "Chance" in groups
