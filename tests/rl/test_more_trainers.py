"""OpenRLHF, AReaL and SkyRL: called as they call, and the same reward."""

import importlib.util
import json
import logging
import pickle
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

import vlmrobust.rl.openrlhf
from vlmrobust.rl import faithfulness_reward
from vlmrobust.rl.areal import reward_fn
from vlmrobust.rl.decoded import completion_in, without_end
from vlmrobust.rl.skyrl import FaithfulnessEnv

PADS = "<|vision_start|>" + "<|image_pad|>" * 40 + "<|vision_end|>"
PROMPT = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Which colour?<|im_end|>\n<|im_start|>assistant\n"
ASKED = PROMPT.replace("<|vision_start|><|image_pad|><|vision_end|>", PADS)  # as the processor wrote it out
TEXTS = (
    "<think>The ball is green.</think><answer>A</answer>",
    "<think>The ball is grey.</think><answer>A</answer>",
    "<think>The ball is grey.</think><answer>B</answer>",
    "A",
    "",
)
ROW = {"solution": "A", "question": "Which colour?", "options": ["green", "grey"], "prefill": ""}
EXPECTED = faithfulness_reward(completions=list(TEXTS), **{name: [value] * 5 for name, value in ROW.items()})


def test_the_rewards_by_hand() -> None:
    """Right and consistent; right by a thought that says otherwise; well-formed and wrong; no thought; nothing."""
    assert EXPECTED == [1.1, 0.0, 0.1, 0.0, 0.0]


# --- OpenRLHF ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def openrlhf() -> Any:
    """Return the module as OpenRLHF loads it: by its path, without its package."""
    spec = importlib.util.spec_from_file_location("reward_func", Path(vlmrobust.rl.openrlhf.__file__))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_openrlhf(openrlhf: Any) -> None:
    for text, expected in zip(TEXTS, EXPECTED, strict=True):
        found = openrlhf.reward_func([f"{ASKED}{text}<|im_end|>"], [PROMPT], [json.dumps(ROW)])
        assert found["rewards"].tolist() == pytest.approx([expected])
        assert torch.equal(found["rewards"], found["scores"])
        assert set(found["extra_logs"]) == {"format", "accuracy", "consistency"}
        assert all(value.shape == (1,) and not value.isnan().any() for value in found["extra_logs"].values())


def test_openrlhf_with_settings_and_a_prefill(openrlhf: Any) -> None:
    guarded = partial(openrlhf.reward_func, guards=[{"name": "long_enough", "words": 9}], additive=0.5)
    found = guarded([ASKED + TEXTS[0]], [PROMPT], [json.dumps(ROW)])
    assert found["rewards"].tolist() == pytest.approx([1.1])
    assert found["extra_logs"]["long_enough"].tolist() == [0.0]
    label = json.dumps(ROW | {"prefill": "<think>It is grey."})
    closes = "</think><answer>B</answer>"
    begun, not_begun = PROMPT + "<think>It is grey.", PROMPT
    both = [openrlhf.reward_func([asked + closes], [asked], [label]) for asked in (begun, not_begun)]
    assert [found["extra_logs"]["consistency"].item() for found in both] == [1.0, 0.0]


def test_openrlhf_swallows_errors_so_they_are_logged(openrlhf: Any, caplog: pytest.LogCaptureFixture) -> None:
    label = json.dumps(ROW | {"solution": "C"})
    with (
        caplog.at_level(logging.ERROR),
        pytest.raises(ValueError, match=r"^OpenRLHF, faithfulness_reward, row 0, column 'solution': .*got 'C'"),
    ):
        openrlhf.reward_func([ASKED + "A"], [PROMPT], [label])
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "without a reward for 1 completions" in record.getMessage()
    assert record.exc_info is not None


def test_the_completion_is_what_follows_the_prompt() -> None:
    assert completion_in(ASKED + TEXTS[0], PROMPT) == TEXTS[0]
    assert completion_in(ASKED[30:] + TEXTS[0], PROMPT) == TEXTS[0]  # cut at its beginning
    assert completion_in(PROMPT + PROMPT, PROMPT) == PROMPT  # a policy that repeats what it was asked
    assert completion_in("text", "") == "text"
    with pytest.raises(ValueError, match=r"expected a query with the end of its prompt, .*assistant.*, got 'Another"):
        completion_in("Another query, with nothing of it.", PROMPT)


@pytest.mark.parametrize(
    "end", ["<|im_end|>", "<|im_end|>\n<|endoftext|>", "</s><pad><pad>", "<end_of_turn>\n", "", "\n"]
)
def test_ends_of_turns(end: str) -> None:
    assert without_end(TEXTS[0] + end) == TEXTS[0] + (end if not end.strip() else "")
    assert without_end(end + TEXTS[0]) == end + TEXTS[0]


# --- AReaL ------------------------------------------------------------------------------------------------------------


def test_areal() -> None:
    row = ROW | {"images": ["x.png"], "messages": PROMPT, "answer": "A"}
    calls = [partial(reward_fn, ASKED, f"{text}<|im_end|>", [1], [2], **row) for text in TEXTS]
    assert [call() for call in calls] == EXPECTED
    by_name = {"prompt": ASKED, "completions": TEXTS[0], "prompt_ids": [1], "completion_ids": [2]}
    assert reward_fn(**by_name, **row) == 1.1
    with pytest.raises(
        ValueError, match=r"^AReaL, faithfulness_reward, row 0: expected a column 'options', got the col"
    ):
        reward_fn(ASKED, "A", [], [], solution="A", question="Which?")
    with pytest.raises(ValueError, match=r"^AReaL, settings of the reward: .*'guard'; did you mean 'guards'"):
        reward_fn(ASKED, "A", [], [], settings={"guard": []}, **ROW)


def test_areal_pickles_it_to_a_process() -> None:
    guarded = partial(reward_fn, settings={"guards": [{"name": "long_enough", "words": 9}]})
    call = pickle.loads(pickle.dumps(partial(guarded, ASKED, TEXTS[0], [1], [2], **ROW)))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(call).result() == 0.0
        assert pool.submit(partial(reward_fn, ASKED, TEXTS[0], [1], [2], **ROW)).result() == 1.1


# --- SkyRL ------------------------------------------------------------------------------------------------------------


def test_skyrl() -> None:
    for text, expected in zip(TEXTS, EXPECTED, strict=True):
        env = FaithfulnessEnv(env_config={}, extras={"reward_spec": {"ground_truth": json.dumps(ROW)}})
        step = env.step(text)
        assert (step["reward"], step["done"], step["observations"]) == (expected, True, [])
        assert env.get_metrics()["score"] == expected
    with pytest.raises(ValueError, match=r"^SkyRL, faithfulness_reward, row 0: expected a column 'question'"):
        FaithfulnessEnv(extras={"reward_spec": {"ground_truth": "A"}}).step("A")
