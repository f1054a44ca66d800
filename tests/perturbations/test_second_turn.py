"""Second turns after the model's answer, and models that give in to them."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from vlmrobust import Evaluator, NotApplicable, Prompt, Response, Sample, Style, expand
from vlmrobust.perturbations import (
    AbstainOption,
    AreYouSure,
    EarlyAnswer,
    NeutralSecondTurn,
    NeutralThink,
    OptionLetters,
    RotatedOptions,
    SuggestedAnswer,
    SuggestedSecondTurn,
    WrongCaption,
    WrongThink,
)
from vlmrobust.store import RunDirectory
from vlmrobust.testing import FakeModel, check_perturbation

Make = Callable[..., Sample]
SAID = "<think>It is green.</think><answer>B</answer>"
REPLIES = [AreYouSure(), SuggestedSecondTurn(), NeutralSecondTurn()]


def with_base_answer(sample: Sample, said: str = SAID, style: Style | None = None, **fields: Any) -> Prompt:
    asked = Prompt.of(sample, style=style, distractor=0)
    return asked.replace(base=Response.parse(asked, said, **fields))


@pytest.mark.parametrize("condition", REPLIES, ids=lambda one: one.condition)
def test_only_the_reply_is_new(make_sample: Make, condition: Any) -> None:
    prompt = with_base_answer(make_sample())
    changed = condition(prompt)
    answer, reply = changed.history
    assert (answer.role, answer.text, reply.role) == ("assistant", SAID, "user")
    untouched = {"history": (), "asserted": None, "condition": "base"}
    assert changed.replace(**untouched) == prompt.replace(base=changed.base)
    names = [option for option in prompt.options if option in reply.text]
    suggests = isinstance(condition, SuggestedSecondTurn)
    assert names == ([prompt.options[0]] if suggests else [])
    assert changed.asserted == (0 if suggests else None)


def test_suggestion_has_the_wording_of_suggested_answer(make_sample: Make) -> None:
    prompt = with_base_answer(make_sample())
    early, late = SuggestedAnswer()(prompt, 3), SuggestedSecondTurn()(prompt, 3)
    assert late.history[-1].text == early.context
    assert (late.context, late.asserted) == ("", early.asserted)


@pytest.mark.parametrize(
    ("said", "style", "expected"),
    [
        ("It is green.</think><answer>B</answer>\n", None, SAID),
        ("<think>It is green.</think>\n\n<answer>B", None, "<think>It is green.</think>\n\n<answer>B</answer>"),
        ("B", Style(mode="direct"), "B"),
        ("\n</think>\n\nB", Style(mode="direct"), "<think></think>\n\nB"),
        ("<think>x</think>\n\nB", Style(answer_tags=None), "<think>x</think>\n\nB"),
    ],
)
def test_answer_is_a_complete_turn(make_sample: Make, said: str, style: Style | None, expected: str) -> None:
    prompt = with_base_answer(make_sample(), style=style)
    assert prompt.base is not None
    prompt = prompt.replace(base=prompt.base.replace(text=said))
    assert AreYouSure()(prompt).history[0].text == expected


@pytest.mark.parametrize(
    "base",
    [{"said": "<think>It is"}, {"said": "<think>No idea.</think>?"}, {"said": "<think>x", "finish_reason": "length"}],
)
def test_missing_answer_is_not_applicable(make_sample: Make, base: dict[str, Any]) -> None:
    with pytest.raises(
        NotApplicable, match="condition 'are_you_sure' replies to the answer under base, and there was none"
    ):
        AreYouSure()(with_base_answer(make_sample(), **base))


@pytest.mark.parametrize("other", [WrongCaption(), RotatedOptions(), AbstainOption(), OptionLetters()])
def test_second_turn_cannot_change_the_answered_question(make_sample: Make, other: Any) -> None:
    prompt = with_base_answer(make_sample())
    for joined in (AreYouSure() + other, other + AreYouSure()):
        with pytest.raises(NotApplicable, match="replies to the answer under base, and changes what that was asked"):
            joined(prompt)
    assert (EarlyAnswer() + other)(prompt).prefill, "what is in the model's mouth goes with another question"


def test_second_reply_is_not_applicable(make_sample: Make) -> None:
    with pytest.raises(NotApplicable, match="replies to the first answer, which has a reply already"):
        (AreYouSure() + NeutralSecondTurn())(with_base_answer(make_sample()))


def test_second_turn_can_have_a_prefill(make_sample: Make) -> None:
    prompt = with_base_answer(make_sample())
    for joined in (AreYouSure() + WrongThink(), WrongThink() + AreYouSure()):
        changed = joined(prompt)
        assert changed.history == AreYouSure()(prompt).history
        assert changed.prefill == WrongThink()(prompt).prefill


@pytest.mark.parametrize("condition", REPLIES, ids=lambda one: one.condition)
def test_second_turns_pass_the_perturbation_checks(condition: Any) -> None:
    check_perturbation(condition)


# --- planted ----------------------------------------------------------------------------------------------------------


class SycophanticModel:
    """Right in all samples but each fifth; changes its answer in one of two, or one of ten, by what the user says.

    What it is shown is read off the messages alone, as a model would.
    """

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        return [Response.parse(prompt, self.said(prompt)) for prompt in prompts]

    def said(self, prompt: Prompt) -> str:
        number = int(prompt.sample.id.removeprefix("q"))
        right = prompt.sample.answer
        before = right if number % 5 else (right + 1) % 4
        question, *since = prompt.messages()
        if not since:
            return self.turn(before)
        answer, reply = (turn["content"][0]["text"] for turn in since)
        assert answer == self.turn(before)
        assert question == Prompt.of(prompt.sample).messages()[0]
        if "I think the answer is" in reply:
            return self.turn(next(place for place, option in enumerate(prompt.options) if f'"{option}"' in reply))
        gives_in = number % 2 == 0 if "sure" in reply else number % 10 == 1
        # Right becomes wrong and the other way round.
        return self.turn((right + 1) % 4 if before == right else right) if gives_in else self.turn(before)

    @staticmethod
    def turn(option: int) -> str:
        return f"<think>I see.</think><answer>{'ABCD'[option]}</answer>"

    def identity(self) -> dict[str, Any]:
        return {"class": "GivesIn"}


@pytest.fixture
def scenes(make_sample: Make) -> list[Sample]:
    return [make_sample(f"q{number}", answer=number % 4) for number in range(60)]


def test_flips_are_counted_relative_to_the_control(scenes: list[Sample]) -> None:
    report = Evaluator(SycophanticModel(), REPLIES).run(scenes)
    value = report.summary.set_index(["condition", "metric"])["value"]
    # Of 60: 48 right under base. Of the 30 even ones 24 were right, 6 wrong; of the 6 that end in 1 all were right.
    assert value["base", "accuracy"] == pytest.approx(48 / 60)
    assert value["are_you_sure", "harmed"] == pytest.approx(24 / 60)
    assert value["are_you_sure", "helped"] == pytest.approx(6 / 60)
    assert value["are_you_sure", "flip_rate"] == pytest.approx(30 / 60)
    assert value["are_you_sure", "accuracy"] == pytest.approx(30 / 60)
    assert value["neutral_second_turn", "harmed"] == pytest.approx(6 / 60)
    assert value["neutral_second_turn", "helped"] == 0
    assert value["suggested_second_turn", "follow_rate"] == 1
    assert value["suggested_second_turn", "accuracy"] == 0
    against = report.contrast("are_you_sure", "neutral_second_turn").set_index("metric")
    expected = {"harmed": 18 / 60, "helped": 6 / 60, "flip_rate": 24 / 60, "accuracy": -12 / 60}
    for metric, difference in expected.items():
        assert against.loc[metric, "difference"] == pytest.approx(difference), metric
        assert against.loc[metric, "low"] < difference < against.loc[metric, "high"]
    assert against.loc["harmed", "base_value"] == pytest.approx(6 / 60)


def test_missing_control_is_reported_as_a_limitation(scenes: list[Sample]) -> None:
    def kinds(*conditions: Any) -> list[tuple[str, tuple[str, ...]]]:
        found = Evaluator(SycophanticModel(), conditions).run(scenes).findings()
        return [(one.kind, one.labels) for one in found if one.kind == "no_control"]

    assert kinds(AreYouSure(), SuggestedSecondTurn()) == [("no_control", ("are_you_sure", "suggested_second_turn"))]
    assert kinds(AreYouSure(), SuggestedSecondTurn(), NeutralSecondTurn()) == []
    # A neutral reply is no control of a caption, nor of a thought.
    assert kinds(WrongCaption(), NeutralSecondTurn()) == [("no_control", ("wrong_caption",))]
    # Where a thought is begun beside a reply that asserts something, the claim is the reply's.
    assert kinds(SuggestedSecondTurn() + NeutralThink(), NeutralSecondTurn()) == []


def test_run_with_second_turns_is_resumed(scenes: list[Sample], tmp_path: Any) -> None:
    first = Evaluator(SycophanticModel(), REPLIES).run(scenes[:8], out=tmp_path)

    class Silent(SycophanticModel):
        def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
            raise AssertionError("everything is answered")

    again = Evaluator(Silent(), REPLIES).run(scenes[:8], out=tmp_path)
    assert again.frame.equals(first.frame)
    assert again.responses.history == first.responses.history != ((),) * len(first.responses)
    # Another reply is another condition.
    with pytest.raises(ValueError, match=r"conditions\.are_you_sure\.words"):
        Evaluator(SycophanticModel(), [AreYouSure(words="Really?")]).run(scenes[:8], out=tmp_path)
    directory = RunDirectory(tmp_path)
    directory.begin(scenes[:1])
    prompts = list(expand(scenes[:1], [AreYouSure()], base=SycophanticModel().respond(list(expand(scenes[:1], [])))))
    assert directory.finished(prompts[1]) is not None
    other = prompts[1].replace(history=(prompts[1].history[0], {"role": "user", "text": "No?"}))
    with pytest.raises(ValueError, match="expected the recorded prompt with digest"):
        directory.finished(other)


def test_fake_model_answers_second_turns(make_sample: Make) -> None:
    report = Evaluator(FakeModel(opens_images=False), REPLIES).run([make_sample()])
    assert set(report.responses.status) == {"answered"}
