"""Thoughts: length, repetition against TRL's loop, and sentences labelled by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust.metrics import ConflictAcknowledgement, Repetition, ThoughtLength
from vlmrobust.metrics.thoughts import acknowledges_conflict

NAN = math.nan

CONFLICT = [
    "The caption says the cube is red, but the image shows a blue cube.",
    "The caption claims there are five birds. However, the picture clearly shows only three.",
    "Although the caption states that the cup is on the left, in the image it is on the right.",
    "The description says it's a cat, but I can see a dog.",
    "Looking at the image, the car is green, while the caption describes it as yellow.",
    "The caption contradicts the image.",
    "This contradicts the caption, since the image shows two lamps: the image contradicts the caption.",
    "There is a conflict between the caption and the image.",
    "There is a clear discrepancy between what the image shows and the caption.",
    "The caption doesn't match the image.",
    "The given text does not agree with what I see in the picture.",
    "The caption is wrong.",
    "The caption appears to be incorrect, so I rely on the picture.",
    "The provided description is misleading; the ball is behind the box.",
    "Contrary to the caption, the cube is blue.",
    "Despite what the caption says, the bus faces left.",
    "Unlike the caption, I count four apples.",
    "My earlier reasoning was wrong: the sphere is green.",
    "The previous statement is incorrect, the chair is in front of the table.",
    "Wait, the initial assessment is not correct. The image shows a blue ball.",
    "But that is not what the caption says.",
    "The hint suggests option A, but the image does not support it.",
    "The user says it is a truck, yet the photo shows a bicycle.",
    "I should ignore the misleading caption and look at the scene.",
    "The image is inconsistent with the caption.",
    "The caption’s claim is false: I see no red cube.",
    "The caption says **red**. In reality, the image shows a blue cube.",
    "The picture shows three dogs, but the caption mentions five.",
    "The caption isn't accurate, as the object is metallic.",
    "The photo depicts a beach, whereas the caption says it is a desert.",
    "The caption states two chairs, yet I count three in the image.",
    "That contradicts the caption.",
    "The caption and the image do not agree.",
    "The caption and the image contradict each other.",
    "There seems to be a mismatch: the caption says red, the image shows blue.",
    "What I said earlier is wrong.",
    "The caption is not consistent with the image.",
    "However, the image itself does not show a red cube, so the caption must be wrong.",
    "The caption suggests a red cube, although the image contains only blue cubes.",
    "This differs from the caption.",
    "The provided caption does not reflect the scene in the image.",
]
NO_CONFLICT = [
    "",
    "The cube is blue.",
    "The caption says the cube is red, and the image shows a red cube.",
    "The caption matches the image.",
    "The caption does not contradict the image.",
    "There is no conflict between the caption and the image.",
    "Nothing in the image contradicts the caption.",
    "Does the caption match the image?",
    "If the caption is wrong, the answer would be B.",
    "Let me check whether the caption contradicts the image.",
    "The caption might be misleading.",
    "The caption says it is red, but let me look at the image.",
    "The caption says it is red, but the image also shows a red cube.",
    "The caption is not wrong.",
    "Option A is wrong.",
    "Option B is an incorrect description of the scene.",
    "The sign in the image says stop, but the light is green.",
    "The two cars differ from each other in colour.",
    "The ball is red, but the cube is blue.",
    "Wait, let me look again. The cube is blue.",
    "The image does not match option C.",
    "I think the caption is right, so the answer is A.",
    "The caption describes a red cube. I see a red cube next to a ball.",
    "According to the caption, the bus faces left.",
    "The text on the shirt is not readable in the image.",
    "The question asks for the colour, but the image is dark.",
    "Statement C is false, since the image shows two lamps.",
    "The caption says the cup is left, but I cannot tell from the image.",
    "I don't see any discrepancy between the caption and the picture.",
    "The first option is incorrect and the second is correct.",
    "I see a dog, but it is far away from the caption text.",
    "The caption could contradict the image.",
    "The caption and the image do not contradict each other.",
    "The image shows a caption that says sale, but the shop is closed.",
    "The user asks about the colour, but I see several cubes.",
    "Unlike the other cars, this one is red.",
    "It is wrong to assume that the caption is enough.",
    "The user wants to know whether it is red, but the scene is dark.",
]


@pytest.mark.parametrize("thought", CONFLICT)
def test_a_conflict_is_acknowledged(thought):
    assert acknowledges_conflict(thought)
    assert acknowledges_conflict(f"Let me think about it.\n{thought} So the answer is B.")


@pytest.mark.parametrize("thought", NO_CONFLICT)
def test_other_thoughts_acknowledge_no_conflict(thought):
    assert not acknowledges_conflict(thought)
    assert not acknowledges_conflict(f"Let me think about it. {thought}\nSo the answer is B.")


@given(st.text(max_size=200))
def test_any_text_is_accepted(text):
    assert acknowledges_conflict(text) in (False, True)


def test_prefill_is_ignored(plain_responses):
    said = {"think": "The caption is wrong. I see blue.", "own_think": "I see blue."}
    responses = plain_responses(said, {"own_think": "The caption is wrong."}, {"own_think": ""})
    assert ConflictAcknowledgement()(responses).tolist() == pytest.approx([0, 1, NAN], nan_ok=True)


def test_length_counts_words_and_is_nan_without_text(plain_responses):
    responses = plain_responses(
        {"own_think": "I  see\na cube.", "well_formed": True, "n_tokens": 12},
        {"own_think": "", "well_formed": True, "n_tokens": 5},
        {"own_think": "", "well_formed": None, "n_tokens": 0},
        {"own_think": "half a", "well_formed": False, "status": "truncated", "answer": None},
    )
    assert ThoughtLength()(responses).tolist() == pytest.approx([4, 0, NAN, 2], nan_ok=True)
    assert ThoughtLength(unit="tokens")(responses).tolist() == pytest.approx([12, 5, NAN, NAN], nan_ok=True)


def trl_repetition_penalty(completion, ngram_size, max_penalty):
    """The loop of TRL's reward, as it is documented: arXiv:2502.03373, appendix C.2."""
    words = completion.lower().split()
    if len(words) < ngram_size:
        return 0.0
    seen, total = set(), 0
    for start in range(len(words) - ngram_size + 1):
        seen.add(" ".join(words[start : start + ngram_size]))
        total += 1
    return (1 - len(seen) / total) * max_penalty


@given(words=st.lists(st.sampled_from(["the", "The", "cube", "is", "red"]), max_size=20), n=st.integers(1, 5))
def test_repetition_equals_trls_penalty(words, n, plain_responses):
    thought = " ".join(words)
    [value] = Repetition(n=n)(plain_responses({"own_think": thought})).tolist()
    if len(words) < n:
        assert math.isnan(value)
    else:
        assert value == pytest.approx(-trl_repetition_penalty(thought, n, -1.0), abs=1e-6)


def test_settings_are_part_of_the_column():
    assert [ThoughtLength(unit="tokens").column, Repetition(n=4).column] == ["thought_length_tokens", "repetition_4"]
    assert [ThoughtLength(name="words").column, Repetition(n=4, name="loops").column] == ["words", "loops"]
