"""The turn from its tokens: made up of tokens, shown as servers show it, and found again."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmrobust.models.server.replies import rebuilt, token_at

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
WORDS = [" red", " A", "B", "é", "\n", "  ", ">", "<answer>", "</answer>", "|im", "end|>", "雪", "\n\n", "<"]
ENDS = ["<|im_end|>", "</s>", "<eos>", None]


def cut(text, places):
    data = text.encode()
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(ends)]


def qwen3(text):
    thought, closed, rest = text.partition("</think>")
    if "<think>" in text and closed:
        return thought.partition("<think>")[2], rest.replace("</think>", "")
    return "", text.replace("</think>", "")


def deepseek_r1(text):
    thought, closed, rest = text.partition("</think>")
    return (thought.rpartition("<think>")[2], rest) if closed else (text.rpartition("<think>")[2], "")


def stripping(text):
    return tuple(part.strip() for part in deepseek_r1(text))


PARSERS = {"none": lambda text: ("", text), "qwen3": qwen3, "deepseek_r1": deepseek_r1, "stripping": stripping}
SHOWN = st.sampled_from([*PARSERS, "echoed", "without special tokens"])


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(WORDS), max_size=8),
    st.lists(st.sampled_from(WORDS), max_size=8),
    st.booleans(),
    st.lists(st.integers(0, 60), max_size=12),
    st.sampled_from(ENDS),
    SHOWN,
)
def test_whatever_is_shown_the_text_is_what_was_generated(thought, answer, closes, places, end, shown):
    prefill = "<think>It is about a walk"
    text = "".join(thought) + ("</think>" if closes else "") + "".join(answer) + "!"
    tokens = [*cut(text, places), *([end.encode()] if end else [])]
    if shown == "echoed":
        parts = ("", prefill + text)
    elif shown == "without special tokens":
        kept = [token for token in tokens if token.decode(errors="replace") not in (*TAGS, *ENDS)]
        parts = ("", b"".join(kept).decode())
    else:
        parts = PARSERS[shown](text)
    assert rebuilt(tokens, parts, prefill, TAGS, ended=True) == text
    if end is None:
        assert rebuilt(tokens, parts, prefill, TAGS, ended=False) == text


@pytest.mark.parametrize(
    ("tokens", "shown", "text"),
    [
        (["</answer", ">", "<|im_end|>"], ("", "</answer>"), "</answer>"),
        (["B", " #", "#", "# x"], ("", "B"), "B"),  # a stop string of several tokens
        (["B#", "##"], ("", "B"), "B"),  # which begins within one
        (["i", "<|im_end|>"], ("", "i"), "i"),  # a letter of the token that ends the turn
        (["</think>", "<|im_end|>"], ("", ""), "</think>"),
        (["<|im_end|>"], ("", ""), ""),
        ([], ("", ""), ""),
        (["hm", "</s>"], ("", ""), "hm"),  # nothing is shown: all but what ends turns
        (["B", "</answer>", "<|im_end|>"], ("", "B"), "B</answer>"),  # tags that are not shown
        (["x", "C"], ("", "B"), None),
        (["B", "</s>"], ("a thought", "B"), None),  # the thought's tokens are missing
    ],
)
def test_where_the_text_ends(tokens, shown, text):
    assert rebuilt([token.encode() for token in tokens], shown, "<think>It", TAGS, ended=True) == text


def test_a_repeated_prefill_is_not_among_the_tokens_and_what_the_model_repeats_is():
    prefill = "<think>It is"
    shown = ("", prefill + prefill + " B")
    once, twice = [prefill.encode(), b" B"], [prefill.encode(), prefill.encode(), b" B"]
    assert rebuilt(once, shown, prefill, TAGS, ended=True) == prefill + " B"
    assert rebuilt(twice, shown, prefill, TAGS, ended=True) == prefill + prefill + " B"
    assert rebuilt(once, ("", prefill + " B"), prefill, TAGS, ended=True) == prefill + " B"


def test_a_text_that_was_cut_off_within_a_character_keeps_what_there_is():
    tokens = [b"B ", "雪".encode()[:2]]
    for shown in ("B ", "B \ufffd"):
        assert rebuilt(tokens, ("", shown), "", TAGS, ended=False) == "B \ufffd"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.lists(st.integers(0, 60)), st.data())
def test_every_character_has_the_token_that_begins_it(text, places, data):
    tokens = cut(text, places)
    place = data.draw(st.integers(0, len(text) - 1))
    start = len(text[:place].encode())
    assert token_at(tokens, place) == next(
        index for index in range(len(tokens)) if sum(map(len, tokens[: index + 1])) > start
    )
    assert token_at(tokens, len(text)) is None
    assert token_at(tokens, -1) is None
