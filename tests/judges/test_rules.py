import re
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust import Prompt, Response, Responses
from vlmrobust.judges import RuleJudge
from vlmrobust.judges.conclusion import concluded_option
from vlmrobust.perturbations import OptionLetters
from vlmrobust.perturbations.caption import CAPTION_TEMPLATES, hedged
from vlmrobust.perturbations.texts import THINK_TEMPLATES

COLOURS = ("red", "blue", "green", "yellow")
WORDS = st.text("abcdefghij ABCDEäß中红.,;()'-0123456789*", min_size=1, max_size=24)


def _key(text):
    return "".join(char for char in text.casefold() if char.isalnum())


OPTIONS = st.lists(WORDS.filter(lambda text: len(_key(text)) > 1), min_size=2, max_size=8, unique_by=_key)


def _filled(template, question, option):
    text = " ".join(option.split()).replace('"', "'").rstrip(".")
    return template.replace("{question}", question).replace("{option}", text)


@pytest.mark.parametrize("template", THINK_TEMPLATES)
@pytest.mark.parametrize("hedge", [None, "but I think", "but I could be wrong"])
@given(options=OPTIONS, data=st.data())
def test_the_librarys_own_thoughts_assert_their_option(template, hedge, options, data):
    index = data.draw(st.integers(0, len(options) - 1))
    thought = _filled(template, "Which colour is the cube?", options[index])
    if hedge:
        thought = hedged(thought, hedge)
    assert concluded_option(thought, options) == (index, False)


@pytest.mark.parametrize("template", THINK_TEMPLATES)
def test_templates_with_everyday_options(template):
    for options in (COLOURS, ("left", "right", "above", "below"), ("1", "2", "3", "4"), ("one", "two", "three", "four"),
                    ("yes", "no"), ("A", "B", "C", "D"), ("B", "A", "D", "C"), ("dark red", "red", "dark"),
                    ("in front of the table", "behind the table"), ("Yes. It is.", "No. It isn't."),
                    ("both", "neither", "the first", "none of the above")):  # fmt: skip
        for index, option in enumerate(options):
            for question in ("Where is the cube?", "Is the answer red or blue?", "Which letter is shown, A or B?"):
                for thought in (
                    _filled(template, question, option),
                    hedged(_filled(template, question, option), "but I think"),
                ):
                    assert concluded_option(thought, options) == (index, False), thought


@pytest.mark.parametrize("template", THINK_TEMPLATES)
@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("second", range(4))
def test_what_the_model_says_after_a_hedge_wins(template, first, second):
    opening = hedged(_filled(template, "Which colour is the cube?", COLOURS[first]), "but I think")
    said = f"{opening} the image shows {COLOURS[second]}. So the answer is {COLOURS[second]}."
    assert concluded_option(said, COLOURS) == (second, False)
    assert concluded_option(f"{opening} it is {COLOURS[second]}.", COLOURS) == (second, False)
    assert concluded_option(f"{opening} it is {COLOURS[second]}", COLOURS) == (second, False)


@pytest.mark.parametrize("template", CAPTION_TEMPLATES)
def test_a_caption_that_is_quoted_is_outdone_by_what_is_seen(template):
    caption = _filled(template, "Which colour is the cube?", "red")
    assert concluded_option(f"{caption} However, the cube is blue. So the answer is B.", COLOURS) == (1, False)


@pytest.mark.parametrize(
    "options", [COLOURS, ("A", "B", "C"), ("I", "see", "final"), ("this", "be", "let"), ("1", "2")]
)
def test_the_empty_thought_asserts_nothing(options):
    thought = "Okay let's see. This should be the final answer."
    if "see" not in options and "this" not in options:
        assert concluded_option(thought, options) == (None, False)


@pytest.fixture(scope="module")
def scenes():
    from vlmrobust import demo

    return demo.samples(40)


def test_the_demos_thoughts_and_captions(scenes):
    for sample in scenes:
        for kind in ("think", "caption"):
            texts = {sample.answer: sample.texts[f"correct_{kind}"], **sample.texts[f"wrong_{kind}"]}
            assert len(texts) == len(sample.options)
            for option, text in texts.items():
                assert concluded_option(text, sample.options) == (option, False)


def test_a_demo_thought_that_breaks_off_before_its_conclusion_stays_open(scenes):
    several = 0
    for sample in scenes:
        described, _, conclusion = sample.texts["correct_think"].rpartition(". ")
        assert conclusion.startswith("So the answer is ")
        words = set(described.replace(",", "").split())
        if sample.metadata["kind"] in ("colour", "shape") and len(words & set(sample.options)) > 1:
            several += 1
            assert concluded_option(f"{described}.", sample.options) == (None, True)
    assert several > 5


def test_letters_and_added_options_refer_to_what_is_shown(make_sample):
    sample = make_sample()
    prompt = Prompt.of(sample).replace(
        options=("I'm not sure", "yellow", "green", "blue", "red"), order=(None, 3, 2, 1, 0)
    )
    thoughts = ["So it is option B.", "So it is red.", "The answer is A.", "So the answer is I'm not sure.", "B or C."]
    said = [Response.parse(prompt, f"<think>{thought}</think><answer>B</answer>") for thought in thoughts]
    responses = Responses.of([prompt] * len(said), said)
    verdicts = RuleJudge().conclude(responses)
    assert verdicts.option.tolist() == [3, 0, -1, -1, -1]
    assert verdicts.unsure.tolist() == [False, False, False, False, True]
    assert verdicts.probability.isnan().all()
    consistent = RuleJudge().consistent(responses)
    torch.testing.assert_close(consistent, torch.tensor([1.0, 0.0, *[float("nan")] * 3]), equal_nan=True)


def test_thoughts_name_the_letters_that_were_shown(make_sample):
    prompt = OptionLetters(letters="PQRS")(Prompt.of(make_sample()))
    thoughts = ["So it is option Q.", "The answer is S.", "(P) is correct.", "The answer is A.", "Q or R."]
    said = [Response.parse(prompt, f"<think>{thought}</think><answer>Q</answer>") for thought in thoughts]
    verdicts = RuleJudge().conclude(Responses.of([prompt] * len(said), said))
    assert verdicts.option.tolist() == [1, 3, 0, -1, -1]
    assert verdicts.unsure.tolist()[-1]


@given(st.text(), st.lists(st.text(), max_size=26))
def test_never_raises(thought, options):
    option, unsure = concluded_option(thought, options)
    assert option is None or (0 <= option < len(options) and not unsure)


PARTS = st.lists(
    st.sampled_from(
        ["The answer is", "So", "B", "A", "red", "blue", "not", "or", "Wait,", "but", "I think it is", ".", "?", "\n",
         ",", "I'm not sure", "Yes", "the cube", "is wrong", "is correct", "option", "(C)", "if", "答案是"]
    ),
    max_size=14,
)  # fmt: skip


@given(PARTS, st.permutations("FGHJKPQRUVWZ"))
def test_a_thought_says_the_same_in_other_letters(parts, letters):
    text = " ".join(parts)
    renamed = re.sub("(?<![A-Za-z])[BC](?![A-Za-z])", lambda found: letters["BC".index(found[0])], text)
    assert concluded_option(renamed, COLOURS, f"A{letters[0]}{letters[1]}D") == concluded_option(text, COLOURS)


@given(PARTS, st.sampled_from(COLOURS))
def test_a_plain_conclusion_at_the_end_is_the_verdict(parts, colour):
    text = f"{' '.join(parts)}.\n\nTo conclude. The final answer is {colour}."
    assert concluded_option(text, COLOURS)[0] in (COLOURS.index(colour), None)
    neutral = f"Let me look at the image. The final answer is {colour}."
    assert concluded_option(neutral, COLOURS) == (COLOURS.index(colour), False)


@given(PARTS, st.sampled_from(COLOURS))
def test_what_stands_far_before_the_conclusion_does_not_matter(parts, colour):
    filler = "The picture was taken in a bright room. " * 20
    text = f"{' '.join(parts)}. {filler}So the answer is {colour}."
    assert concluded_option(text, COLOURS) == (COLOURS.index(colour), False)


@given(PARTS)
def test_renaming_the_options_renames_the_verdict(parts):
    text = " ".join(part for part in parts if part not in ("A", "B", "(C)", "option", "答案是"))
    option, unsure = concluded_option(text, ("red", "blue", "green", "yellow"))
    turned, turned_unsure = concluded_option(text, ("yellow", "green", "blue", "red"))
    assert (None if option is None else 3 - option, unsure) == (turned, turned_unsure)


def test_a_training_batch_takes_a_fraction_of_a_second():
    sentence = "I see a large metallic cube next to a small red sphere, and behind both of them stands a blue cone. "
    thoughts = [f"{sentence * 12}Number {number}. So the answer is B." for number in range(1024)]
    seconds = []
    for _ in range(3):
        start = time.process_time()
        for thought in thoughts:
            concluded_option(thought, COLOURS)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.6


@pytest.mark.parametrize(
    "unit", ["red. ", "wait ", "red or ", "a. ", "not ", "\n", "?", "red, ", "option a ", "答案是红"]
)
def test_a_megabyte_of_garbage_is_read_at_once(unit):
    start = time.process_time()
    concluded_option(unit * (1_000_000 // len(unit)), COLOURS)
    assert time.process_time() - start < 2
