"""Conclusions found by rules: kinds of evidence, robustness and speed."""

import re
import string
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vlmrobust import Prompt, Response, Responses
from vlmrobust.judges import RuleJudge
from vlmrobust.judges.evidence import RELIABILITY, concluded_option
from vlmrobust.perturbations import OptionLetters
from vlmrobust.perturbations.wordings import CAPTIONS, hedged
from vlmrobust.perturbations.wordings import THOUGHTS as INJECTED

COLOURS = ("red", "blue", "green", "yellow")
WORDS = st.text("abcdefghij ABCDEäß中红.,()'-0123456789*", min_size=1, max_size=24)


def conclude(thought, options=COLOURS, question="", letters=string.ascii_uppercase):
    """Return the concluded option (None = none), and whether the judge is unsure."""
    found = concluded_option(thought, options, letters, question)
    assert (found.option is None) == (found.kind == "")
    assert not (found.unsure and found.option is not None)
    assert found.kind in {"", *RELIABILITY}
    return found.option, found.unsure


NEARER = "Which stands nearer to the viewer, the barrel or the ladder?"
TALLER = "Which of the two is taller, the poplar or the spruce?"
PAIR = ("barrel", "ladder")
TREES = ("poplar", "spruce")
SHIFTS = ("Rightward pan – the camera turns to the right.", "Leftward pan – the camera turns to the left.")
SEATS = ("on a bench", "under the awning", "in the shade", "beside the pool")
ANGLES = (r"$35^{\circ}$", r"$55^{\circ}$", r"$125^{\circ}$")

MAT, TRUTH = "The tabby is on the mat.", ("True", "False")
AREAS = (r"$\frac{11}2 \mathrm{~cm}^{2}$", r"$\frac{13}2 \mathrm{~cm}^{2}$")

# (kind, question, options, thought, index that is concluded; None = none or open)
THOUGHTS = [
    ("affirmed", MAT, TRUTH, "A tabby lies there. The picture suggests that the tabby is indeed on the red mat.", 0),
    ("affirmed", MAT, TRUTH, 'The statement "The tabby is on the mat" is not supported by the picture.', 1),
    ("affirmed", MAT, TRUTH, "There is a tabby beside a mat, and it does not appear to be on the mat at all.", 1),
    ("affirmed", "Is the tabby on the mat?", ("no", "yes"), "I see that the tabby is lying on the mat.", 1),
    ("affirmed", MAT, TRUTH, "There is no bowl, but the tabby is on the mat.", 0),
    ("affirmed", MAT, TRUTH, "The tabby is not only on the mat but asleep.", 0),
    ("affirmed", MAT, TRUTH, "It is false that the tabby is on the mat.", 1),
    ("affirmed", MAT, TRUTH, "I see no indication that the tabby is on the mat.", 1),
    ("", MAT, TRUTH, "No dog is there, and the tabby is on the mat.", None),
    ("", MAT, TRUTH, "The dog is not on the mat, the tabby is on the mat.", None),
    ("", MAT, TRUTH, "The tabby is on the mat and not on the rug.", None),
    ("", "", COLOURS, "If the light were off, the answer would be A.", None),
    ("stated", "", COLOURS, "If I had to choose, the answer would be A.", 0),
    ("", MAT, TRUTH, "I wonder whether the tabby is on the mat.", None),
    ("", MAT, TRUTH, "The tabby sits on a chair that stands next to the mat.", None),
    ("", MAT, TRUTH, "The mat is on the tabby.", None),
    ("compared", NEARER, PAIR, "Look at the size.\n\nGiven that the ladder appears nearer due to its size,", 1),
    ("computed", "How much is it?", ("$3.40", "$7.10"), "Add both.\n- The total price = $2.10 + $5.00 = $7.10", 1),
    ("computed", "What is k?", ("2.33", "2.37"), r"We divide. $k = \frac{109.8}{46.3} \approx 2.37$.", 1),
    ("concluded", "How large is it?", AREAS, r"Therefore, the area is $\frac{13}{2}$.", 1),
    ("named", "Which ion is it?", ("<image 1>", "<image 2>"), "The ion with most charge is in option (B).", 1),
    ("stated", "", COLOURS, "The cube looks dull. The answer is C.", 2),
    ("stated", "", COLOURS, "The answer is B because A is wrong.", 1),
    ("concluded", "", COLOURS, "I'd say D as C does not fit at all.", 3),
    ("stated", "", COLOURS, "The correct option is A while B is wrong.", 0),
    ("stated", "", COLOURS, "So the answer is A, though it might be green.", 0),
    ("stated", "", COLOURS, "Not B but D is the answer. The answer is D.", 3),
    ("stated", "", ("not lit", "lit"), "The lamp is grey. So the answer is not lit.", 0),
    (
        "named",
        "Which plan fits?",
        ("<image 1>", "<image 2>", "<image 3>"),
        "Only option B has the porch. Option C lacks it.",
        1,
    ),
    ("named", "Which plan fits?", ("<image 1>", "<image 2>"), "Option A depicts this correctly.", 0),
    ("named", "", COLOURS, "The paint is that of the sea.\n\n(B)", 1),
    ("concluded", "", COLOURS, "The leaves and the cube share a tone. Therefore it is green.", 2),
    (
        "concluded",
        NEARER,
        PAIR,
        "Therefore, the barrel, which is in the red frame, is likely nearer than the ladder.",
        0,
    ),
    ("concluded", NEARER, PAIR, "So the barrel is nearer compared to the ladder.", 0),
    ("concluded", NEARER, PAIR, "So the barrel, rather than the ladder, is nearer.", 0),
    ("concluded", NEARER, PAIR, "Hence the ladder is closer than the barrel.", 1),
    (
        "inferred",
        "How does the view change?",
        SHIFTS,
        "Objects move to the left. This suggests that the camera turned to the right.",
        0,
    ),
    ("inferred", "How does the view change?", SHIFTS, "This indicates a leftward pan of the camera.", 1),
    ("compared", NEARER, PAIR, "The barrel looks nearer than the ladder.", 0),
    ("eliminated", NEARER, PAIR, "The barrel is by the gate. The ladder leans at the back, so it is farther away.", 0),
    ("eliminated", TALLER, TREES, "The spruce is shorter than the poplar.", 0),
    ("eliminated", "", COLOURS, "It is not red, and neither blue nor yellow fit.", 2),
    ("restated", "Where is the boy sitting?", SEATS, "The boy is sitting under the awning.", 1),
    ("restated", "Where is she?", SEATS, "She is in the shade.", 2),
    (
        "restated",
        "Where is the boy sitting?",
        SEATS,
        "The boy is sitting on a bench. The awning and the pool are both far off.",
        0,
    ),
    ("weighed", "", COLOURS, "A. red: no, too dull.\nB. blue: no.\nC. green: fits the leaves.\nD. yellow: no.", 2),
    ("computed", "How wide is the angle?", ANGLES, r"The two add up to 180 degrees, 180 - 125 = 55 degrees", 1),
    ("concluded", "How wide is the angle?", ANGLES, "So the angle is thirty-five degrees, no: it is 125 degrees.", 2),
    ("concluded", "How wide is the angle?", ANGLES, r"Thus the angle is $55^\circ$.", 1),
    ("concluded", "", ("Antibody driven lysis", "T cell lysis"), "So the cells die by antibody-driven lysis.", 0),
    ("concluded", "", ("53.0/100000", "58.0/100000"), "Therefore, the risk is 53 per 100,000.", 0),
    ("concluded", "", ("music stand", "kick stand"), "So it is a kickstand.", 1),
    # What is no evidence.
    ("none", NEARER, PAIR, "The barrel is next to the ladder.", None),
    ("none", "Is the claim true?", ("True", "False"), "The lines meet at B, and D lies between them.", None),
    (
        "none",
        "How long is BC?",
        ("3 cm", "4 cm", "5 cm"),
        "Segment AB equals BC, and the arc meets the line at C.",
        None,
    ),
    (
        "none",
        "",
        ("Low", "Side", "High", "Overhead"),
        "A close view of a hand, without any sign of an overhead angle.",
        None,
    ),
    ("none", "At which x?", ("0.5", "1", "3"), "It is x = L/3, and L/3 is not offered.", None),
    ("none", "", COLOURS, "The options are red, blue, green and yellow.", None),
    ("none", "", COLOURS, "The caption says that the cube is red.", None),
    ("none", "", COLOURS, "If it were blue, it would match the sky.", None),
    ("none", "", COLOURS, "Is it blue?", None),
    ("open", "", COLOURS, "It could be red or green, I can't tell.", None),
    ("open", "", COLOURS, "So the answer could be either B or C.", None),
    ("open", "", COLOURS, "First look. So it is red. Wait, the light is blue.", None),
    ("open", "", COLOURS, "I see two things. The cube stands left. It looks red next to the", None),
]


@pytest.mark.parametrize(("kind", "question", "options", "thought", "right"), THOUGHTS)
def test_the_kinds_of_evidence(kind, question, options, thought, right):
    found = concluded_option(thought, options, question=question)
    assert found.option == right
    if right is not None:
        assert found.kind == kind


def test_meaning_of_closer_depends_on_the_question():
    thought = "So the barrel is closer than the ladder."
    assert conclude(thought, PAIR, NEARER) == (0, False)
    assert conclude("The barrel is closer.", PAIR, "Which is farther away, the barrel or the ladder?") == (1, False)


@given(st.sampled_from(string.ascii_uppercase), st.sampled_from(string.ascii_uppercase))
def test_letters_are_treated_equally(letter, other):
    options = [f"thing number {index + 100}" for index in range(26)]
    index = string.ascii_uppercase.index(letter)
    for thought in ("So {}.", "so {}", "The answer is {}.", "It must be {}.", "I'd go with ({}).", "**{}**",
                    "Only option {} fits.",
                    "The answer is {} because {other} is wrong.", "So it is {}, not {other}."):  # fmt: skip
        if "{other}" not in thought or other != letter:
            assert conclude(thought.format(letter, other=other), options) == (index, False), thought


def _key(text):
    return "".join(char for char in text.casefold() if char.isalnum())


OPTIONS = st.lists(
    WORDS.filter(lambda text: len(_key(text)) > 1 and text[:2].isalnum() and text[-1].isalnum()),
    min_size=2,
    max_size=8,
    unique_by=_key,
)


def _filled(template, question, option):
    text = " ".join(option.split()).replace('"', "'").rstrip(".")
    return template.replace("{question}", question).replace("{option}", text)


@pytest.mark.parametrize("template", INJECTED.quoted)
@pytest.mark.parametrize("hedge", [None, "but I think", "but I could be wrong"])
@given(options=OPTIONS, data=st.data())
def test_library_thoughts_assert_their_option(template, hedge, options, data):
    index = data.draw(st.integers(0, len(options) - 1))
    thought = _filled(template, "Which colour is the cube?", options[index])
    if hedge:
        thought = hedged(thought, hedge)
    assert conclude(thought, options) == (index, False)


@pytest.mark.parametrize("template", INJECTED.quoted)
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
                    assert conclude(thought, options) == (index, False), thought


@pytest.mark.parametrize("template", INJECTED.quoted)
@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("second", range(4))
def test_text_after_a_hedge_takes_precedence(template, first, second):
    opening = hedged(_filled(template, "Which colour is the cube?", COLOURS[first]), "but I think")
    said = f"{opening} the image shows {COLOURS[second]}. So the answer is {COLOURS[second]}."
    assert conclude(said, COLOURS) == (second, False)
    assert conclude(f"{opening} it is {COLOURS[second]}.", COLOURS) == (second, False)
    assert conclude(f"{opening} it is {COLOURS[second]}", COLOURS) == (second, False)


@pytest.mark.parametrize("template", CAPTIONS.quoted)
def test_observation_overrides_a_quoted_caption(template):
    caption = _filled(template, "Which colour is the cube?", "red")
    assert conclude(f"{caption} However, the cube is blue. So the answer is B.", COLOURS) == (1, False)


@pytest.mark.parametrize(
    "options", [COLOURS, ("A", "B", "C"), ("I", "see", "final"), ("this", "be", "let"), ("1", "2")]
)
def test_empty_thought_asserts_nothing(options):
    thought = "Okay let's see. This should be the final answer."
    if "see" not in options and "this" not in options:
        assert conclude(thought, options) == (None, False)


@pytest.fixture(scope="module")
def scenes():
    from vlmrobust import demo

    return demo.samples(40)


def test_demo_thoughts_and_captions(scenes):
    for sample in scenes:
        for kind in ("think", "caption"):
            texts = {sample.answer: sample.texts[f"correct_{kind}"], **sample.texts[f"wrong_{kind}"]}
            assert len(texts) == len(sample.options)
            for option, text in texts.items():
                assert conclude(text, sample.options) == (option, False)


def test_thought_truncated_before_its_conclusion_is_undecided(scenes):
    several = 0
    for sample in scenes:
        described, _, conclusion = sample.texts["correct_think"].rpartition(". ")
        assert conclusion.startswith("So the answer is ")
        words = set(described.replace(",", "").split())
        if sample.metadata["kind"] in ("colour", "shape") and len(words & set(sample.options)) > 1:
            several += 1
            assert conclude(f"{described}.", sample.options) == (None, True)
    assert several > 5


def test_letters_and_added_options_refer_to_the_shown_options(make_sample):
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
    assert verdicts.probability.isnan().tolist() == [False, False, False, False, True]
    consistent = RuleJudge().consistent(responses)
    torch.testing.assert_close(consistent, torch.tensor([1.0, 0.0, *[float("nan")] * 3]), equal_nan=True)


def test_custom_letters(make_sample):
    prompt = OptionLetters(letters="PQRS")(Prompt.of(make_sample()))
    thoughts = ["So it is option Q.", "The answer is S.", "(P) is correct.", "The answer is A.", "Q or R."]
    said = [Response.parse(prompt, f"<think>{thought}</think><answer>Q</answer>") for thought in thoughts]
    verdicts = RuleJudge().conclude(Responses.of([prompt] * len(said), said))
    assert verdicts.option.tolist() == [1, 3, 0, -1, -1]
    assert verdicts.unsure.tolist()[-1]


@given(st.text(), st.lists(st.text(), max_size=26))
def test_never_raises(thought, options):
    option, unsure = conclude(thought, options)
    assert option is None or (0 <= option < len(options) and not unsure)


PARTS = st.lists(
    st.sampled_from(
        ["The answer is", "So", "B", "A", "red", "blue", "not", "or", "Wait,", "but", "I think it is", ".", "?", "\n",
         ",", "I'm not sure", "Yes", "the cube", "is wrong", "is correct", "option", "(C)", "if", "答案是"]
    ),
    max_size=14,
)  # fmt: skip


@given(PARTS, st.permutations("FGHJKPQRUVWZ"))
def test_renaming_letters_does_not_change_the_verdict(parts, letters):
    text = " ".join(parts)
    renamed = re.sub("(?<![A-Za-z])[BC](?![A-Za-z])", lambda found: letters["BC".index(found[0])], text)
    assert conclude(renamed, letters=f"A{letters[0]}{letters[1]}D") == conclude(text, COLOURS)


@given(PARTS, st.sampled_from(COLOURS))
def test_final_explicit_conclusion_decides(parts, colour):
    text = f"{' '.join(parts)}.\n\nTo conclude. The final answer is {colour}."
    assert conclude(text, COLOURS)[0] in (COLOURS.index(colour), None)
    neutral = f"Let me look at the image. The final answer is {colour}."
    assert conclude(neutral, COLOURS) == (COLOURS.index(colour), False)


@given(PARTS, st.sampled_from(COLOURS))
def test_text_long_before_the_conclusion_is_ignored(parts, colour):
    filler = "The picture was taken in a bright room. " * 20
    text = f"{' '.join(parts)}. {filler}So the answer is {colour}."
    assert conclude(text, COLOURS) == (COLOURS.index(colour), False)


@given(PARTS)
def test_renaming_the_options_renames_the_verdict(parts):
    text = " ".join(part for part in parts if part not in ("A", "B", "(C)", "option", "答案是"))
    option, unsure = conclude(text, ("red", "blue", "green", "yellow"))
    turned, turned_unsure = conclude(text, ("yellow", "green", "blue", "red"))
    assert (None if option is None else 3 - option, unsure) == (turned, turned_unsure)


def test_training_batch_is_judged_fast():
    sentence = "I see a large metallic cube next to a small red sphere, and behind both of them stands a blue cone. "
    thoughts = [f"{sentence * 12}Number {number}. So the answer is B." for number in range(1024)]
    seconds = []
    for _ in range(3):
        start = time.process_time()
        for thought in thoughts:
            conclude(thought, COLOURS)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.6


@pytest.mark.parametrize(
    "unit", ["red. ", "wait ", "red or ", "a. ", "not ", "\n", "?", "red, ", "option a ", "答案是红"]
)
def test_very_long_thought_is_fast(unit):
    start = time.process_time()
    conclude(unit * (1_000_000 // len(unit)), COLOURS)
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("options", "thought", "right"),
    [
        (("red", "red ", "blue"), "So it is red.", None),
        (("CO", "Co", "C"), "So it is Co.", 1),
        (("red", "red ", "blue"), "So the answer is B.", 1),
        (("A", "B", "C"), "So it is clear that nothing is known.", None),
        (("B", "A", "C"), 'The answer is "A" or B, I\'m not sure.', None),
        (("红色", "蓝色", "绿色"), "图中的立方体看起来是蓝色的，所以答案是蓝色。", 1),
        (("红色", "蓝色", "绿色"), "图中有红色、蓝色和绿色的立方体。", None),
        (("สีแดง", "สีน้ำเงิน"), "ลูกบาศก์อยู่บนโต๊ะ", None),
        (("赤", "青"), "赤い箱と青い箱があります。", None),
    ],
)
def test_hard_options_give_the_right_verdict_or_none(options, thought, right):
    assert concluded_option(thought, options, question="Which colour is it?").option == right


@pytest.mark.parametrize("unit", ["it is ", "the tabby ", "the tabby is on ", "not on the mat ", "red or blue, ", "红"])
def test_time_does_not_depend_on_the_length(unit):
    question, options = ("The tabby is on the mat.", TRUTH) if "mat" in unit or "it" in unit else ("Which?", COLOURS)
    took = []
    for length in (20_000, 400_000):
        thought = (unit * (length // len(unit)))[:length]
        start = time.perf_counter()
        found = concluded_option(thought, options, question=question)
        took.append(time.perf_counter() - start)
        assert found.option is None
    assert took[1] < 5 * took[0] + 0.2
    assert took[0] < 2.0


@pytest.mark.parametrize(
    ("thought", "right"),
    [
        ("According to the caption, the answer is A.", None),
        ("The caption claims that the answer is B.", None),
        ("The description says the answer is A, but the answer is C.", 2),
        ("I no longer think the answer is B.", None),
        ("It would be wrong to say that the answer is D.", None),
        ("答えはBではない。", None),
        ("정답은 B가 아닙니다.", None),
        ("정답은 B입니다.", 1),
    ],
)
def test_reported_or_retracted_claims_are_ignored(thought, right):
    assert concluded_option(thought, COLOURS, question="Which colour is the cube?").option == right


@pytest.mark.parametrize("unit", ["(", "-", "if ", "'", ", ", "would "])
def test_repetitions_are_fast(unit):
    start = time.perf_counter()
    concluded_option((unit * 100_000)[:100_000] + " So the answer is B.", COLOURS, question="Which colour?")
    concluded_option((unit * 100_000)[:100_000], COLOURS, question="Which colour?")
    assert time.perf_counter() - start < 1.0


@pytest.mark.parametrize(("sentences", "right"), [(0, 1), (4, 1), (5, None), (40, None)])
def test_answer_counts_if_few_sentences_follow(sentences, right):
    thought = "The answer is B. " + "A lamp hangs over the table. " * sentences
    assert concluded_option(thought, COLOURS, question="Which colour is the cube?").option == right


@pytest.mark.parametrize(
    ("thought", "options", "right"),
    [
        ("So the mass is 5 kg.", ("5 g", "6 g"), None),
        ("So the speed is 10 km.", ("10 km/h", "20 km/h"), None),
        ("So the mass is 5 grams.", ("5 g", "6 g"), 0),
        ("So the mass is 6.", ("5 g", "6 g"), 1),
        ("So it weighs 5 kg more.", ("5 kg more", "6 kg more"), 0),
        ("So it is 10% higher.", ("higher by 10", "higher by 20"), 0),
        ("So the cube is anything but red.", ("red", "blue"), 1),
        ("因此不选A,应选B。", ("red", "blue"), 1),
    ],
)
def test_values_in_other_units_and_negations(thought, options, right):
    assert conclude(thought, options)[0] == right
