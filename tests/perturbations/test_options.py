"""Options reordered or re-lettered, with indices that follow them."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from vlmrobust import NotApplicable, Perturbation, Prompt, Response, Sample, Style
from vlmrobust.perturbations import (
    AbstainOption,
    AnswerFirst,
    OptionLetters,
    RotatedOptions,
    ShuffledOptions,
    rotations,
)
from vlmrobust.prompting import LETTERS

Make = Callable[..., Sample]


def is_movable(sample: Sample) -> bool:
    """Return whether no option speaks of others, as "A, B" does."""
    try:
        ShuffledOptions()(Prompt.of(sample))
    except NotApplicable:
        return False
    return True


@given(st.from_type(Sample), st.integers(0, 99), st.booleans())
def test_texts_and_indices_move_together_and_added_options_do_not(sample: Sample, seed: int, abstains: bool) -> None:
    prompt = (
        AbstainOption(text="\ue000")(Prompt.of(sample)) if abstains and len(sample.options) < 26 else Prompt.of(sample)
    )
    for condition in (RotatedOptions(), ShuffledOptions(), AnswerFirst()):
        try:
            changed = condition(prompt, seed)
        except NotApplicable:  # an option that speaks of others, as "A, B" does
            continue
        assert Counter(changed.order) == Counter(prompt.order)
        for text, index in zip(changed.options, changed.order, strict=True):
            assert text == ("\ue000" if index is None else sample.options[index])
        assert [index is None for index in changed.order] == [index is None for index in prompt.order]
        assert (changed.question, changed.context, changed.prefill) == (prompt.question, prompt.context, prompt.prefill)


@given(st.from_type(Sample).filter(is_movable))
def test_rotations_show_every_option_once_at_every_position(sample: Sample) -> None:
    count = len(sample.options)
    prompts = [Prompt.of(sample), *(rotation(Prompt.of(sample)) for rotation in rotations(count))]
    columns = zip(*(prompt.order for prompt in prompts), strict=True)
    assert [sorted(column) for column in columns] == [list(range(count))] * count  # type: ignore[type-var]
    with pytest.raises(NotApplicable, match=f"a rotation by {count} needs more than {count} options"):
        RotatedOptions(by=count)(Prompt.of(sample))


def test_a_rotation_is_a_circular_shift(make_sample: Make) -> None:
    prompt = RotatedOptions(by=3)(Prompt.of(make_sample()))
    assert prompt.options == ("yellow", "red", "blue", "green")
    assert "A. yellow\nB. red" in prompt.text
    assert Response.parse(prompt, "<think>.</think><answer>C</answer>").answer == 1
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        RotatedOptions(by=0)
    with pytest.raises(ValueError, match="expected at least 2 options to rotate, got 1"):
        rotations(1)


def test_shuffles_are_uniform_over_the_other_orders(make_sample: Make) -> None:
    orders = Counter(
        ShuffledOptions()(Prompt.of(make_sample(f"q{n}", options=("red", "blue", "green")))).order for n in range(1500)
    )
    assert len(orders) == 5
    assert (0, 1, 2) not in orders
    assert sum((count - 300) ** 2 / 300 for count in orders.values()) < 18.5  # chi-square, 4 df, p = 0.001


@given(st.from_type(Sample).filter(is_movable))
def test_the_answer_comes_first_and_the_others_keep_their_order(sample: Sample) -> None:
    first, *others = AnswerFirst()(Prompt.of(sample)).order
    assert first == sample.answer
    assert others == sorted(set(range(len(sample.options))) - {sample.answer})


@pytest.mark.parametrize("condition", [RotatedOptions(), ShuffledOptions(), AnswerFirst()], ids=repr)
def test_an_order_composes_with_an_added_option_either_way(make_sample: Make, condition: Perturbation) -> None:
    prompt = Prompt.of(make_sample())
    for seed in range(5):
        before, after = (c(prompt, seed) for c in (AbstainOption() + condition, condition + AbstainOption()))
        assert before.options == after.options
        assert before.order == after.order


def test_answer_first_needs_the_correct_option(make_sample: Make) -> None:
    without = Prompt.of(make_sample()).replace(options=("red", "green"), order=(0, 2))
    with pytest.raises(NotApplicable, match="the correct option is not shown"):
        AnswerFirst()(without)
    lone = Prompt.of(make_sample()).replace(options=("red", "I'm not sure"), order=(0, None))
    with pytest.raises(NotApplicable, match="a shuffle needs 2 options, got 1"):
        ShuffledOptions()(lone)


@given(st.from_type(Sample), st.permutations(LETTERS))
def test_option_letters_do_not_change_the_options(sample: Sample, letters: list[str]) -> None:
    count, prompt = len(sample.options), Prompt.of(sample)
    condition = OptionLetters(letters="".join(letters))
    assume("".join(letters[:count]) != LETTERS[:count])
    changed = condition(prompt)
    assert changed == prompt.replace(condition="option_letters", style=Style(letters="".join(letters)))
    lines = "\n".join(f"{letter}. {text}" for letter, text in zip(letters, sample.options, strict=False))
    assert f"\n{lines}\n" in changed.text


def test_letters_belong_to_positions(make_sample: Make) -> None:
    prompt = (RotatedOptions() + OptionLetters())(Prompt.of(make_sample()))
    assert "P. blue\nQ. green\nR. yellow\nS. red" in prompt.text
    assert prompt == (OptionLetters() + RotatedOptions())(Prompt.of(make_sample())).replace(condition=prompt.condition)
    response = Response.parse(prompt, "<think>.</think><answer>S</answer>", option_logprobs=[-4, -3, -2, -1])
    assert (response.answer, response.option_logprobs) == (0, (-1, -4, -3, -2))


def test_too_few_or_unchanged_letters_are_not_applicable(make_sample: Make) -> None:
    prompt = Prompt.of(make_sample())
    with pytest.raises(NotApplicable, match="4 options need as many letters, and 'PQR' are 3"):
        OptionLetters(letters="PQR")(prompt)
    with pytest.raises(NotApplicable, match="the options have the letters 'ABCD' already"):
        OptionLetters(letters="ABCDZ")(prompt)
    four = OptionLetters(letters="PQRS")
    with pytest.raises(NotApplicable, match="an added option needs a letter, and all 4 are in use"):
        (four + AbstainOption())(prompt)
    with pytest.raises(NotApplicable, match="5 options need as many letters"):
        (AbstainOption() + four)(prompt)
    with pytest.raises(
        ValidationError,
        match="expected 2 to 26 different capital letters from A to Z, or 2 to 10 different digits, got 'PP'",
    ):
        OptionLetters(letters="PP")


@pytest.mark.parametrize(
    ("option", "letters_too"),
    [
        ("Both A and C", True),
        ("(A), (B)", True),
        ("neither B nor C", True),
        ("Option B only", True),
        ("C is right", True),
        ("A und B", True),
        ("选项A和选项B", True),
        ("All of the above", False),
        ("None of the above.", False),
        ("more than one of the options above", False),
        ("Keine der oben genannten", False),
        ("以上都不是", False),
    ],
)
def test_options_that_refer_to_others_are_not_moved(make_sample: Make, option: str, letters_too: bool) -> None:
    prompt = Prompt.of(make_sample(options=("red", "blue", "green", option)))
    for condition in (RotatedOptions(by=2), ShuffledOptions(), AnswerFirst()):
        with pytest.raises(NotApplicable, match="speaks of others by letter or place, and would not stay true"):
            condition(prompt)
    if letters_too:
        with pytest.raises(NotApplicable, match="speaks of others by letter, and would not stay true"):
            OptionLetters()(prompt)
    else:
        assert OptionLetters()(prompt).options[3] == option


@pytest.mark.parametrize("label", ["{}. ", "({}) ", "{}) ", "{}: "])
@pytest.mark.parametrize("letters", ["ABC", "abc"])
def test_options_that_begin_with_their_letters_are_not_moved(make_sample: Make, label: str, letters: str) -> None:
    options = [label.format(letter) + text for letter, text in zip(letters, ("red", "blue", "an arch"), strict=True)]
    for condition in (RotatedOptions(), ShuffledOptions(), AnswerFirst(), OptionLetters()):
        with pytest.raises(NotApplicable, match="begin with letters of their own, such as"):
            condition(Prompt.of(make_sample(options=options)))
        # Initials of names are no letters of options.
        condition(Prompt.of(make_sample(options=["A. Lincoln", "J. Adams", "B. Obama"])))


@pytest.mark.parametrize(
    "option",
    [
        *("B", "vitamin B", "a cat and a dog", "E and F", "both", "Plan A", "Line AB", "I and II"),
        *("above the table", "The lamp is not above the table", "nothing below the bridge"),
    ],
)
def test_options_about_letters_or_positions_can_be_moved(make_sample: Make, option: str) -> None:
    prompt = Prompt.of(make_sample(options=("red", "blue", "green", option)))
    assert RotatedOptions(by=1)(prompt).options[2] == option
    assert OptionLetters()(prompt).options[3] == option
