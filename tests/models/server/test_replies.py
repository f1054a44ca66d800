"""Replies: their text, rebuilt from tokens however servers show it, and the token of a character."""

from itertools import pairwise
from types import SimpleNamespace as Obj

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_server import make_entry

from vlmrobust.models.server.replies import Reply, rebuild_text, token_at

THINK_TAGS = ("<think>", "</think>")


def make_reply(content, entries, reasoning=None, finish="stop"):
    message = Obj(content=content, reasoning_content=reasoning)
    choice = Obj(message=message, finish_reason=finish, logprobs=Obj(content=entries))
    return Reply.of(Obj(choices=[choice], usage=None))


@settings(max_examples=50)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.data())
def test_the_token_of_a_character_is_found_for_any_tokenisation(text, data):
    encoded = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(encoded) - 1)))))
    parts = [encoded[a:b] for a, b in zip([0, *cuts], [*cuts, len(encoded)], strict=True) if a < b]
    place = data.draw(st.integers(0, len(text) - 1))
    answer = make_reply(text, [*map(make_entry, parts), make_entry(b"<|im_end|>")])
    start = len(text[:place].encode())
    expected = next(index for index in range(len(parts)) if sum(map(len, parts[: index + 1])) > start)
    assert answer.step_at(text, place) is answer.steps[expected]


def test_a_separated_thought_is_found_in_the_tokens():
    parts = [b"<think>", b"B, I think", b"</think>", b"\n\n", b"B", b"<|im_end|>"]
    answer = make_reply("B", list(map(make_entry, parts)), reasoning="B, I think")
    turn = answer.turn("", THINK_TAGS)
    assert turn == "<think>B, I think</think>\n\nB"
    assert answer.step_at(turn, len(turn) - 1) is answer.steps[4]
    assert answer.step_at(turn, len("<think>")) is answer.steps[1]
    # If tokens are missing, the turn is the visible text, and characters outside the tokens have no step.
    answer = make_reply("B", list(map(make_entry, parts[4:])), reasoning="B, I think")
    turn = answer.turn("", THINK_TAGS)
    assert turn == "<think>B, I think</think>B"
    assert answer.step_at(turn, len(turn) - 1) is answer.steps[0]
    assert answer.step_at(turn, len("<think>")) is None


@pytest.mark.parametrize(
    ("decoded", "content"),
    [
        (["<think>", "\ufffd", "\ufffd", " is", " B?", "</think>"], "<think>🟦 is B?</think>B."),
        (["<think>", "It", "is", "B?", "</think>"], "<think>It is B?</think>B."),  # SentencePiece
        (["答", "案", "\ufffd", "\ufffd", "是"], "答案卍是B."),
    ],
)
def test_tokens_that_a_server_decoded_one_by_one(decoded, content):
    entries = [make_entry(text.encode()) for text in (*decoded, "B", ".", "<|END_OF_B|>")]
    answer = make_reply(content, entries)
    turn = answer.turn("", THINK_TAGS)
    assert turn == content
    assert answer.step_at(turn, len(turn) - 2) is answer.steps[len(decoded)]


def test_a_text_whose_characters_the_tokens_lack_is_not_found_in_them():
    answer = make_reply("答案是B", list(map(make_entry, [b"It is", b" B", b" or", b" A"])), reasoning="It is B or A")
    turn = answer.turn("", THINK_TAGS)
    assert turn.endswith("B")
    assert answer.step_at(turn, len(turn) - 1) is None


def test_a_refusal_is_text():
    message = Obj(content=None, refusal="I can't say who that is.")
    completion = Obj(choices=[Obj(message=message, finish_reason="stop", logprobs=None)], usage=None)
    assert Reply.of(completion).turn("", THINK_TAGS) == "I can't say who that is."


def test_a_text_in_parts_is_joined():
    parts = [{"type": "text", "text": "<think>a</think>"}, {"type": "text", "text": "B"}]
    assert make_reply(parts, [make_entry(b"B")]).content == "<think>a</think>B"


DETAILS = [{"type": "reasoning.text", "text": "a"}, {"type": "reasoning.encrypted", "data": "x"}]


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning": "", "reasoning_content": "a"},
        {"reasoning": "a"},
        {"reasoning_details": DETAILS},  # MiniMax
        {"reasoning": "a", "reasoning_details": DETAILS},
    ],
)
def test_an_empty_field_hides_no_thought(fields):
    completion = {"choices": [{"message": {"content": "B", **fields}, "finish_reason": "stop"}]}
    assert Reply.of(completion).reasoning == "a"


@pytest.mark.parametrize("details", [None, [], DETAILS[1:], "a"])
def test_details_without_a_text_are_no_thought(details):
    message = {"content": "B", "reasoning": None, "reasoning_details": details}
    assert Reply.of({"choices": [{"message": message, "finish_reason": "stop"}]}).reasoning is None


def test_a_thought_may_be_a_part_of_the_content():
    thought = {
        "type": "thinking",
        "thinking": [
            {"type": "text", "text": "It is"},
            {"type": "reference", "reference_ids": [0]},
            {"type": "text", "text": " blue."},
        ],
    }
    answer = make_reply([thought, {"type": "text", "text": "<answer>B</answer>"}], [])
    assert answer.turn("", THINK_TAGS) == "<think>It is blue.</think><answer>B</answer>"
    assert make_reply([thought], [], finish="length").turn("", THINK_TAGS) == "<think>It is blue."


@pytest.mark.parametrize(
    ("content", "entries", "cause"),
    [
        ([{"type": "audio", "data": ""}], [], "expected content of type 'text' or 'thinking', got 'audio'"),
        ([{"text": "B"}], [], "expected content of type 'text' or 'thinking', got None"),
        (["B"], [], "expected content of type 'text' or 'thinking', got None"),
        (7, [], "not iterable"),
        ("B", [Obj(logprob=-0.1, bytes=None)], "got token None and bytes None"),
        ("B", [Obj(token="B", logprob="likely", bytes=None)], "could not convert"),
        ("B", [Obj(token="B", logprob=-0.1, bytes=[300])], "range"),
        (
            "B",
            [Obj(token=None, logprob=-0.1, bytes=None)],
            "expected a token's text, or its bytes, got token None",
        ),
        ("B", [Obj(token=7, logprob=-0.1, bytes=None)], "expected a token's text, or its bytes, got token 7"),
        ("B", [Obj(token="B", logprob=0.7, bytes=None)], "expected log-probabilities of at most 0, got 0.7 for"),
        (
            "B",
            [Obj(token="B", logprob=float("nan"), bytes=None)],
            "expected log-probabilities of at most 0, got nan",
        ),
    ],
)
def test_schema_violations_are_value_errors_with_their_cause(content, entries, cause):
    with pytest.raises(ValueError, match=r"expected a chat completion in OpenAI's schema, got namespace\(") as raised:
        make_reply(content, entries)
    assert cause in str(raised.value.__cause__)


@pytest.mark.parametrize(
    "failed",
    [
        {"finish_reason": "error", "error": {"code": 502, "message": "Upstream down"}},  # OpenRouter
        {"finish_reason": None, "error": {"code": 502, "message": "Upstream down"}},
        {"finish_reason": "error"},  # vLLM
        {"finish_reason": "abort"},  # vLLM, SGLang
    ],
)
@pytest.mark.parametrize("content", ["", "<think>It is bl", "<answer>A</answer>"])
def test_a_reply_that_the_server_broke_off_is_no_answer(failed, content):
    completion = {"choices": [{"index": 0, "message": {"role": "assistant", "content": content}, **failed}]}
    reason = "Upstream down" if "error" in failed else failed["finish_reason"]
    with pytest.raises(ValueError, match=f"expected a whole reply, got one that the server broke off: .*{reason}"):
        Reply.of(completion)


@pytest.mark.parametrize("reason", ["length", "model_length", "max_tokens"])
def test_a_limit_is_a_limit_by_any_name(reason):
    assert make_reply("<think>It is bl", [], finish=reason).finish_reason == "length"


def test_counts_are_numbers():
    choice = Obj(message=Obj(content="B"), finish_reason="stop", logprobs=None)
    counted = Reply.of(Obj(choices=[choice], usage=Obj(prompt_tokens="12", completion_tokens=None)))
    assert (counted.prompt_tokens, counted.cached_tokens, counted.completion_tokens) == (12, None, None)
    with pytest.raises(ValueError, match="expected a chat completion in OpenAI's schema"):
        Reply.of(Obj(choices=[choice], usage=Obj(prompt_tokens="many")))


def test_a_character_outside_the_tokens_has_no_step():
    assert make_reply("B", [make_entry(b"C")]).step_at("B", 0) is None
    assert make_reply("B", []).step_at("B", 0) is None


@pytest.mark.parametrize(
    ("prefill", "reasoning", "content", "finish", "turn"),
    [
        ("", None, "<think>a</think>B", "stop", "<think>a</think>B"),
        ("", "a", "B", "stop", "<think>a</think>B"),
        ("", "", "B", "stop", "B"),
        ("", "a", "", "length", "<think>a"),
        ("", "a", "", "stop", "<think>a"),
        ("<think>It", " is a", "B", "stop", " is a</think>B"),
        ("<think>It", "", "B", "stop", "</think>B"),
        ("<think>It", "", "a</think>B", "stop", "a</think>B"),
        ("<think>It</think>", "B", "", "stop", "B"),
        ("<think>It</think>", None, "B", "stop", "B"),
        ("<think>It", "It is a", "B", "stop", " is a</think>B"),  # the prefill's thought, separated as well
        ("<think>\nIt", "It", "B", "stop", "</think>B"),
        ("<think>It</think>", "It", "B", "stop", "B"),
        ("<think>It</think><answer>", "It", "<answer>B", "stop", "B"),
    ],
)
def test_separated_thoughts_are_put_back(prefill, reasoning, content, finish, turn):
    assert make_reply(content, [], reasoning, finish).turn(prefill, THINK_TAGS) == turn


def test_a_repetition_of_the_prefill_by_the_model_is_kept():
    answer = make_reply(
        "B", [make_entry(b"It"), make_entry(b" is"), make_entry(b"</think>"), make_entry(b"B")], reasoning="It is"
    )
    assert answer.turn("<think>It", THINK_TAGS) == "It is</think>B"


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
