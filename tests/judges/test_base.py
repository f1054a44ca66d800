"""The base class of judges: consistency, blanked answers, validation and failures."""

from dataclasses import fields

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlmrobust import Prompt, Response, Responses
from vlmrobust.judges import Judge, RuleJudge, Verdicts
from vlmrobust.judges.base import without_answers
from vlmrobust.models.base import RefusedError
from vlmrobust.types import Turn


@pytest.fixture
def responses(make_sample):
    rows = [
        ("It is blue.", "<think>It is blue.</think><answer>B</answer>"),
        ("contradicts", "<think>So it is blue.</think><answer>A</answer>"),
        ("contradicts by a weak kind of evidence", "<think>It is blue.</think><answer>A</answer>"),
        ("empty", "<think> </think><answer>B</answer>"),
        ("unparsed", "<think>It is blue.</think><answer>B or C</answer>"),
        ("truncated", "<think>It is blue."),
        ("unsure", "<think>It is red or blue.</think><answer>B</answer>"),
        ("nothing", "<think>Let me see.</think><answer>B</answer>"),
        ("abstained", "<think>It is blue.</think><answer>E</answer>"),
        ("asserts the added option", "<think>The answer is E.</think><answer>B</answer>"),
    ]
    prompts, said = [], []
    for name, completion in rows:
        sample = make_sample(sample_id=name, metadata={"solution": "B"}, distractor=2)
        prompt = Prompt.of(sample)
        prompt = prompt.replace(
            options=(*prompt.options, "I'm not sure"),
            order=(*prompt.order, None),
            asserted=2,
            condition="shown",
            context="The cube is blue.",
            history=(Turn(role="assistant", text="B"), Turn(role="user", text="Are you sure?")),
        )
        prompts.append(prompt)
        logprobs = [-1.0, -0.5, -3.0, -4.0, -5.0]
        said.append(
            Response.parse(
                prompt, completion, option_logprobs=logprobs, token_entropy=0.5, n_tokens=7, finish_reason="stop"
            )
        )
    failed = Prompt.of(make_sample(sample_id="failed")).replace(condition="shown")
    return Responses.of([*prompts, failed], [*said, Response.failed(failed, "out of memory")])


class Fixed(Judge):
    option: tuple[int, ...]
    unsure: tuple[bool, ...]

    def conclude(self, responses):
        return Verdicts.of(torch.tensor(self.option), torch.tensor(self.unsure))


class Spy(Judge):
    seen: list

    def conclude(self, responses):
        self.seen.append(responses)
        count = len(responses)
        return Verdicts.of(torch.full((count,), -1), torch.zeros(count, dtype=torch.bool))


def test_where_consistency_is_defined(responses):
    consistent = RuleJudge().consistent(responses)
    nan = float("nan")
    expected = torch.tensor([1.0, 0.0, nan, nan, nan, nan, nan, nan, nan, nan, nan])
    torch.testing.assert_close(consistent, expected, equal_nan=True)
    assert consistent.dtype == torch.float32


def test_each_reason_makes_consistency_undefined(responses):
    first = responses.select([0])
    assert Fixed(option=(1,), unsure=(False,)).consistent(first).tolist() == [1.0]
    assert Fixed(option=(0,), unsure=(False,)).consistent(first).tolist() == [0.0]
    assert Fixed(option=(1,), unsure=(True,)).consistent(first).isnan().all()
    assert Fixed(option=(-1,), unsure=(False,)).consistent(first).isnan().all()
    for position in (3, 4, 5, 8, 10):
        assert Fixed(option=(1,), unsure=(False,)).consistent(responses.select([position])).isnan().all()


def test_no_judge_sees_an_answer(responses):
    spy = Spy(seen=[])
    spy.consistent(responses)
    (seen,) = spy.seen
    kept = {"sample_id", "condition", "draw", "group", "option_count", "question", "options", "order", "letters",
            "option_tokens", "think", "own_think", "prefill", "carrier"}  # fmt: skip
    for field in fields(Responses):
        if field.name.startswith("_"):
            continue
        before, after = getattr(responses, field.name), getattr(seen, field.name)
        same = torch.equal(before, after) if isinstance(before, torch.Tensor) else before == after
        assert same == (field.name in kept), field.name
    assert seen.option_logprobs.isnan().all()
    assert (seen.choice == -1).all()
    assert (seen.target == -1).all()
    assert (seen.distractor == -1).all()
    assert (seen.asserted == -1).all()
    assert not any(seen.text)
    assert not any(seen.history)
    assert not any(seen.metadata)


def test_responses_are_not_modified(responses):
    without_answers(responses)
    assert responses.target[0] == 1
    assert responses.text[0]


def _wrong(**changes):
    fine = {"option": torch.zeros(1, dtype=torch.int64), "unsure": torch.zeros(1, dtype=torch.bool),
            "probability": torch.zeros(1)}  # fmt: skip
    return Verdicts(**(fine | changes))


@pytest.mark.parametrize(
    ("verdicts", "error", "message"),
    [
        (
            _wrong(option=torch.zeros(2, dtype=torch.int64)),
            ValueError,
            r"judge 'Odd', field 'option': expected torch.int64 of shape \(1,\), one value per response, got "
            r"torch.int64 of shape \(2,\)",
        ),
        (_wrong(option=torch.zeros(1)), ValueError, r"judge 'Odd', field 'option'.*got torch.float32 of shape \(1,\)"),
        (_wrong(option=torch.zeros(1, 1, dtype=torch.int64)), ValueError, r"field 'option'.*shape \(1, 1\)"),
        (
            _wrong(unsure=torch.zeros(1)),
            ValueError,
            r"judge 'Odd', field 'unsure': expected torch.bool of shape \(1,\)",
        ),
        (_wrong(probability=torch.zeros(3)), ValueError, r"judge 'Odd', field 'probability'.*got .* shape \(3,\)"),
        (_wrong(option=[0]), ValueError, r"judge 'Odd', field 'option'.*got <class 'list'>"),
        (
            _wrong(option=torch.tensor([4])),
            ValueError,
            r"judge 'Odd', sample 'It is blue\.', field 'option': .*below 4, got 4",
        ),
        (_wrong(option=torch.tensor([-2])), ValueError, r"judge 'Odd', .*expected -1 or an index below 4, got -2"),
        ([1], TypeError, r"judge 'Odd': expected Verdicts from conclude, got list"),
    ],
)
def test_invalid_verdicts_are_rejected(responses, verdicts, error, message):
    class Odd(Judge):
        def conclude(self, responses):
            return verdicts

    with pytest.raises(error, match=message):
        Odd().consistent(responses.select([0]))


def test_a_name_can_be_set():
    assert RuleJudge().title == "RuleJudge"
    assert RuleJudge(name="rules").title == "rules"


def test_no_responses(responses):
    assert RuleJudge().consistent(responses.select([])).shape == (0,)


def test_verdicts_without_probability_are_nan():
    assert Verdicts.of(torch.tensor([1, 0]), torch.tensor([False, True])).probability.isnan().all()


class Fragile(Judge):
    """Names the first option; raises where a thought says so, and writes down how often it was asked."""

    broken: frozenset[str]
    asked: list

    def conclude(self, responses):
        self.asked.append(len(responses))
        for thought in responses.think:
            if thought in self.broken:
                raise KeyError(f"cannot read {thought!r}")
        return Verdicts.of(torch.zeros(len(responses), dtype=torch.int64), torch.zeros(len(responses), dtype=bool))


def make_responses(make_sample, count):
    prompts = [Prompt.of(make_sample(sample_id=f"q{number}")) for number in range(count)]
    completions = [f"<think>{number}</think><answer>A</answer>" for number in range(count)]
    return Responses.of(prompts, [Response.parse(*pair) for pair in zip(prompts, completions, strict=True)])


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(2, 40), seed=st.randoms(use_true_random=False), few=st.integers(0, 4))
def test_exceptions_on_some_thoughts_do_not_affect_others(make_sample, count, seed, few):
    broken = set(seed.sample(range(count), min(few, count - 1)))
    judge = Fragile(broken=frozenset(map(str, broken)), asked=[])
    verdicts = judge.verdicts(make_responses(make_sample, count))
    assert set(verdicts.errors) == broken
    assert all(f"cannot read '{row}'" in message for row, message in verdicts.errors.items())
    assert verdicts.unsure.tolist() == [row in broken for row in range(count)]
    assert verdicts.option.tolist() == [-1 if row in broken else 0 for row in range(count)]
    # Halving: no more than two calls per level and broken thought.
    assert len(judge.asked) <= 1 + 2 * len(broken) * count.bit_length()


@pytest.mark.parametrize("count", [1, 3, 8, 500])
def test_exception_on_every_thought_is_raised_early(make_sample, count):
    judge = Fragile(broken=frozenset(map(str, range(count))), asked=[])
    with pytest.raises(KeyError, match="cannot read '0'"):
        judge.verdicts(make_responses(make_sample, count))
    assert len(judge.asked) <= 24


def test_small_part_may_fail_entirely(make_sample):
    few, many = (Fragile(broken=frozenset(map(str, range(count))), asked=[]) for count in (3, 40))
    assert set(few.verdicts_of_part(make_responses(make_sample, 3), is_part=True).errors) == {0, 1, 2}
    assert set(few.verdicts_of_part(make_responses(make_sample, 1), is_part=True).errors) == {0}
    with pytest.raises(KeyError):
        many.verdicts_of_part(make_responses(make_sample, 40), is_part=True)


@pytest.mark.parametrize("error", [RefusedError("no key"), ImportError("no package")])
def test_fatal_errors_are_raised_at_once(make_sample, error):
    calls = []

    class Refused(Judge):
        def conclude(self, responses):
            calls.append(1)
            raise error

    with pytest.raises(type(error), match=str(error)):
        Refused().verdicts(make_responses(make_sample, 5))
    assert calls == [1]


def test_identity_is_the_class_and_its_settings():
    assert RuleJudge(name="x").identity() == {"class": "RuleJudge"}
    assert RuleJudge(min_probability=0.9).identity() == {"class": "RuleJudge", "min_probability": 0.9}
    assert Fixed(option=(1,), unsure=(False,)).identity() == {"class": "Fixed", "option": (1,), "unsure": (False,)}
