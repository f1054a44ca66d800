"""Replies: their text, and the token of a character, compared with plain loops."""

from types import SimpleNamespace as Obj

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmrobust.models.server.replies import Reply

TAGS = ("<think>", "</think>")


def make_entry(token, logprob=-0.1, top=(), with_bytes=True):
    def shown(data, value):
        return Obj(token=data.decode(errors="replace"), logprob=value, bytes=list(data) if with_bytes else None)

    return Obj(**vars(shown(token, logprob)), top_logprobs=[shown(*other) for other in top])


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
    turn = answer.turn("", TAGS)
    assert turn == "<think>B, I think</think>\n\nB"
    assert answer.step_at(turn, len(turn) - 1) is answer.steps[4]
    assert answer.step_at(turn, len("<think>")) is answer.steps[1]
    # If tokens are missing, the turn is the visible text, and characters outside the tokens have no step.
    answer = make_reply("B", list(map(make_entry, parts[4:])), reasoning="B, I think")
    turn = answer.turn("", TAGS)
    assert turn == "<think>B, I think</think>B"
    assert answer.step_at(turn, len(turn) - 1) is answer.steps[0]
    assert answer.step_at(turn, len("<think>")) is None


def test_a_refusal_is_text():
    message = Obj(content=None, refusal="I can't say who that is.")
    completion = Obj(choices=[Obj(message=message, finish_reason="stop", logprobs=None)], usage=None)
    assert Reply.of(completion).turn("", TAGS) == "I can't say who that is."


def test_a_text_in_parts_is_joined():
    parts = [{"type": "text", "text": "<think>a</think>"}, {"type": "text", "text": "B"}]
    assert make_reply(parts, [make_entry(b"B")]).content == "<think>a</think>B"


@pytest.mark.parametrize(
    ("content", "entries", "cause"),
    [
        ([{"type": "audio", "data": ""}], [], "expected content of type 'text', got 'audio'"),
        ([{"text": "B"}], [], "expected content of type 'text', got None"),
        (["B"], [], "expected content of type 'text', got None"),
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
    assert make_reply(content, [], reasoning, finish).turn(prefill, TAGS) == turn


def test_a_repetition_of_the_prefill_by_the_model_is_kept():
    answer = make_reply(
        "B", [make_entry(b"It"), make_entry(b" is"), make_entry(b"</think>"), make_entry(b"B")], reasoning="It is"
    )
    assert answer.turn("<think>It", TAGS) == "It is</think>B"
