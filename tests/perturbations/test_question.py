"""Rewritten questions keep their meaning in any script; opinions assert the distractor."""

import itertools
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust import NotApplicable, Perturbation, Prompt, Sample
from vlmrobust.perturbations import Casing, Spacing, SuggestedAnswer, Typos

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
