"""Statements from questions and options, against a table and the judge."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust import Prompt, Response, Responses, Sample, demo, expand
from vlmrobust.judges import RuleJudge
from vlmrobust.manifest import config_of
from vlmrobust.perturbations import (
    AddedMistake,
    CorrectCaption,
    CorrectThink,
    NeutralCaption,
    NeutralThink,
    Perturbation,
    StopThink,
    WrongCaption,
    WrongThink,
)
from vlmrobust.perturbations.statements import statement, statements
from vlmrobust.perturbations.wordings import CAPTIONS, MISTAKES, THOUGHTS

Make = Callable[..., Sample]
Row = tuple[str, tuple[str, ...], tuple[str, ...] | None]


def _read() -> list[Row]:
    text = (Path(__file__).parent / "statements.txt").read_text(encoding="utf-8")
    rows = []
    for block in text.split("\n\n")[1:]:
        question, options, said = block.strip().split("\n")
        rows.append((question, tuple(options.split(" | ")), None if said == "-" else tuple(said.split(" | "))))
    return rows


ROWS = _read()
SURE = [(question, options, said) for question, options, said in ROWS if said]


@pytest.mark.parametrize(("question", "options", "said"), ROWS, ids=[row[0] for row in ROWS])
def test_statements(question: str, options: tuple[str, ...], said: tuple[str, ...] | None) -> None:
    assert statements(question, options) == said


def test_most_kinds_of_questions_have_statements() -> None:
    assert len(ROWS) - len(SURE) >= 20
    assert len(SURE) >= 200


def _concluded(question: str, options: tuple[str, ...], thoughts: list[str]) -> list[int]:
    sample = Sample(id="q", images=[b"x"], question=question, options=options, answer=0)
    prompts = [Prompt.of(sample)] * len(thoughts)
    responses = [
        Response.parse(prompt, f"<think>{thought}</think><answer>A</answer>")
        for prompt, thought in zip(prompts, thoughts, strict=True)
    ]
    return RuleJudge().conclude(Responses.of(prompts, responses)).option.tolist()


def test_judge_never_finds_another_option() -> None:
    read = 0
    for question, options, said in SURE:
        shown = [
            template.replace("{statement}", text) for text in said for template in (*CAPTIONS.stated, "{statement}")
        ]
        for place, option in enumerate(_concluded(question, options, shown)):
            assert option in (-1, place // (len(CAPTIONS.stated) + 1)), shown[place]
            read += option >= 0
    assert read > 3 * len(SURE)


def test_thoughts_assert_their_option() -> None:
    for question, options, said in SURE:
        for template in THOUGHTS.stated:
            thoughts = [
                template.replace("{statement}", text).replace("{option}", option.rstrip("."))
                for text, option in zip(said, options, strict=True)
            ]
            assert _concluded(question, options, thoughts) == list(range(len(options))), thoughts


def test_statement_without_an_option_asserts_nothing() -> None:
    for question, options, said in SURE:
        unspecific = statement(question, None, options)
        assert unspecific is not None
        assert unspecific not in said
        assert _concluded(question, options, [unspecific]) == [-1], unspecific


NOUNS = ("kettle", "old lighthouse", "umbrella", "bus", "man in the boat")
COLOURS = ("red", "blue", "orange", "dark green")
PLURALS = {"owl": "owls", "box": "boxes", "woman": "women", "red berry": "red berries", "wolf": "wolves"}


@given(st.sampled_from(NOUNS), st.permutations(COLOURS), st.sampled_from(["colour", "color"]))
def test_colours(noun: str, colours: list[str], word: str) -> None:
    expected = tuple(f"The {noun} is {colour}." for colour in colours)
    assert statements(f"What {word} is the {noun}?", tuple(colours)) == expected


@given(
    st.sampled_from(sorted(PLURALS)),
    st.lists(st.integers(0, 30), min_size=2, max_size=5, unique=True),
    st.sampled_from(["", " in the picture", " behind the fence"]),
)
def test_counts(noun: str, counts: list[int], place: str) -> None:
    expected = tuple(
        f"There is 1 {noun}{place}." if count == 1 else f"There are {count} {PLURALS[noun]}{place}." for count in counts
    )
    question = f"How many {PLURALS[noun]} are there{place}?"
    assert statements(question, tuple(map(str, counts))) == expected


@given(st.permutations(NOUNS[:4]), st.sampled_from(["closer to the door", "taller", "more colourful"]))
def test_comparisons(nouns: list[str], predicate: str) -> None:
    first, second = nouns[:2]
    question = f"Which object is {predicate}, the {first} (highlighted by a red box) or the {second} (in a blue box)?"
    assert statements(question, (second, first)) == (
        f"The {second} is {predicate} than the {first}.",
        f"The {first} is {predicate} than the {second}.",
    )


@given(st.sampled_from(NOUNS), st.sampled_from(["is", "was"]), st.sampled_from(["open", "on the left", "made of tin"]))
def test_yes_and_no(noun: str, be: str, predicate: str) -> None:
    expected = (f"The {noun} {be} not {predicate}.", f"The {noun} {be} {predicate}.")
    if noun != "man in the boat" or predicate == "open":
        assert statements(f"{be.capitalize()} the {noun} {predicate}?", ("No", "Yes")) == expected


@given(st.text(max_size=40), st.lists(st.text(max_size=12), min_size=2, max_size=4, unique=True))
def test_any_statement_is_a_sentence_or_none(question: str, options: list[str]) -> None:
    said = statements(question, tuple(options))
    assert said is None or (len(set(said)) == len(options) and all(text.endswith((".", "!")) for text in said))


def test_one_option_without_a_statement_prevents_all() -> None:
    assert statements("What is the boy holding?", ("kite", "drum")) is not None
    for odd in ("none of the above", "<image>", "not sure", "Cannot be determined", "a\nb"):
        assert statements("What is the boy holding?", ("kite", odd)) is None


def test_all_demo_questions_have_statements() -> None:
    scenes = demo.samples(60)
    assert {str(sample.metadata["kind"]) for sample in scenes} == {"colour", "shape", "count", "position", "relation"}
    for sample in scenes:
        said = statements(sample.question, sample.options)
        assert said is not None, sample.question
        assert _concluded(sample.question, sample.options, list(said)) == list(range(len(said)))


@pytest.mark.parametrize("seed", range(4))
def test_wrong_true_and_neutral_texts_have_one_form(make_sample: Make, seed: int) -> None:
    sample = make_sample(f"q{seed}", distractor=0)
    conditions = [WrongCaption(), CorrectCaption(), NeutralCaption(), WrongThink(), CorrectThink(), NeutralThink()]
    made = {p.condition: p.context or p.prefill for p in expand([sample], conditions, seed=seed)[1:]}
    for kind in ("caption", "think"):
        wrong, correct, neutral = (made[f"{name}_{kind}"] for name in ("wrong", "correct", "neutral"))
        assert "The cube is red." in wrong
        assert correct == wrong.replace("red", "blue")
        assert neutral == wrong.replace("The cube is red", "The cube is of some colour").replace('"red"', "something")


def test_a_question_that_no_rule_reads_is_quoted(make_sample: Make) -> None:
    sample = make_sample(question="Rot oder blau?", distractor=0)
    prompts = expand([sample], [WrongCaption(), NeutralCaption(), WrongThink()])[1:]
    for prompt in prompts:
        assert '"Rot oder blau?"' in prompt.context + prompt.prefill
    assert '"red"' in prompts[0].context
    assert "something" in prompts[1].context


def claim(prompt: Prompt, option: int, rng: object) -> str:
    return f"It is {prompt.sample.options[option]}."


@pytest.mark.parametrize("condition", [WrongCaption, CorrectCaption, WrongThink, CorrectThink, AddedMistake])
def test_the_words_version_is_part_of_a_runs_identity(condition: Callable[..., Perturbation]) -> None:
    assert config_of(condition())["version"] == 3
    assert "version" not in config_of(condition(source=claim))  # it is known by its name


def test_what_says_nothing_of_the_librarys_has_no_version() -> None:
    assert "version" not in config_of(StopThink())
    nested = config_of(NeutralThink() + WrongCaption())["perturbations"]
    assert [part["version"] for part in nested] == [3, 3]


def test_every_kind_of_text_is_worded_both_ways() -> None:
    for wording, part in itertools.product((CAPTIONS, THOUGHTS, MISTAKES), ("{statement}", "{option}")):
        templates = wording.stated if part == "{statement}" else wording.quoted
        assert all(part in template for template in templates)
        assert len(wording.stated) == len(wording.quoted)  # one draw, whichever it is
