"""Folding, squeezing and word boundaries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust.judges.sentences import QuestionContext
from vlmrobust.prompting.mentions import Mention, Reading
from vlmrobust.prompting.words import fold, plain_form, squeeze, stands_alone, without_labels

TEXTS = st.lists(
    st.sampled_from(
        ["ice", "Ice-creams", "the", "12", "1,000", "2.50", "$x^2$", r"\frac{1}{2}", "猫", "left", "isn't", "."]
    )
).map(" ".join)


@pytest.mark.parametrize(
    "forms",
    [
        ("ice cream", "Ice-creams", "icecream", "the ice cream"),
        ("15 degrees", "15°", r"$15^{\circ}$", r"15^\circ", "fifteen degrees"),
        ("1/2", r"\frac{1}{2}", r"\dfrac{1}{2}", r"$\frac12$"),
        ("9 cm", r"9 \mathrm{~cm}", r"$9\,\text{cm}$", "nine centimetres"),
        ("53.0/100000", "53 per 100,000"),
        ("to the right", "to the rightward"),
        ("50 %", "50%", r"50\%", "50 percent"),
        ("shelves", "shelf"),
        ("grey", "gray"),
    ],
)
def test_equivalent_forms_squeeze_equally(forms):
    assert len({squeeze(fold(form)).text for form in forms}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1 2", "12"),
        ("x^2", "2x"),
        ("-2", "2"),
        ("2.5", "25"),
        ("red", "dark red"),
        ("H^+", "H^-"),
        ("point A", "point"),
    ],
)
def test_different_texts_squeeze_differently(one, other):
    assert squeeze(fold(one)).text != squeeze(fold(other)).text


@given(TEXTS)
def test_squeezed_words_are_found_at_their_positions(text):
    folded = fold(text)
    squeezed = squeeze(folded)
    assert len(squeezed.starts) == len(squeezed.ends)
    for word in ("猫", "left"):
        places = [folded[start:end] for start, end in squeezed.find(plain_form(word))]
        assert all(plain_form(place) == plain_form(word) for place in places)
        assert len(places) == sum(plain_form(part) == plain_form(word) for part in folded.split())


@pytest.mark.parametrize(
    ("text", "word", "alone"),
    [
        ("a dark-red cube", "red", False),
        ("a red cube", "red", True),
        ("it is 2.5 m", "2", False),
        ("x = l/3 here", "3", False),
        ("3 + 5 = 8", "5", False),
        ("3 + 5 = 8", "8", True),
        ("two and a half", "two", False),
        ("the right answer", "right", False),
        ("on the right", "right", True),
    ],
)
def test_stands_alone(text, word, alone):
    at = text.index(word)
    assert stands_alone(text, at, at + len(word)) is alone


def test_options_that_differ_only_in_inflection_are_distinguished():
    reading = Reading.of("It was opened.", ("open", "opened"))
    assert reading.mentions(0, len(reading.text)) == [Mention(7, 13, 1)]


def test_option_is_not_matched_across_sentences():
    reading = Reading.of("It is on the wrist. Watch it.", ("wristwatch", "ring"))
    assert reading.mentions(0, len(reading.text)) == []


def test_distinctive_words():
    options = ("Rightward turn - the camera turned", "Leftward turn - the camera turned")
    assert QuestionContext.of("How does the view change?", options).distinctive == {"right": 0, "left": 1}


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        (("A. red", "B. blue"), ("red", "blue")),
        (("(a) red", "(b) blue"), ("red", "blue")),
        (("A) red", "B) blue"), ("red", "blue")),
        (("A: red", "B: blue"), ("red", "blue")),
        (("A.红色", "B.蓝色"), ("红色", "蓝色")),
        (("A. Point B", "B. Point A"), ("Point B", "Point A")),
        (("A. f(b) = 1", "B. f(a) = 1"), ("f(b) = 1", "f(a) = 1")),
        (("A. <image 1>", "B. <image 2>"), ("<image 1>", "<image 2>")),
        (("A. > 5 cm", "B. < 5 cm"), ("> 5 cm", "< 5 cm")),
        (
            ("A. is left of the dog", "B. is right of the dog", "C. is on the mat"),
            ("is left of the dog", "is right of the dog", "is on the mat"),
        ),
    ],
)
def test_labels_of_options_are_left_out(options, texts):
    assert without_labels(options) == texts


@pytest.mark.parametrize(
    "options",
    [
        ("A. Lincoln", "B. Obama", "J. Adams"),
        ("A.D.", "B.C."),
        ("A. B.", "B. A."),
        ("A:B", "B:C"),
        ("A: B", "B: A"),
        ("A. it", "B. it"),
        ("A.png", "B.jpg"),
        ("A: left, B: right", "B: left, A: right"),
        ("A: 左B: 右", "B: 左A: 右"),
        ("(A) only", "(B) only"),
        ("(A) and (B)", "(B) and (A)"),
        ("(A)→(B)", "(B)→(A)"),
        ("(A) > B", "(B) > A"),
        ("(A) -> the cat", "(B) -> the dog"),
    ],
)
def test_options_that_speak_of_letters_keep_them(options):
    assert without_labels(options) == options
