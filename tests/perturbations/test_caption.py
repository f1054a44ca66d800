"""Captions that assert nothing: neutral and irrelevant ones."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust import NotApplicable, Perturbation, Prompt, Sample
from vlmrobust.judges import RuleJudge
from vlmrobust.perturbations import (
    CorrectThink,
    IrrelevantCaption,
    NeutralCaption,
    NeutralThink,
    WrongCaption,
    WrongThink,
    draw_distractor,
)
from vlmrobust.perturbations.wordings import IRRELEVANT_CAPTIONS
from vlmrobust.types import Response, Responses

Make = Callable[..., Sample]


def added(prompt: Prompt) -> str:
    return prompt.context or prompt.prefill.removeprefix("<think>")


@pytest.mark.parametrize(("neutral", "wrong"), [(NeutralCaption(), WrongCaption()), (NeutralThink(), WrongThink())])
@given(sample=st.from_type(Sample), words=st.integers(1, 12), seed=st.integers(0, 99))
def test_neutral_text_replaces_the_option_by_as_many_words(
    neutral: Perturbation, wrong: Perturbation, sample: Sample, words: int, seed: int
) -> None:
    mark = " ".join("\ue000" * words)
    distractor = draw_distractor(sample, seed)
    options = [mark if index == distractor else text for index, text in enumerate(sample.options)]
    prompt = Prompt.of(sample.replace(options=options), distractor=distractor)
    try:
        said, asserted = neutral(prompt, seed), wrong(prompt, seed)
    except NotApplicable as reason:  # an option says just that
        [phrase] = re.findall(r"says '(.+)', which names an option", str(reason))
        assert any(option.strip().casefold() in phrase for option in sample.options)
        return
    assert (said.asserted, asserted.asserted) == (None, distractor)
    pieces = map(re.escape, added(asserted).split(f'"{mark}"'))
    found = re.fullmatch("(something|an [a-z ]+?)".join(pieces), added(said))
    assert found
    assert len(found[1].split()) == min(words, 8)


@pytest.mark.parametrize("condition", [NeutralCaption(), IrrelevantCaption(), NeutralThink()], ids=repr)
def test_the_rule_judge_finds_no_assertion(make_sample: Make, condition: Perturbation) -> None:
    prompts = [
        condition(
            Prompt.of(make_sample(f"q{n}", options=("deep red", "blue", "dark green of the sea")), distractor=n % 3)
        )
        for n in (0, 2, 3, 5, 6)
    ]
    thoughts = [Response.parse(prompt, f"<think>{added(prompt)}</think><answer>A</answer>") for prompt in prompts]
    bare = [prompt.replace(prefill="") for prompt in prompts]
    verdicts = RuleJudge().conclude(Responses.of(bare, thoughts))
    assert verdicts.option.tolist() == [-1] * 5


def test_neutral_text_that_would_name_an_option_is_not_applicable(make_sample: Make) -> None:
    sample = make_sample(question="Quid est?", options=("Something", "nothing"), answer=1)
    for condition in (NeutralCaption(), NeutralThink()):
        with pytest.raises(NotApplicable, match="says 'something', which names an option of the sample"):
            condition(Prompt.of(sample, distractor=0))
    letters = make_sample(question="Quid est?", options=("A", "B"), answer=1)
    assert "something" in NeutralCaption()(Prompt.of(letters, distractor=0)).context


def test_irrelevant_captions_name_no_option(make_sample: Make) -> None:
    seen = set()
    for number in range(60):
        sample = make_sample(f"q{number}", options=("Honey", "PAPER", "a violin", "sea"))
        caption = IrrelevantCaption()(Prompt.of(sample)).context
        assert not re.search(r"\b(honey|paper|a violin|sea)\b", caption, re.IGNORECASE)
        seen.add(caption)
    assert seen == {text for text in IRRELEVANT_CAPTIONS if "water boils" in text}
    plain = {IrrelevantCaption()(Prompt.of(make_sample(f"q{number}"))).context for number in range(60)}
    assert plain == set(IRRELEVANT_CAPTIONS)
    with pytest.raises(NotApplicable, match="every text about something else names an option"):
        IrrelevantCaption()(Prompt.of(make_sample(options=("caption", "of the image"))))


@pytest.mark.parametrize(
    ("condition", "key"),
    [
        (NeutralCaption(), "neutral_caption"),
        (IrrelevantCaption(), "irrelevant_caption"),
        (NeutralThink(), "neutral_think"),
    ],
)
def test_own_text_takes_precedence(make_sample: Make, condition: Perturbation, key: str) -> None:
    prompt = Prompt.of(make_sample(texts={key: " A quiet afternoon. "}), distractor=0)
    assert added(condition(prompt)) == "A quiet afternoon."
    for bad in ({0: "A red one."}, " "):
        wrong = Prompt.of(make_sample(texts={key: bad}), distractor=0)
        with pytest.raises(
            ValueError, match=rf"sample 'q1', field 'texts.{key}': expected a text that asserts no option"
        ):
            condition(wrong)


def test_neutral_thought_is_left_open(make_sample: Make) -> None:
    prompt = Prompt.of(make_sample(), distractor=0)
    for condition in (NeutralThink(), WrongThink(), CorrectThink()):
        assert "</think>" not in condition(prompt).prefill
