"""Parsing of completions: spans, tags, well-formedness, and round trips."""

import re
import string
import time
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vlmrobust.prompting import LETTERS, parse_completion

COLOURS = ("red", "blue", "green", "yellow")
LETTERS_SWAPPED = ("B", "A", "C", "D")
TAG_PAIRS = st.one_of(
    st.sampled_from(
        [("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("◁think▷", "◁/think▷"), ("<|begin|>", "<|end|>")]
    ),
    st.from_regex(r"[a-z][a-z_]{2,8}", fullmatch=True).map(lambda name: (f"<{name}>", f"</{name}>")),
)
TAG_QUADRUPLES = st.tuples(TAG_PAIRS, TAG_PAIRS).filter(
    lambda pairs: (
        not any(a.lower() in b.lower() for a in pairs[0] for b in pairs[1])
        and not any(b.lower() in a.lower() for a in pairs[0] for b in pairs[1])
    )
)
# Texts that cannot close a tag, and that differ by more than case, accents of form or punctuation.
WORDS = st.text(string.ascii_lowercase + "äéß中文ж .*+?()[]^$|\\'0123456789-", min_size=1, max_size=20)


def _key(text: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFKC", text).casefold() if char.isalnum())


OPTIONS = st.lists(WORDS.filter(lambda text: len(_key(text)) > 1), min_size=2, max_size=26, unique_by=_key)


@pytest.mark.parametrize(
    ("turn", "letter"),
    [
        ("<think>A red cube. B?</think><answer>B</answer>", 37),
        ("The answer is a big one: (B).", 26),
        ("**B**", 2),
        ("Ｂ", 0),
        ("<answer>blue (B)</answer>", 14),
        ("<answer>blue</answer>", None),
        ("<answer>A blue cube</answer>", None),
        ("A cube. The answer is \\boxed{B}", 29),
    ],
)
def test_letter_is_the_parsed_character(turn, letter):
    parsed = parse_completion(turn, options=COLOURS)
    assert parsed.letter == (None if letter is None else (letter, letter + 1))


@pytest.mark.parametrize(
    ("turn", "think"),
    [
        ("<think> It is blue. </think><answer>B</answer>", " It is blue. "),
        ("It is blue.</think><answer>B</answer>", "It is blue."),
        ("<think>It is blue. <answer>B</answer>", "It is blue. "),
        ("<think>It is blue. <answer>B</answer></think>", "It is blue. "),
        ("<think>It is blue", "It is blue"),
        ("<think></think><answer>B</answer>", ""),
        ("<think>One.</think> Two.</think><answer>B</answer>", "One.</think> Two."),
        ("<think>One.</think> Two. <answer>B</answer>", "One."),
        ("It is blue. <answer>B</answer>", "It is blue. "),
        ("It is blue. So the answer is B.", "It is blue. "),
        ("It is blue, so the final answer is B.", "It is blue, "),
        ("It is blue.\n\n**Answer:** B", "It is blue.\n\n"),
        ("It is blue.\n\nB", "It is blue.\n\n"),
        ("B\n\nIt is blue.", None),
        ("<answer>B</answer>", None),
        ("The answer is B.", None),
        ("It is blue.", None),
    ],
)
def test_span_of_the_thought(turn, think):
    parsed = parse_completion(turn, options=COLOURS)
    assert (None if parsed.think is None else turn[slice(*parsed.think)]) == think


@pytest.mark.parametrize(
    ("turn", "is_open"),
    [
        ("<think>It is blue", True),
        ("<think>It is blue. The answer is B.", True),
        ("<think>It is blue. <answer>B</answer>", True),
        ("</think><think>It is blue", False),
        ("<think>It is blue.</think>", False),
        ("It is blue.", False),
        ("", False),
    ],
)
def test_open_thought(turn, is_open):
    assert parse_completion(turn, options=COLOURS).open_thought is is_open


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        ("<think>x</think><answer>B</answer>", True),
        ("\n<think>\nx\n</think>\n\n<answer>\nB\n</answer>\n", True),
        ("<think>x</think><answer>B.</answer>", True),
        ("<think>x</think><answer>(B)</answer>", True),
        ("<think>x</think><answer>blue</answer>", True),
        ("<think>x</think><answer>B</answer><|im_end|>", True),
        ("<think>x</think><answer>**B**</answer>", False),
        ("<think>x</think><answer>B. blue</answer>", False),
        ("<think>x</think><answer>E</answer>", False),
        ("<think>x</think><answer>B or C</answer>", False),
        ("<think>x</think> So <answer>B</answer>", False),
        ("Well. <think>x</think><answer>B</answer>", False),
        ("<think>x</think><answer>B</answer> Done.", False),
        ("<think>x</think><answer>B", False),
        ("<think>x</think>B", False),
        ("x</think><answer>B</answer>", False),
        ("<think>x<answer>B</answer>", False),
        ("<think>x</think></think><answer>B</answer>", False),
        ("<think>x</think><answer>B</answer><answer>B</answer>", False),
        ("<THINK>x</THINK><answer>B</answer>", False),
        ("<answer>B</answer><think>x</think>", False),
        ("<answer>B</answer>", False),
        ("B", False),
        ("", False),
    ],
)
def test_well_formed(turn, expected):
    assert parse_completion(turn, options=COLOURS).well_formed is expected


@pytest.mark.parametrize(
    ("turn", "by_letter", "by_text"),
    [
        ("B", True, True),
        ("(B).", True, True),
        ("B<|im_end|>", True, True),
        ("blue", False, True),
        ("blue.", False, True),
        ("The answer is B", False, False),
        ("B. blue", False, False),
        ("<answer>B</answer>", False, False),
        ("E", False, False),
    ],
)
def test_well_formed_direct(turn, by_letter, by_text):
    for answer_by, expected in (("letter", by_letter), ("text", by_text)):
        parsed = parse_completion(turn, options=COLOURS, answer_by=answer_by, mode="direct")
        assert parsed.well_formed is expected


def test_letter_that_equals_another_options_text():
    assert parse_completion("<answer>B</answer>", options=LETTERS_SWAPPED).answer == 1
    by_text = parse_completion("<answer>B</answer>", options=LETTERS_SWAPPED, answer_by="text")
    assert (by_text.answer, by_text.letter) == (0, None)
    assert parse_completion("The answer is B.", options=LETTERS_SWAPPED, answer_by="text").answer == 0
    # No option's text is "B": by text, too, it can only be the letter.
    assert parse_completion("<answer>B</answer>", options=COLOURS, answer_by="text").answer == 1
    assert parse_completion("<answer>D</answer>", options=LETTERS_SWAPPED, answer_by="text").answer == 3


@pytest.mark.parametrize(
    "said",
    ["A is correct.", "Option A is correct.", "(A) is the right answer.", "The one on the left is B, so A is correct."],
)
def test_letter_before_the_verb_that_equals_another_options_text(said):
    assert parse_completion(said, options=LETTERS_SWAPPED).answer == 0
    assert parse_completion(said, options=LETTERS_SWAPPED, answer_by="text").answer == 1


def test_tags_of_another_style():
    tags = {"think_tags": ("[THINK]", "[/THINK]"), "answer_tags": ("###", "###")}
    parsed = parse_completion("[THINK]It is blue.[/THINK] ### B ###", options=COLOURS, **tags)
    assert (parsed.answer, parsed.well_formed) == (1, True)
    assert parse_completion("[think]x[/think]###c", options=COLOURS, **tags).answer == 2


@pytest.mark.parametrize(
    ("text", "answer"),
    [("1", 1), ("(2)", 2), ("The answer is option 3.", 3), ("1. blue", 1), ("It is 2", 2), ("7", None), ("1.5", None)],
)
def test_numbered_options(text, answer):
    parsed = parse_completion(f"<think>x</think><answer>{text}</answer>", options=COLOURS, letters="0123")
    assert parsed.answer == answer
    assert parsed.letter is None or parsed.answer is not None


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("The cube is blue.", 1),
        ("(B) blue because it looks so", 1),
        ("It is red, as the roof is.", 0),
        ("Purple.", None),
    ],
)
def test_sentence_is_an_answer_in_direct_mode(said, answer):
    assert parse_completion(said, options=COLOURS, mode="direct").answer == answer


def test_answer_in_the_prefill_is_ignored():
    prefill = "<think>I see it.</think><answer>D</answer>"
    assert parse_completion(prefill, options=COLOURS).answer == 3
    assert parse_completion(prefill, options=COLOURS, written=len(prefill)).answer is None
    more = prefill + " But no: <answer>B</answer>"
    assert parse_completion(more, options=COLOURS, written=len(prefill)).answer == 1
    begun = "<think>I see it.</think><answer>"
    assert parse_completion(begun + "C</answer>", options=COLOURS, written=len(begun)).answer == 2


def test_prefill_is_part_of_the_turn():
    prefill = "<think>Okay let's see. This should be the final answer.</think>"
    parsed = parse_completion(prefill + "<answer>C</answer>", options=COLOURS)
    assert (parsed.answer, parsed.well_formed) == (2, True)


@given(
    st.text(),
    st.lists(st.text(), max_size=26),
    st.sampled_from(["letter", "text"]),
    st.sampled_from(["think", "direct"]),
)
def test_never_raises(turn, options, answer_by, mode):
    parsed = parse_completion(turn, options=options, answer_by=answer_by, mode=mode)
    assert parsed.answer is None or 0 <= parsed.answer < len(options)


FRAGMENTS = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "<answer>", "</answer>", "A", "B", "I", "a", "b", "Z", "red", "blue", "not", "or",
         "and", ",", ".", "?", "\n", "(", ")", "**", "\\boxed{", "}", "answer", "is", ":", "the", "option", "correct",
         "答案", "是",
         "Ｂ", "（", "）", "'",
         "<|im_end|>", "</s>", "wait", "if", ""]
    )
)  # fmt: skip


@given(FRAGMENTS, st.sampled_from(["", " "]), st.sampled_from(["letter", "text"]))
def test_spans_are_consistent(parts, glue, answer_by):
    turn = glue.join(parts)
    parsed = parse_completion(turn, options=("red", "blue", "B"), answer_by=answer_by)
    assert parsed.letter is None or parsed.answer is not None
    if parsed.letter is not None:
        start, end = parsed.letter
        assert end - start == 1
        assert unicodedata.normalize("NFKC", turn[start:end]).upper() == LETTERS[parsed.answer]
    if parsed.think is not None:
        assert 0 <= parsed.think[0] <= parsed.think[1] <= len(turn)
    assert not (parsed.well_formed and parsed.answer is None)


@given(st.data(), TAG_QUADRUPLES, OPTIONS, st.sampled_from(["{}", " {} ", "({})", "{}.", "\n{}\n"]))
def test_formatted_letters_round_trip(data, tags, options, frame):
    index = data.draw(st.integers(0, len(options) - 1))
    letter = data.draw(st.sampled_from([LETTERS[index], LETTERS[index].lower(), chr(0xFF21 + index)]))
    (think_open, think_close), (answer_open, answer_close) = tags
    turn = f"{think_open}A thought.{think_close}\n{answer_open}{frame.format(letter)}{answer_close}"
    parsed = parse_completion(turn, options=options, think_tags=tags[0], answer_tags=tags[1])
    assert parsed.answer == index
    assert parsed.letter is not None
    assert turn[slice(*parsed.letter)] == letter
    assert parsed.well_formed
    assert parsed.think is not None
    assert turn[slice(*parsed.think)] == "A thought."


@given(st.data(), OPTIONS, st.permutations(LETTERS), st.sampled_from(["{}", " {} ", "({})", "{}.", "\n{}\n"]))
def test_any_letters_round_trip(data, options, letters, frame):
    index = data.draw(st.integers(0, len(options) - 1))
    written = letters[index]
    letter = data.draw(st.sampled_from([written, written.lower(), chr(0xFF21 + LETTERS.index(written))]))
    turn = f"<think>A thought.</think><answer>{frame.format(letter)}</answer>"
    parsed = parse_completion(turn, options=options, letters="".join(letters))
    assert (parsed.answer, parsed.well_formed) == (index, True)
    assert turn[slice(*parsed.letter)] == letter


# Letters that are no word of their own, as "y" and "o" are, and part of none, as in "it's".
@given(FRAGMENTS, st.sampled_from(["", " "]), st.sampled_from("FGHJKPQRUVW"))
def test_renaming_a_letter_does_not_change_the_result(parts, glue, letter):
    turn = glue.join(parts)
    other = {"B": letter, "b": letter.lower(), "Ｂ": chr(0xFF21 + LETTERS.index(letter))}
    renamed = re.sub("(?<![A-Za-z])[BbＢ](?![A-Za-z])", lambda found: other[found[0]], turn)
    parsed = parse_completion(renamed, options=COLOURS, letters=f"A{letter}CD")
    assert parsed == parse_completion(turn, options=COLOURS)


@given(st.data(), TAG_QUADRUPLES, OPTIONS, st.sampled_from(["letter", "text"]))
def test_option_texts_round_trip(data, tags, options, answer_by):
    index = data.draw(st.integers(0, len(options) - 1))
    (think_open, think_close), (answer_open, answer_close) = tags
    turn = f"{think_open}A thought.{think_close}{answer_open}{options[index]}{answer_close}"
    parsed = parse_completion(turn, options=options, think_tags=tags[0], answer_tags=tags[1], answer_by=answer_by)
    assert parsed.answer == index
    assert parsed.well_formed


@given(st.integers(2, 26), st.integers(0, 25), st.permutations(LETTERS))
def test_letter_beyond_the_options_is_no_answer(count, index, letters):
    options = [f"option text {number}" for number in range(count)]
    for shown in (LETTERS, "".join(letters), "".join(letters[:count])):
        parsed = parse_completion(f"<think>x</think><answer>{letters[index]}</answer>", options=options, letters=shown)
        place = shown.find(letters[index])
        assert parsed.answer == (place if 0 <= place < count else None)


@given(st.sampled_from(["or", "and", ",", "/", "&", "\n", " "]), st.integers(0, 3), st.integers(0, 3))
def test_two_letters_are_no_answer(joint, first, second):
    assume(first != second)
    turn = f"<answer>{LETTERS[first]} {joint} {LETTERS[second]}</answer>"
    assert parse_completion(turn, options=COLOURS).answer is None


def _seconds(turns):
    start = time.process_time()
    for turn in turns:
        parse_completion(turn, options=COLOURS)
    return time.process_time() - start


def test_training_batch_is_parsed_fast():
    sentence = "The cube at the left is red and the answer to that is near the sphere. "
    turns = [f"<think>{sentence * 18}{number}</think><answer>B</answer>" for number in range(1024)]
    assert min(_seconds(turns) for _ in range(3)) < 0.4


@pytest.mark.parametrize(
    "unit",
    ["<think>", "</think>", "<answer>", "<answer>B", "<", "<   ", " ", "\n", "B\n", "A ", "B, ", "not ", "((((",
     "\\boxed{", "answer is ", "the answer to 'x ", "answer for ", "is correct ", "red ", "'", "_",
     "</s>", "答案是", "İ", "answer: red, answer: blue, ", "the caption says the answer is A. "],
)  # fmt: skip
@pytest.mark.parametrize("before", ["", "<think>x</think>", "<think>x", "<answer>"])
def test_parsing_takes_linear_time(before, unit):
    start = time.process_time()
    parse_completion(before + unit * (1_000_000 // len(unit)), options=COLOURS)
    assert time.process_time() - start < 3  # under a second on an idle core


def test_common_beginning_of_options_is_ignored():
    options = ("The man is walking away", "The man is walking towards us", "The man is sitting down")
    for index, said in enumerate(("Walking away", "walking towards us.", "He is sitting down")):
        assert parse_completion(f"<think>Hm.</think><answer>{said}</answer>", options=options).answer == index
    letters = ("point A of it", "point B of it")
    assert parse_completion("<think>Hm.</think><answer>B</answer>", options=letters).answer == 1


LENGTHS = (r"$12 \mathrm{~cm}^{2}$", r"$\frac{25}{2} \mathrm{~cm}^{2}$", r"$\frac{13}2 \mathrm{~cm}^{2}$")


@pytest.mark.parametrize(
    ("turn", "options", "answer"),
    [
        (r"So the area is $\boxed{12}$ square centimetres.", LENGTHS, 0),
        (r"The answer is $\boxed{\frac{25}{2}}$.", LENGTHS, 1),
        (r"It equals $\boxed{\frac{13}{2}}$.", LENGTHS, 2),
        (r"It equals $\boxed{25}$.", LENGTHS, None),
        (r"It equals $\boxed{12}$.", ("12 m", "12 cm"), None),
        (r"It equals $\boxed{12}$.", (r"$12\pi$", r"$15\pi$"), None),
        (r"It equals $\boxed{1}$.", (r"$12\pi$", r"$15\pi$"), None),
        (r"It equals $\boxed{3}$.", ("3x", "5x"), None),
        (r"It equals $\boxed{3}$.", ("3 apples", "5 apples"), 0),
        (r"It equals $\boxed{12\pi}$.", (r"$12\pi$", r"$15\pi$"), 0),
        ("The correct option letter is C. It is the only one with a stripe.", COLOURS, 2),
        ("The correct option letter would be D) yellow.", COLOURS, 3),
        ("The answer is C major.", ("c major", "a minor"), 0),
    ],
)
def test_values_without_unit_and_named_letters(turn, options, answer):
    assert parse_completion(turn, options=options).answer == answer


@pytest.mark.parametrize(
    ("turn", "options", "answer"),
    [
        ("First I thought the answer is A.\nI look again.\nANSWER: B", COLOURS, 1),
        ("The answer is A.\nBut the cube is blue.\n\n**Answer:** B", COLOURS, 1),
        ("<think>So.</think>B because C is wrong.", COLOURS, 1),
        ("<think>So.</think>B, since A is red.", COLOURS, 1),
        ("<think>So.</think>A, B and C are red.", COLOURS, None),
        ("<think>So.</think>A or B, since it is dark.", COLOURS, None),
        ("No, the tabby is under the mat. It hides there.", ("Yes", "No"), 1),
        ("Yes, it is lit.", ("No", "Yes"), 1),
        ("No, wait. Yes, it is lit.", ("No", "Yes"), None),
        ("Yes, it is lit.", COLOURS, None),
        ("No tabby is on the mat.", ("Yes", "No"), None),
    ],
)
def test_untagged_answers(turn, options, answer):
    assert parse_completion(turn, options=options).answer == answer
