"""Panels of judges: votes, sequences and agreement."""

import math
from collections import Counter
from typing import Any

import pytest
import torch
from builders import make_samples
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import fleiss_kappa

from vlmrobust import Prompt, Response, Responses
from vlmrobust.judges import Agreement, Judge, Panel, RuleJudge, Verdicts

UNSURE = None


class FixedJudge(Judge):
    """Returns fixed verdicts."""

    says: tuple[int | None, ...]
    asked: Any = None

    def conclude(self, responses):
        if self.asked is not None:
            self.asked.append(len(responses))
        options = torch.tensor([-1 if option is UNSURE else option for option in self.says], dtype=torch.int64)
        return Verdicts.of(options, torch.tensor([option is UNSURE for option in self.says], dtype=torch.bool))


def make_responses(choices, status="answered", think="It is so."):
    samples = make_samples(len(choices), answer=0)
    said = [
        Response(sample_id=sample.id, condition="base", think=think, answer=choice, status=status)
        for sample, choice in zip(samples, choices, strict=True)
    ]
    return Responses.of([Prompt.of(sample) for sample in samples], said)


VOTES = st.integers(2, 5).flatmap(
    lambda judges: st.lists(
        st.lists(st.sampled_from([UNSURE, -1, 0, 1, 2]), min_size=judges, max_size=judges), min_size=1, max_size=12
    )
)


def panel_of(votes, rule="majority", **fields):
    judges = [
        FixedJudge(says=tuple(row[i] for row in votes), name=f"judge {i}", **fields) for i in range(len(votes[0]))
    ]
    return Panel(*judges, rule=rule)


@given(VOTES)
def test_the_vote_is_counted(votes):
    responses = make_responses([0] * len(votes))
    for rule in ("majority", "strict"):
        verdicts = panel_of(votes, rule).verdicts(responses)
        assert verdicts.probability.isnan().all()
        for row, option, unsure in zip(votes, verdicts.option.tolist(), verdicts.unsure.tolist(), strict=True):
            named = Counter(vote for vote in row if vote is not UNSURE).most_common(1)
            needed = len(row) if rule == "strict" else math.floor(len(row) / 2) + 1
            expected = named[0][0] if named and named[0][1] >= needed else UNSURE
            assert (UNSURE if unsure else option) == expected


@given(VOTES, st.data())
def test_agreement_equals_a_plain_loop(votes, data):
    choices = data.draw(st.lists(st.integers(0, 2), min_size=len(votes), max_size=len(votes)))
    agreement = panel_of(votes).agreement(make_responses(choices))
    rated = [
        [float(vote == choice) for vote in row]
        for row, choice in zip(votes, choices, strict=True)
        if all(vote is not UNSURE and vote >= 0 for vote in row)
    ]
    assert agreement.count == len(rated)
    assert agreement.strict == pytest.approx(
        sum(len(set(row)) == 1 for row in rated) / len(rated) if rated else math.nan, nan_ok=True
    )
    kept = [row for row in votes if all(vote is not UNSURE and vote >= 0 for vote in row)]
    assert agreement.same_option == pytest.approx(
        sum(len(set(row)) == 1 for row in kept) / len(kept) if kept else math.nan, nan_ok=True
    )
    if len({value for row in rated for value in row}) == 2:
        table = [[row.count(0.0), row.count(1.0)] for row in rated]
        assert agreement.kappa == pytest.approx(fleiss_kappa(table))
    else:
        assert math.isnan(agreement.kappa)
    said = torch.tensor([[vote is not UNSURE and vote >= 0 for vote in row] for row in votes])
    torch.testing.assert_close(agreement.coverage, said.double().mean(0))
    assert agreement.pairwise.shape == (len(votes[0]), len(votes[0]))


def test_responses_without_answer_or_thought_are_excluded():
    votes = [[0, 0], [0, 1]]
    assert panel_of(votes).agreement(make_responses([0, 0])).count == 2
    for responses in (make_responses([None, None], status="truncated"), make_responses([0, 0], think=" ")):
        agreement = panel_of(votes).agreement(responses)
        assert agreement.count == 0
        assert math.isnan(agreement.strict)
        assert math.isnan(agreement.kappa)
        assert agreement.pairwise.isnan().all()


def test_every_judge_runs_once():
    asked = []
    panel_of([[0, 1]], asked=asked).agreement(make_responses([0]))
    assert asked == [1, 1]


def test_panel_is_a_judge():
    panel = Panel(RuleJudge(name="rules"), RuleJudge(), FixedJudge(says=(1, UNSURE)), rule="strict")
    responses = make_responses([1, 1], think="So the answer is B.")
    consistent = panel.consistent(responses)
    assert consistent[0] == 1
    assert consistent[1].isnan()
    assert panel.agreement(responses).judges == ("rules", "RuleJudge", "FixedJudge")
    assert panel.replace(rule="majority").consistent(responses).tolist() == [1.0, 1.0]
    assert panel == Panel(judges=panel.judges, rule="strict")
    assert panel.replace(name="three").title == "three"


def test_panel_needs_two_judges():
    with pytest.raises(ValueError, match="at least 2 items"):
        Panel(RuleJudge())
    with pytest.raises(ValueError, match="'majority', 'strict' or 'first_sure'"):
        Panel(RuleJudge(), RuleJudge(), rule="all")


def test_no_responses():
    agreement = Panel(RuleJudge(), RuleJudge()).agreement(make_responses([]))
    assert isinstance(agreement, Agreement)
    assert agreement.count == 0
    assert agreement.coverage.isnan().all()


@given(VOTES)
def test_first_verdict_decides_in_sequence(votes):
    responses = make_responses([0] * len(votes))
    verdicts = Panel(*(_reading(votes, place) for place in range(len(votes[0]))), rule="first_sure").verdicts(responses)
    for row, option, unsure in zip(votes, verdicts.option.tolist(), verdicts.unsure.tolist(), strict=True):
        named = next((vote for vote in row if vote is not UNSURE and vote >= 0), row[-1])
        assert (option, unsure) == ((-1, True) if named is UNSURE else (named, False))


class Reading(Judge):
    """Says of each sample what it was told to say, however many it is shown."""

    says: dict[str, int | None]
    asked: Any = None
    sure: float = 0.75

    def conclude(self, responses):
        said = [self.says[sample] for sample in responses.sample_id]
        if self.asked is not None:
            self.asked.extend(responses.sample_id)
        option = torch.tensor([-1 if each is UNSURE else each for each in said])
        return Verdicts(option, torch.tensor([each is UNSURE for each in said]), torch.full((len(said),), self.sure))


def _reading(votes, place, **fields):
    return Reading(says={f"q{row}": vote[place] for row, vote in enumerate(votes)}, name=f"judge {place}", **fields)


def test_next_judges_see_only_undecided_thoughts():
    votes = [(0, 1), (UNSURE, 2), (-1, 1), (2, UNSURE), (UNSURE, UNSURE)]
    asked = []
    panel = Panel(_reading(votes, 0, sure=0.5), _reading(votes, 1, asked=asked, sure=0.9), rule="first_sure")
    verdicts = panel.verdicts(make_responses([0] * len(votes)))
    assert asked == ["q1", "q2", "q4"]
    assert verdicts.option.tolist() == [0, 2, 1, 2, -1]
    assert verdicts.unsure.tolist() == [False, False, False, False, True]
    assert verdicts.probability.tolist() == pytest.approx([0.5, 0.9, 0.9, 0.5, 0.9])


def test_panel_uses_the_largest_min_contradiction():
    votes = [(1,), (0,)]
    responses = make_responses([0, 0])
    for sure, consistency in ((0.85, [math.nan, 1.0]), (0.95, [0.0, 1.0])):
        panel = Panel(_reading(votes, 0, sure=sure), RuleJudge(), rule="first_sure")
        assert panel.min_contradiction == RuleJudge().min_contradiction == 0.9
        assert panel.consistent(responses).tolist() == pytest.approx(consistency, nan_ok=True)
    assert Panel(RuleJudge(), RuleJudge(), min_contradiction=0.5).min_contradiction == 0.5


class Failing(Reading):
    """As told, and raises on a thought of which it was told nothing."""

    def conclude(self, responses):
        missing = [sample for sample in responses.sample_id if sample not in self.says]
        if missing:
            raise LookupError(f"nothing on {missing[0]}")
        return super().conclude(responses)


@pytest.mark.parametrize("rule", ["majority", "strict", "first_sure"])
def test_failing_judge_is_an_error_if_its_vote_is_needed(rule):
    votes = [(0, 0), (UNSURE, None), (1, None)]
    first = _reading([(vote,) for vote, _ in votes], 0)
    second = Failing(says={"q0": 0}, name="second")
    verdicts = Panel(first, second, rule=rule).verdicts(make_responses([0, 0, 1]))
    lost = {1} if rule == "first_sure" else {1, 2}
    assert verdicts.unsure.tolist() == [row in lost for row in range(3)]
    assert set(verdicts.errors) == lost
    assert verdicts.errors[1] == "LookupError: nothing on q1"
