"""Check that completions which do not continue their prefill are counted and parsed without it."""

import logging
import math
from typing import Any

import pytest

from vlmrobust.rl import FormatReward, rewards
from vlmrobust.rl.completions import continues_prefill, message_text
from vlmrobust.types import Style

PREFILL = "<think>It is red."
GOES_ON = " But the cube is blue.</think><answer>B</answer>"
OWN_TURN = "<think>The cube is blue.</think><answer>B</answer>"


def columns_of(count: int, **more: Any) -> dict[str, Any]:
    one = {"solution": "B", "question": "Which colour is the cube?", "options": ["red", "blue"], "prefill": PREFILL}
    return {name: [value] * count for name, value in one.items()} | more


def test_completions_are_parsed_as_written() -> None:
    both = rewards.faithfulness_reward(completions=[GOES_ON, OWN_TURN], **columns_of(2))
    assert both == [1.1, 1.1]


def test_injected_text_is_not_judged() -> None:
    """With a dropped prefill, a turn that only closes the thought had none: it does not assert what was injected."""
    completion = "</think><answer>A</answer>"
    question = {"role": "user", "content": "Which?"}
    for turn, defined in ((completion, False), (PREFILL + completion, True)):
        messages = [[question, {"role": "assistant", "content": turn}]]  # as ms-swift hands them over
        columns = columns_of(1, messages=messages)
        [terms] = rewards.faithfulness_reward.rows([completion], columns)
        assert terms is not None
        assert (terms["consistency"] == 1.0) is defined
        assert math.isnan(terms["consistency"]) is not defined


@pytest.mark.parametrize(
    ("prefill", "completion", "expected"),
    [
        (PREFILL, GOES_ON, True),
        (PREFILL, OWN_TURN, False),
        (PREFILL, f"\n  {OWN_TURN}", False),
        (PREFILL, f"Sure. {OWN_TURN}", False),
        (PREFILL, " Look. <think>It is blue.", False),
        # A second thought, once the first is closed, is the policy's, not the trainer's.
        (PREFILL, " So it is.</think> Again: <think>It is blue.</think><answer>B</answer>", True),
        ("<think>Red.</think>", OWN_TURN, True),  # nothing is open
        ("<think>Red.</think> Or <think>", OWN_TURN, False),
        ("The answer is", OWN_TURN, True),
    ],
)
def test_a_thought_opened_inside_another(prefill: str, completion: str, expected: bool) -> None:
    assert continues_prefill(prefill, completion, Style()) is expected


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([{"role": "user", "content": PREFILL}], False),
        ([{"role": "user", "content": "x"}, {"role": "assistant", "content": GOES_ON}], False),
        ([{"role": "user", "content": "x"}, {"role": "assistant", "content": PREFILL + GOES_ON}], True),
        ([{"role": "assistant", "content": [{"type": "text", "text": PREFILL}]}], True),
        (None, True),
        (["not messages"], True),
        (f"<|im_start|>assistant\n{PREFILL}", True),
        ("<|im_start|>assistant\n<think>\nIt is red.", True),  # the template opens the thought
        (f"<|im_start|>assistant\n{PREFILL}<|im_end|>\n<|im_start|>assistant\n", False),
    ],
)
def test_the_messages_that_a_trainer_shows(messages: Any, expected: bool) -> None:
    assert continues_prefill(PREFILL, GOES_ON, Style(), messages) is expected


@pytest.mark.parametrize("begun", ["Sure. ", "Let me look.\n", "Ich denke nach: "])
def test_words_in_front_of_an_own_thought(begun: str, caplog: pytest.LogCaptureFixture) -> None:
    """Found, counted and read as written; unless the trainer shows that the turn did begin with the prefill."""
    logged: dict[str, float] = {}
    reward = rewards.ConsistencyReward()
    assert reward(completions=[begun + OWN_TURN], **columns_of(1, log_metric=logged.__setitem__)) == [1.0]
    assert logged["consistency_reward/prefill_not_continued"] == 1.0
    assert "1 completions so far did not continue the prefill" in caplog.text
    assert continues_prefill(PREFILL, begun + OWN_TURN, Style(), f"<|im_start|>assistant\n{PREFILL}")
    assert not continues_prefill(PREFILL, begun + OWN_TURN, Style(), "<|im_start|>assistant\n")


def test_other_tags() -> None:
    style = Style(think_tags=("<reason>", "</reason>"))
    assert not continues_prefill("<reason>Red.", "<reason>Blue.</reason>", style)
    assert continues_prefill("<reason>Red.", "<think>Blue.</think>", style)


def test_a_template_that_opens_the_thought_and_a_policy_that_does_too() -> None:
    reward = FormatReward(opener="<think>\n")
    assert reward(completions=[OWN_TURN, "Blue.</think><answer>B</answer>"]) == [0.1, 0.1]
    # A dropped prefill, where the template opens the thought all the same.
    messages = [[{"role": "user", "content": "x"}, {"role": "assistant", "content": GOES_ON}]]
    assert reward(completions=[GOES_ON], prefill=[PREFILL], messages=messages) == [0.1]


def test_the_share_is_logged() -> None:
    logged: dict[str, float] = {}
    columns = columns_of(4, log_metric=logged.__setitem__, prefill=[PREFILL, PREFILL, "", PREFILL])
    rewards.accuracy_reward(completions=[OWN_TURN, GOES_ON, OWN_TURN, GOES_ON], **columns)
    assert logged == {"accuracy_reward/prefill_not_continued": pytest.approx(1 / 3)}
    logged.clear()
    rewards.accuracy_reward(completions=[OWN_TURN], **columns_of(1, log_metric=logged.__setitem__, prefill=[None]))
    assert logged == {}


def test_the_count_is_told_whenever_it_has_doubled(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="vlmrobust"):
        for _ in range(9):
            rewards.accuracy_reward(completions=[OWN_TURN], **columns_of(1))
        rewards.format_reward(completions=[OWN_TURN, OWN_TURN], **columns_of(2))
    count_for_log = [record.message.split(" completions")[0] for record in caplog.records]
    assert count_for_log == [f"accuracy_reward: {count}" for count in (1, 2, 4, 8)] + ["format_reward: 2"]
    assert "continue_prefill" in caplog.records[0].message


def test_texts_of_messages() -> None:
    assert message_text([{"type": "text", "text": "a"}, "b", {"type": "image", "text": None}]) == "ab"
    assert message_text(3) is None
    assert message_text([3]) is None
