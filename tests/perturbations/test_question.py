"""Rewritten questions keep their meaning in any script; opinions assert the distractor; second turns."""

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust import Evaluator, NotApplicable, Perturbation, Prompt, Response, Sample, Style, expand
from vlmrobust.perturbations import (
    AbstainOption,
    AreYouSure,
    Casing,
    EarlyAnswer,
    NeutralSecondTurn,
    NeutralThink,
    OptionLetters,
    RotatedOptions,
    Spacing,
    SuggestedAnswer,
    SuggestedSecondTurn,
    Typos,
    WrongCaption,
    WrongThink,
)
from vlmrobust.store import RunDirectory
from vlmrobust.testing import FakeModel, check_perturbation

Make = Callable[..., Sample]
REWRITINGS = (*(Typos(severity=s) for s in range(1, 6)), Casing(), Casing(to="upper"), Spacing())
LONG = "How many of the yellow triangles stand between the green squares and the purple circles of row 12 000?"


def rewritten(condition: Perturbation, sample: Sample, seed: int = 0) -> str:
    """Return the question as it is shown: as it was where the condition would leave it so."""
    try:
        return condition(Prompt.of(sample), seed).question
    except NotApplicable:
        return sample.question


@given(st.from_type(Sample), st.integers(0, 99))
def test_only_words_of_the_question_change(sample: Sample, seed: int) -> None:
    for condition in REWRITINGS:
        question = rewritten(condition, sample, seed)
        assert re.findall(r"<image>|\d", question) == re.findall(r"<image>|\d", sample.question)
        if question == sample.question:
            continue
        prompt = condition(Prompt.of(sample), seed)
        assert prompt.replace(question=sample.question, condition="base") == Prompt.of(sample)
        assert len(prompt.messages()[0]["content"]) >= 1 + len(sample.images)


@given(st.from_type(Sample))
def test_spacing_changes_only_spaces_and_casing_only_case(sample: Sample) -> None:
    assert rewritten(Spacing(), sample).split() == sample.question.split()
    for to in ("upper", "lower"):
        assert rewritten(Casing(to=to), sample).casefold().split() == sample.question.casefold().split() or any(
            letter.upper().casefold() != letter.lower().casefold() for letter in sample.question
        )


def test_spacing_doubles_gaps_outside_numbers(make_sample: Make) -> None:
    assert rewritten(Spacing(), make_sample(question="Are 10 000 <image> or 3 red dots there?")) == (
        "Are  10 000 <image> or  3  red  dots  there?"
    )


def test_casing_keeps_single_letters_and_codes(make_sample: Make) -> None:
    sample = make_sample(question="Is point A on line B2 of Figure 3a, Straße Ⅷ?")
    assert rewritten(Casing(to="upper"), sample) == "IS POINT A ON LINE B2 OF FIGURE 3a, STRASSE Ⅷ?"
    assert rewritten(Casing(), sample) == "is point A on line B2 of figure 3a, straße Ⅷ?"


def edits(one: str, other: str) -> int:
    """Return the Damerau-Levenshtein distance (optimal string alignment)."""
    table = [[max(i, j) if not i * j else 0 for j in range(len(other) + 1)] for i in range(len(one) + 1)]
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            table[i][j] = min(
                table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (one[i - 1] != other[j - 1])
            )
            if i > 1 and j > 1 and one[i - 1] == other[j - 2] and one[i - 2] == other[j - 1]:
                table[i][j] = min(table[i][j], table[i - 2][j - 2] + 1)
    return table[-1][-1]


@pytest.mark.parametrize("seed", range(5))
def test_a_typo_is_one_edit_of_a_longer_word(make_sample: Make, seed: int) -> None:
    sample = make_sample(question=LONG)
    for severity in range(1, 6):
        pairs = list(zip(LONG.split(), rewritten(Typos(severity=severity), sample, seed).split(), strict=True))
        changed = [(word, typo) for word, typo in pairs if word != typo]
        assert changed
        for word, typo in changed:
            assert len(word) >= 4
            assert word[0] == typo[0]
            assert edits(word, typo) == 1


def test_typos_are_nested_with_the_rate_of_the_severity(make_sample: Make) -> None:
    rates = [0.0] * 5
    for number in range(200):
        sample = make_sample(f"q{number}", question=LONG)
        found: list[set[tuple[int, str]]] = []
        for severity in range(1, 6):
            typed = rewritten(Typos(severity=severity), sample).split()
            pairs = enumerate(zip(LONG.split(), typed, strict=True))
            found.append({(place, typo) for place, (word, typo) in pairs if word != typo})
            rates[severity - 1] += len(found[-1]) / 200
        assert all(weaker <= stronger for weaker, stronger in itertools.pairwise(found))
    long_words = sum(len(re.sub(r"\W|\d", "", word)) >= 4 for word in LONG.split())
    assert [rate / long_words for rate in rates[2:]] == pytest.approx([0.2, 0.35, 0.5], abs=0.04)
    assert all(rate >= 1 for rate in rates)


def test_short_words_have_no_typos(make_sample: Make) -> None:
    for question in ("How old?", "1234 5678?", "½½½½½ <image>"):
        with pytest.raises(NotApplicable, match="'typos_3' leaves the question as it is"):
            Typos()(Prompt.of(make_sample(question=question)))


@pytest.mark.parametrize("by", ["user", "expert"])
def test_an_opinion_asserts_the_distractor_and_nothing_else_changes(make_sample: Make, by: str) -> None:
    prompt = Prompt.of(make_sample(options=('"red"', "blue\nish", "green")), distractor=0)
    changed = SuggestedAnswer(by=by)(prompt)
    assert changed.asserted == 0
    assert "\"'red'\"" in changed.context
    assert "blue" not in changed.context
    assert changed.replace(context="", asserted=None, condition="base") == prompt
    assert changed.condition == {"user": "suggested_answer", "expert": "suggested_answer_expert"}[by]
    again = SuggestedAnswer(by=by)(prompt.replace(context="A caption."))
    assert again.context == f"A caption.\n\n{changed.context}"


ANSWERED = "<think>It is green.</think><answer>B</answer>"
REPLIES = [AreYouSure(), SuggestedSecondTurn(), NeutralSecondTurn()]


def with_base_answer(sample: Sample, said: str = ANSWERED, style: Style | None = None, **fields: Any) -> Prompt:
    unperturbed = Prompt.of(sample, style=style, distractor=0)
    return unperturbed.replace(base=Response.parse(unperturbed, said, **fields))


@pytest.mark.parametrize("condition", REPLIES, ids=lambda one: one.condition)
def test_only_the_reply_is_new(make_sample: Make, condition: Any) -> None:
    prompt = with_base_answer(make_sample())
    changed = condition(prompt)
    answer, reply = changed.history
    assert (answer.role, answer.text, reply.role) == ("assistant", ANSWERED, "user")
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
        ("It is green.</think><answer>B</answer>\n", None, ANSWERED),
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
