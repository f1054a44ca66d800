"""Expansion of samples × conditions: order, laziness, inapplicable conditions, responses under base."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vlmrobust import Compose, NotApplicable, Perturbation, Prompt, Report, Response, Sample, expand, paper_conditions
from vlmrobust.metrics import Accuracy
from vlmrobust.perturbations import Base, EarlyAnswer, StopThink, WrongCaption, WrongThink, rotations
from vlmrobust.testing import FakeModel

Make = Callable[..., Sample]


def test_order_and_neighbours_do_not_change_a_prompt(make_sample: Make) -> None:
    several = [make_sample(f"q{number}") for number in range(8)]
    together = {(p.sample.id, p.condition): p for p in expand(several, paper_conditions(), seed=5)}
    for sample in reversed(several):
        for prompt in expand([sample], paper_conditions()[::-1], seed=5):
            assert prompt == together[sample.id, prompt.condition]


def test_expand_is_a_lazy_sequence_grouped_by_sample(make_sample: Make) -> None:
    prompts = expand([make_sample("a"), make_sample("b")], [StopThink()], draws=3)
    keys = [(p.sample.id, p.condition, p.draw) for p in prompts]
    assert keys == [(s, c, d) for s in "ab" for c in ("base", "stop_think") for d in range(3)]
    assert len(prompts) == 12
    assert prompts[-1] == prompts[11]
    assert prompts[2:8:3] == [prompts[2], prompts[5]]
    with pytest.raises(IndexError):
        prompts[12]


def test_planned_count_creates_no_prompt(make_sample: Make) -> None:
    class Explosive(Perturbation):
        def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
            raise AssertionError

    prompts = expand([make_sample("a"), make_sample("b")], [Explosive()])
    assert repr(prompts) == "Prompts(2 samples × 2 conditions × 1 draw)"
    assert repr(expand([make_sample()], [], draws=3)) == "Prompts(1 sample × 1 condition × 3 draws)"


def test_base_is_always_first_and_once(make_sample: Make) -> None:
    for conditions in ([StopThink(), Base()], [StopThink()]):
        assert [p.condition for p in expand([make_sample()], conditions)] == ["base", "stop_think"]
    assert [p.condition for p in expand([make_sample()], [])] == ["base"]


def test_invalid_conditions_and_samples_are_rejected(make_sample: Make) -> None:
    with pytest.raises(ValueError, match="names that differ, got 'wrong_think_but' twice; set 'name' on one of them"):
        expand([make_sample()], [WrongThink(hedge="but"), WrongThink(hedge="or")])
    with pytest.raises(TypeError, match="expected perturbations, got str: 'base'"):
        expand([make_sample()], ["base"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="sample 'q1', field 'id': expected ids that differ"):
        expand([make_sample(), make_sample()], [])


def test_base_responses_reach_the_conditions_that_need_them(make_sample: Make) -> None:
    sample = make_sample()
    said = Response.parse(Prompt.of(sample), "<think>.</think><answer>A</answer>")
    other = said.replace(condition="stop_think")
    prompts = expand([sample], [StopThink()], base=[other, said])
    assert prompts[1].base == said


class Counting(Perturbation):
    """Applies to samples of at least three options; logs created prompts in a list of the module."""

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        MADE.append(prompt.sample.id)
        if len(prompt.options) < 3:
            raise NotApplicable("too few options")
        return prompt


MADE: list[str] = []


@pytest.fixture
def mixed(make_sample: Make) -> list[Sample]:
    return [
        make_sample(f"q{number}", images=(b"x",), options=tuple(map(str, range(2 + number % 2)))) for number in range(4)
    ]


def test_inapplicable_conditions_are_left_out_and_listed(mixed: list[Sample]) -> None:
    prompts = expand(mixed, [Counting(), StopThink()], draws=2)
    keys = [(prompt.sample.id, prompt.condition, prompt.draw) for prompt in prompts]
    assert len(keys) == len(prompts) == 20
    left_out = [(prompt, response) for prompt, response in prompts.not_applicable]
    assert [response.key for _, response in left_out] == [(f"q{n}", "counting", d) for n in (0, 2) for d in (0, 1)]
    assert {(response.status, response.error) for _, response in left_out} == {("not_applicable", "too few options")}
    asked = {(s.id, c, d) for s in mixed for c in ("base", "counting", "stop_think") for d in (0, 1)}
    assert set(keys) | {response.key for _, response in left_out} == asked
    assert [prompt.distractor for prompt, _ in left_out] == [prompts[0].distractor] * 2 + [prompts[10].distractor] * 2


def test_custom_loop_can_report_inapplicable_conditions(mixed: list[Sample]) -> None:
    prompts = expand(mixed, rotations(3))
    responses = [Response.parse(prompt, "<think>.</think><answer>A</answer>") for prompt in prompts]
    report = Report.from_responses(prompts, responses, [Accuracy()])
    assert report.frame["condition"].value_counts().to_dict() == {
        "base": 4,
        "rotated_options_1": 4,
        "rotated_options_2": 2,
    }
    rest = prompts.not_applicable
    whole = Report.from_responses(
        [*prompts, *(prompt for prompt, _ in rest)], [*responses, *(response for _, response in rest)], [Accuracy()]
    )
    rows = whole.summary.set_index("condition")
    assert rows["not_applicable"].to_dict() == {"base": 0, "rotated_options_1": 0, "rotated_options_2": 2}
    assert rows.loc["rotated_options_2", "n"] == 2


def test_index_creates_only_earlier_prompts(mixed: list[Sample]) -> None:
    MADE.clear()
    prompts = expand(mixed, [Counting()])
    assert prompts[0].condition == "base"
    assert MADE == []
    assert (prompts[1].sample.id, prompts[2].condition) == ("q1", "counting")  # q0 is left out
    assert MADE == ["q0", "q1"]
    assert prompts[-1] == prompts[5]
    assert [prompt.sample.id for prompt in prompts[1:4]] == ["q1", "q1", "q2"]
    for index in (6, -7):
        with pytest.raises(IndexError):
            prompts[index]


def test_missing_base_is_reported_on_access(make_sample: Make) -> None:
    prompts = expand([make_sample()], [StopThink(), EarlyAnswer()])
    assert [prompts[0].condition, prompts[1].condition] == ["base", "stop_think"]
    with pytest.raises(ValueError, match="sample 'q1', condition 'early_answer_50': expected the response under base"):
        prompts[2]
    failed = Response.failed(prompts[0], "no connection")
    with pytest.raises(ValueError, match=r"expected a response under base, got status 'error' \(no connection\)"):
        expand([make_sample()], [EarlyAnswer()], base=[failed])[1]


def test_each_draw_uses_its_base_response_or_that_of_draw_0(make_sample: Make) -> None:
    sample = make_sample()
    said = [
        Response.parse(Prompt.of(sample, draw=draw), f"<think>Thought {draw}.</think><answer>A</answer>")
        for draw in range(2)
    ]
    prompts = expand([sample], [EarlyAnswer(fraction=1)], draws=3, base=said)
    assert [prompt.prefill for prompt in prompts[3:]] == [f"<think>Thought {n}.</think>" for n in (0, 1, 0)]


def test_runner_up_is_the_same_for_all_conditions_and_draws(make_sample: Make) -> None:
    samples = [make_sample(f"q{number}", images=(b"x",)) for number in range(30)]
    model = FakeModel(opens_images=False, guess=1.0)
    base = model.respond(list(expand(samples, [], draws=2)))
    conditions = [WrongThink(), WrongCaption(), StopThink()]
    prompts = list(expand(samples, conditions, draws=2, base=base, distractor="runner_up"))
    logprobs = {response.sample_id: response.option_logprobs for response in base if response.draw == 0}
    for prompt in prompts:
        wrong = {index: value for index, value in enumerate(logprobs[prompt.sample.id] or ()) if index != 1}
        assert prompt.distractor == max(wrong, key=wrong.__getitem__)
        assert prompt.asserted in (None, prompt.distractor)
    drawn = expand(samples, conditions, draws=2, base=base)
    assert [prompt.distractor for prompt in drawn] != [prompt.distractor for prompt in prompts]


def test_without_letters_there_is_no_runner_up(make_sample: Make) -> None:
    sample = make_sample()
    said = Response.parse(Prompt.of(sample), "<think>.</think><answer>A</answer>")
    prompts = expand([sample], [WrongThink(), StopThink()], base=[said], distractor="runner_up")
    assert [prompt.condition for prompt in prompts] == ["base", "stop_think"]
    [(_, row)] = prompts.not_applicable
    assert (
        row.error
        == "condition 'wrong_think' asserts the runner-up under base, and no letters of options were read there"
    )
    own = expand([make_sample(distractor=2)], [WrongThink()], base=[said], distractor="runner_up")
    assert own[1].asserted == 2


def test_the_runner_up_needs_base(make_sample: Make) -> None:
    prompts = expand([make_sample()], [StopThink()], distractor="runner_up")
    assert prompts[0].distractor is None
    with pytest.raises(ValueError, match="condition 'stop_think': expected the response under base, got none"):
        prompts[1]
    with pytest.raises(ValueError, match="field 'distractor': expected 'random' or 'runner_up', got 'second'"):
        expand([make_sample()], [], distractor="second")  # type: ignore[arg-type]


def test_composition_needs_base_if_a_part_does(make_sample: Make) -> None:
    prompts = expand([make_sample()], [])
    assert [prompts.needs_base(c) for c in (Base(), EarlyAnswer(), Compose(StopThink(), EarlyAnswer()))] == [
        False,
        True,
        True,
    ]


def test_unperturbed_prompt_is_shared_only_within_a_sample(make_sample: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = make_sample("q"), make_sample("q").replace(question="Something else?")
    prompts = expand([one], [StopThink(), EarlyAnswer()], draws=2)
    made: list[tuple[str, int]] = []
    of = Prompt.of

    def counted(sample: Sample, **given: Any) -> Prompt:
        made.append((sample.question, given["draw"]))
        return of(sample, **given)

    monkeypatch.setattr(Prompt, "of", counted)
    for condition in prompts.conditions[:2]:
        for draw in range(2):
            assert prompts.make(one, condition, draw).draw == draw
    assert made == [(one.question, 0), (one.question, 1)]
    assert prompts.make(other, StopThink()).question == other.question
    assert prompts.make(one, StopThink()).question == one.question
    said = [
        Response(sample_id="q", condition="base", status="unparsed", think=thought, own_think=thought)
        for thought in ("It is red. I see it.", "It is blue. I see it.")
    ]
    early = [prompts.make(one, EarlyAnswer(), 0, {("q", 0): response}) for response in said]
    assert [prompt.base for prompt in early] == said
