"""The model's own thought truncated, with a mistake, replaced by filler, and paraphrased."""

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


def paraphrase_politely(thought: str) -> str:
    return f" If you please: {thought.lower()} "


def return_blank(thought: str) -> str:
    return " "


def describe_mistake(prompt: Prompt, option: int, rng: np.random.Generator) -> str:
    return f"({prompt.sample.options[option]} with_thought {len(prompt.base.own_think)} letters)"


ALL = (*early_answering(), AddedMistake(), FillerThought(), ParaphrasedThought(paraphrase=paraphrase_politely))


def with_thought(sample: Sample, thought: str = THOUGHT, style: Style | None = None) -> Prompt:
    """Return an unperturbed prompt whose base response had this thought."""
    style = style or Style()
    unperturbed = Prompt.of(sample, style=style, distractor=0)
    opening, closing = style.think_tags
    return unperturbed.replace(base=Response.parse(unperturbed, f"{opening}{thought}{closing}<answer>B</answer>"))


def test_early_answer_truncates_the_thought(make_sample: Make) -> None:
    kept = [condition(with_thought(make_sample())).prefill for condition in early_answering()]
    assert kept == [
        "<think></think>",
        "<think>I see a cube.</think>",
        "<think>I see a cube. It has 3.5 cm</think>",
        "<think>I see a cube. It has 3.5 cm sides!  Is it red?</think>",
        f"<think>{THOUGHT}</think>",
    ]
    assert EarlyAnswer(fraction=0.125).condition == "early_answer_12.5"


@given(st.text(min_size=1), st.floats(0, 1))
def test_kept_part_is_a_prefix_that_grows_with_the_fraction(thought: str, fraction: float) -> None:
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


def test_chinese_is_truncated_between_characters(make_sample: Make) -> None:
    assert EarlyAnswer()(with_thought(make_sample(), "图中是蓝色的 cube")).prefill == "<think>图中是蓝</think>"


def test_mistake_can_replace_every_sentence(make_sample: Make) -> None:
    begun = {AddedMistake(source=describe_mistake)(with_thought(make_sample(f"q{n}"))).prefill for n in range(60)}
    mistake = f"(red with_thought {len(THOUGHT)} letters)"
    starts = ["", "I see a cube. ", "I see a cube. It has 3.5 cm sides!  "]
    starts += [starts[-1] + "Is it red? ", starts[-1] + "Is it red? No,\n"]
    assert begun == {f"<think>{start}{mistake}" for start in starts}


def test_mistake_is_the_samples_own_text_or_a_statement(make_sample: Make) -> None:
    for n in range(10):
        changed = AddedMistake()(with_thought(make_sample(f"q{n}")))
        assert changed.asserted == 0
        assert changed.prefill.endswith("he cube is red.")
        assert "</think>" not in changed.prefill
    own = with_thought(make_sample(distractor=0, texts={"wrong_sentence": "It must be red."}))
    assert AddedMistake()(own).prefill.endswith("It must be red.")


def test_filler_has_as_many_words_as_the_thought(make_sample: Make) -> None:
    for filler in ("…", "hm"):
        changed = FillerThought(filler=filler)(with_thought(make_sample()))
        assert changed.prefill == f"<think>{' '.join([filler] * len(THOUGHT.split()))}</think>"
    with pytest.raises(ValidationError, match="pattern"):
        FillerThought(filler=" ")


def test_paraphrase_must_be_a_named_callable_that_returns_text(make_sample: Make) -> None:
    changed = ParaphrasedThought(paraphrase=paraphrase_politely)(with_thought(make_sample()))
    assert changed.prefill == f"<think>If you please: {THOUGHT.lower()}</think>"
    with pytest.raises(ValueError, match="sample 'q1', condition 'paraphrased_thought': expected a paraphrase"):
        ParaphrasedThought(paraphrase=return_blank)(with_thought(make_sample()))
    with pytest.raises(ValidationError, match="expected a callable with a name of its own at the top of a module"):
        ParaphrasedThought(paraphrase=lambda thought: thought)
    with pytest.raises(ValidationError, match=r"expected a callable \(thought\) -> str, got str"):
        ParaphrasedThought(paraphrase="uppercase_politely")


@pytest.mark.parametrize("condition", ALL, ids=lambda condition: condition.condition)
def test_common_behaviour(make_sample: Make, condition: Perturbation) -> None:
    sample = make_sample()
    with pytest.raises(ValueError, match=r"expected the response under base in 'prompt\.base', got none"):
        condition(Prompt.of(sample, distractor=0))
    with pytest.raises(
        NotApplicable, match=f"'{condition.condition}' changes the thought under base, and there was none"
    ):
        condition(with_thought(sample, " "))
    cut = with_thought(sample)
    cut = cut.replace(base=Response.parse(cut, "<think>The cube", finish_reason="length"))
    with pytest.raises(
        NotApplicable, match=f"'{condition.condition}' changes the thought under base, which was cut off"
    ):
        condition(cut)
    with pytest.raises(NotApplicable, match="the style's mode is 'direct'"):
        condition(with_thought(sample).replace(style=Style(mode="direct")))
    tagged = condition(with_thought(sample, style=Style(think_tags=("[T]", "[/T]")))).prefill
    assert tagged.startswith("[T]")
    assert tagged.endswith("[/T]") == (not isinstance(condition, AddedMistake))
