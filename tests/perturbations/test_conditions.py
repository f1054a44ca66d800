"""The paper's conditions, on samples of every kind."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust import Prompt, Sample, Style, expand, paper_conditions
from vlmrobust.perturbations import (
    AbstainOption,
    CorrectCaption,
    CorrectThink,
    NotApplicable,
    StopThink,
    WrongCaption,
    WrongThink,
    draw_distractor,
)
from vlmrobust.perturbations.expansion import check_conditions
from vlmrobust.perturbations.statements import statements

Make = Callable[..., Sample]
NAMES = [
    "base",
    "stop_think",
    "wrong_think",
    "wrong_think_but",
    "wrong_caption",
    "wrong_caption_disclaimer",
    "correct_caption",
    "correct_think",
]


@given(st.from_type(Sample), st.integers(0, 2**32))
def test_conditions_assert_the_distractor_or_the_answer(sample: Sample, seed: int) -> None:
    prompts = {prompt.condition: prompt for prompt in expand([sample], paper_conditions(), seed=seed)}
    assert list(prompts) == NAMES
    distractor = draw_distractor(sample, seed)
    assert distractor != sample.answer
    assert {prompt.distractor for prompt in prompts.values()} == {distractor}
    for name, prompt in prompts.items():
        expected = distractor if "wrong" in name else sample.answer if "correct" in name else None
        assert prompt.asserted == expected
        assert (prompt.images, prompt.question, prompt.options) == (sample.images, sample.question, sample.options)


@given(st.from_type(Sample), st.integers(0, 99))
def test_wrong_and_correct_texts_differ_only_in_the_option(sample: Sample, seed: int) -> None:
    """The same text comes out when the two options change places."""
    mark = "\ue000"
    distractor = draw_distractor(sample, seed)

    def with_mark(index: int) -> Sample:
        return sample.replace(
            distractor=distractor, options=[mark if i == index else o for i, o in enumerate(sample.options)]
        )

    wrong = [
        p for p in expand([with_mark(distractor)], [WrongCaption(), WrongThink()], seed=seed) if p.condition != "base"
    ]
    correct = [
        p
        for p in expand([with_mark(sample.answer)], [CorrectCaption(), CorrectThink()], seed=seed)
        if p.condition != "base"
    ]
    for one, other in zip(wrong, correct, strict=True):
        assert (one.context, one.prefill) == (other.context, other.prefill)
        assert mark in one.context + one.prefill


@given(st.from_type(Sample), st.integers(0, 99))
def test_hedge_is_the_only_difference(sample: Sample, seed: int) -> None:
    prompts = {prompt.condition: prompt for prompt in expand([sample], paper_conditions(), seed=seed)}
    thought, hedged_thought = prompts["wrong_think"].prefill, prompts["wrong_think_but"].prefill
    assert hedged_thought == thought.removesuffix(".") + ", but I think"
    caption, disclaimed = prompts["wrong_caption"].context, prompts["wrong_caption_disclaimer"].context
    assert disclaimed == caption.removesuffix(".") + ", but I could be wrong."


@given(st.from_type(Sample))
def test_texts_are_whole_sentences_that_state_the_option_or_quote_it(sample: Sample) -> None:
    for prompt in expand([sample], [WrongCaption(), WrongThink()], seed=0):
        text = prompt.context or prompt.prefill.removeprefix("<think>")
        if text:
            assert text[0].isupper()
            assert text.endswith(".")
            assert text.count('"') % 2 == 0
            option = " ".join(sample.options[prompt.asserted or 0].split()).replace('"', "'")
            option = option.rstrip(".") or option
            stated = statements(sample.question, sample.options) is not None
            assert option.casefold() in text.casefold() if stated else f'"{option}"' in text
            assert "\n" not in text


def test_placeholders_in_question_or_option_are_not_filled(make_sample: Make) -> None:
    sample = make_sample(question="What does {option} mean?", options=("{question}", "a slot"), answer=1)
    for prompt in expand([sample], [WrongThink(), WrongCaption()], seed=0)[1:]:
        assert '"What does {option} mean?"' in prompt.context + prompt.prefill
        assert '"{question}"' in prompt.context + prompt.prefill


def test_own_texts_are_used_unchanged(make_sample: Make) -> None:
    texts = {
        "wrong_caption": {0: "A red cube.", 2: "A green cube.", 3: "A yellow cube."},
        "correct_caption": "A blue cube.",
        "wrong_think": {index: f"I see {index}." for index in (0, 2, 3)},
        "correct_think": {1: "It is blue."},
    }
    for seed in range(6):
        sample = make_sample(texts=texts)
        prompts = {p.condition: p for p in expand([sample], paper_conditions(), seed=seed)}
        distractor = draw_distractor(sample, seed)
        assert prompts["wrong_caption"].context == texts["wrong_caption"][distractor]  # type: ignore[index]
        assert prompts["wrong_think"].prefill == f"<think>I see {distractor}."
        assert prompts["wrong_think_but"].prefill == f"<think>I see {distractor}, but I think"
        assert prompts["correct_caption"].context == "A blue cube."
        assert prompts["correct_think"].prefill == "<think>It is blue."


def test_a_mapping_without_the_distractor_falls_back_to_a_statement(make_sample: Make) -> None:
    sample = make_sample(texts={"wrong_caption": {0: "A red cube."}}, distractor=2)
    assert expand([sample], [WrongCaption()])[1].context.endswith(": The cube is green.")


def test_bare_text_for_another_option_is_rejected(make_sample: Make) -> None:
    sample = make_sample(texts={"wrong_caption": "A red cube."}, distractor=0)
    with pytest.raises(
        ValueError, match=r"sample 'q1', field 'texts.wrong_caption': expected a text that asserts option 2"
    ):
        WrongCaption()(Prompt.of(sample, distractor=2))


def test_missing_distractor_is_reported(make_sample: Make) -> None:
    for condition in (WrongCaption(), WrongThink()):
        with pytest.raises(ValueError, match=f"condition '{condition.condition}': .* create prompts with 'expand'"):
            condition(Prompt.of(make_sample()))


def test_thoughts_use_the_styles_tags(make_sample: Make) -> None:
    style = Style(think_tags=("[T]", "[/T]"))
    prompts = expand([make_sample()], [StopThink(), WrongThink()], style=style)
    assert prompts[1].prefill == "[T]Okay let's see. This should be the final answer.[/T]"
    assert prompts[2].prefill.startswith("[T]")
    assert "[/T]" not in prompts[2].prefill


@pytest.mark.parametrize("condition", [StopThink(), WrongThink(), CorrectThink()])
def test_thoughts_do_not_apply_to_direct_answers(make_sample: Make, condition: WrongThink) -> None:
    prompt = Prompt.of(make_sample(), style=Style(mode="direct"), distractor=0)
    with pytest.raises(NotApplicable, match=f"condition '{condition.condition}' prefills a thought"):
        condition(prompt)


def test_captions_do_apply_to_direct_answers(make_sample: Make) -> None:
    assert WrongCaption()(Prompt.of(make_sample(), style=Style(mode="direct"), distractor=0)).context


def test_abstain_adds_an_option(make_sample: Make) -> None:
    prompt = (WrongThink() + AbstainOption())(Prompt.of(make_sample(), distractor=0))
    assert prompt.options == ("red", "blue", "green", "yellow", "I'm not sure")
    assert prompt.order == (0, 1, 2, 3, None)
    assert prompt.condition == "wrong_think+abstain_option"
    assert prompt.text.count("E. I'm not sure") == 1


def test_abstain_where_it_does_not_apply(make_sample: Make) -> None:
    full = make_sample(options=tuple(map(str, range(26))))
    with pytest.raises(NotApplicable, match="an added option needs a letter, and all 26 are in use"):
        AbstainOption()(Prompt.of(full))
    own = make_sample(options=("red", "blue", "I'm not sure"))
    with pytest.raises(NotApplicable, match="is among the sample's own"):
        AbstainOption()(Prompt.of(own))
    assert AbstainOption(text="Unclear")(Prompt.of(own)).options[-1] == "Unclear"


COMMAND_LINE = "; names are for the command line: write an instance, such as vlmrobust.perturbations.WrongThink()"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (StopThink(), "expected a list of perturbations, got one: write [StopThink()]"),
        (WrongThink(hedge="or not"), "expected a list of perturbations, got one: write [WrongThink(…)]"),
        (StopThink, "expected a list of perturbations, got the class StopThink: write StopThink()"),
        ("wrong_think", f"expected a list of perturbations, got str: 'wrong_think'{COMMAND_LINE}"),
        ([WrongThink(), StopThink], "expected perturbations, got the class StopThink: write StopThink()"),
        (["wrong_think"], f"expected perturbations, got str: 'wrong_think'{COMMAND_LINE}"),
        ([StopThink(), 3], "expected perturbations, got int: 3"),
    ],
)
def test_wrong_lists_of_conditions_are_rejected_with_a_correction(given: Any, sentence: str) -> None:
    with pytest.raises(TypeError, match=f"^{re.escape(sentence)}$"):
        check_conditions(given)
