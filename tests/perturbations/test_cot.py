"""The model's own thought cut short, led astray, replaced and paraphrased."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vlmrobust import NotApplicable, Perturbation, Prompt, Response, Sample, Style
from vlmrobust.perturbations import AddedMistake, EarlyAnswer, FillerThought, ParaphrasedThought, early_answering

Make = Callable[..., Sample]
THOUGHT = "I see a cube. It has 3.5 cm sides!  Is it red? No,\nit is blue."


def politely(thought: str) -> str:
    return f" If you please: {thought.lower()} "


def nothing(thought: str) -> str:
    return " "


def slip(prompt: Prompt, option: int, rng: np.random.Generator) -> str:
    return f"({prompt.sample.options[option]} after {len(prompt.base.own_think)} letters)"


ALL = (*early_answering(), AddedMistake(), FillerThought(), ParaphrasedThought(paraphrase=politely))


def after(sample: Sample, thought: str = THOUGHT, style: Style | None = None) -> Prompt:
    """Return an unperturbed prompt whose base response had this thought."""
    style = style or Style()
    asked = Prompt.of(sample, style=style, distractor=0)
    opening, closing = style.think_tags
    return asked.replace(base=Response.parse(asked, f"{opening}{thought}{closing}<answer>B</answer>"))


def test_an_early_answer_is_read_after_a_part_of_the_words(make_sample: Make) -> None:
    kept = [condition(after(make_sample())).prefill for condition in early_answering()]
    assert kept == [
        "<think></think>",
        "<think>I see a cube.</think>",
        "<think>I see a cube. It has 3.5 cm</think>",
        "<think>I see a cube. It has 3.5 cm sides!  Is it red?</think>",
        f"<think>{THOUGHT}</think>",
    ]
    assert EarlyAnswer(fraction=0.125).condition == "early_answer_12.5"


@given(st.text(min_size=1), st.floats(0, 1))
def test_what_is_kept_begins_the_thought_and_grows_with_the_fraction(thought: str, fraction: float) -> None:
    sample = Sample(id="q1", images=[b"x"], question="Which?", options=["red", "blue"], answer=1)
    base = Response(sample_id="q1", condition="base", answer=0, status="answered", own_think=thought)
    prompt = Prompt.of(sample, base=base)
    if not thought.strip():
        with pytest.raises(NotApplicable, match="there was none"):
            EarlyAnswer(fraction=fraction)(prompt)
        return
    lengths = []
    for part in (0, fraction / 2, fraction, 1):
        kept = EarlyAnswer(fraction=part)(prompt).prefill.removeprefix("<think>").removesuffix("</think>")
        assert thought.startswith(kept)
        lengths.append(len(kept))
    assert lengths == sorted(lengths)
    assert (lengths[0], lengths[-1]) == (0, len(thought.rstrip()))


def test_chinese_is_cut_between_characters(make_sample: Make) -> None:
    assert EarlyAnswer()(after(make_sample(), "图中是蓝色的 cube")).prefill == "<think>图中是蓝</think>"


def test_a_mistake_takes_the_place_of_each_sentence_in_turn(make_sample: Make) -> None:
    begun = {AddedMistake(source=slip)(after(make_sample(f"q{n}"))).prefill for n in range(60)}
    mistake = f"(red after {len(THOUGHT)} letters)"
    starts = ["", "I see a cube. ", "I see a cube. It has 3.5 cm sides!  "]
    starts += [starts[-1] + "Is it red? ", starts[-1] + "Is it red? No,\n"]
    assert begun == {f"<think>{start}{mistake}" for start in starts}


def test_a_mistake_asserts_the_distractor_from_the_sample_or_in_a_statement(make_sample: Make) -> None:
    for n in range(10):
        changed = AddedMistake()(after(make_sample(f"q{n}")))
        assert changed.asserted == 0
        assert changed.prefill.endswith("he cube is red.")
        assert "</think>" not in changed.prefill
    own = after(make_sample(distractor=0, texts={"wrong_sentence": "It must be red."}))
    assert AddedMistake()(own).prefill.endswith("It must be red.")


def test_filler_is_as_many_words_as_the_thought(make_sample: Make) -> None:
    for filler in ("…", "hm"):
        changed = FillerThought(filler=filler)(after(make_sample()))
        assert changed.prefill == f"<think>{' '.join([filler] * len(THOUGHT.split()))}</think>"
    with pytest.raises(ValidationError, match="pattern"):
        FillerThought(filler=" ")


def test_a_paraphrase_is_a_named_callable_and_has_to_say_something(make_sample: Make) -> None:
    changed = ParaphrasedThought(paraphrase=politely)(after(make_sample()))
    assert changed.prefill == f"<think>If you please: {THOUGHT.lower()}</think>"
    with pytest.raises(ValueError, match="sample 'q1', condition 'paraphrased_thought': expected a paraphrase"):
        ParaphrasedThought(paraphrase=nothing)(after(make_sample()))
    with pytest.raises(ValidationError, match="expected a callable with a name of its own at the top of a module"):
        ParaphrasedThought(paraphrase=lambda thought: thought)
    with pytest.raises(ValidationError, match=r"expected a callable \(thought\) -> str, got str"):
        ParaphrasedThought(paraphrase="politely")


@pytest.mark.parametrize("condition", ALL, ids=lambda condition: condition.condition)
def test_what_all_of_them_have_in_common(make_sample: Make, condition: Perturbation) -> None:
    sample = make_sample()
    with pytest.raises(ValueError, match=r"expected the response under base in 'prompt\.base', got none"):
        condition(Prompt.of(sample, distractor=0))
    with pytest.raises(
        NotApplicable, match=f"'{condition.condition}' changes the thought under base, and there was none"
    ):
        condition(after(sample, " "))
    cut = after(sample)
    cut = cut.replace(base=Response.parse(cut, "<think>The cube", finish_reason="length"))
    with pytest.raises(
        NotApplicable, match=f"'{condition.condition}' changes the thought under base, which was cut off"
    ):
        condition(cut)
    with pytest.raises(NotApplicable, match="the style's mode is 'direct'"):
        condition(after(sample).replace(style=Style(mode="direct")))
    tagged = condition(after(sample, style=Style(think_tags=("[T]", "[/T]")))).prefill
    assert tagged.startswith("[T]")
    assert tagged.endswith("[/T]") == (not isinstance(condition, AddedMistake))
