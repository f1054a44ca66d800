"""The generated text is rebuilt from tokens, however servers show it."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmrobust.models.server.replies import rebuild_text, token_at

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
WORDS = [" red", " A", "B", "é", "\n", "  ", ">", "<answer>", "</answer>", "|im", "end|>", "雪", "\n\n", "<"]
ENDS = ["<|im_end|>", "</s>", "<eos>", None]


def split_at(text, places):
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
def test_the_generated_text_is_rebuilt_however_it_is_shown(thought, answer, closes, places, end, shown):
    prefill = "<think>It is about a walk"
    text = "".join(thought) + ("</think>" if closes else "") + "".join(answer) + "!"
    tokens = [*split_at(text, places), *([end.encode()] if end else [])]
    if shown == "echoed":
        parts = ("", prefill + text)
    elif shown == "without special tokens":
        kept = [token for token in tokens if token.decode(errors="replace") not in (*TAGS, *ENDS)]
        parts = ("", b"".join(kept).decode())
    else:
        parts = PARSERS[shown](text)
    assert rebuild_text(tokens, parts, prefill, TAGS, ended=True) == text
    if end is None:
        assert rebuild_text(tokens, parts, prefill, TAGS, ended=False) == text


@pytest.mark.parametrize(
    ("tokens", "shown", "text"),
    [
        (["</answer", ">", "<|im_end|>"], ("", "</answer>"), "</answer>"),
        (["B", " #", "#", "# x"], ("", "B"), "B"),  # a stop string of several tokens
        (["B#", "##"], ("", "B"), "B"),  # which begins inside a token
        (["i", "<|im_end|>"], ("", "i"), "i"),  # a letter of the token that ends the turn
        (["</think>", "<|im_end|>"], ("", ""), "</think>"),
        (["<|im_end|>"], ("", ""), ""),
        ([], ("", ""), ""),
        (["hm", "</s>"], ("", ""), "hm"),  # nothing visible: everything but the token that ends the turn
        (["B", "</answer>", "<|im_end|>"], ("", "B"), "B</answer>"),  # hidden tags
        (["x", "C"], ("", "B"), None),
        (["B", "</s>"], ("a thought", "B"), None),  # the thought's tokens are missing
    ],
)
def test_where_the_text_ends(tokens, shown, text):
    assert rebuild_text([token.encode() for token in tokens], shown, "<think>It", TAGS, ended=True) == text


def test_a_prefill_repeated_by_the_model_is_kept_but_not_one_repeated_by_the_server():
    prefill = "<think>It is"
    shown = ("", prefill + prefill + " B")
    once, twice = [prefill.encode(), b" B"], [prefill.encode(), prefill.encode(), b" B"]
    assert rebuild_text(once, shown, prefill, TAGS, ended=True) == prefill + " B"
    assert rebuild_text(twice, shown, prefill, TAGS, ended=True) == prefill + prefill + " B"
    assert rebuild_text(once, ("", prefill + " B"), prefill, TAGS, ended=True) == prefill + " B"


def test_a_text_that_ends_inside_a_character_is_kept():
    tokens = [b"B ", "雪".encode()[:2]]
    for shown in ("B ", "B \ufffd"):
        assert rebuild_text(tokens, ("", shown), "", TAGS, ended=False) == "B \ufffd"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.lists(st.integers(0, 60)), st.data())
def test_every_character_has_the_token_in_which_it_begins(text, places, data):
    tokens = split_at(text, places)
    place = data.draw(st.integers(0, len(text) - 1))
    start = len(text[:place].encode())
    assert token_at(tokens, place) == next(
        index for index in range(len(tokens)) if sum(map(len, tokens[: index + 1])) > start
    )
    assert token_at(tokens, len(text)) is None
    assert token_at(tokens, -1) is None
