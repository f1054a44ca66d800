"""Check the reward functions for verl, EasyR1, OpenRLHF, AReaL and SkyRL with their exact signatures."""

import importlib.util
import json
import logging
import pickle
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vlmrobust.rl.easyr1
import vlmrobust.rl.openrlhf
import vlmrobust.rl.verl
from vlmrobust.rl import faithfulness_reward
from vlmrobust.rl.areal import reward_fn
from vlmrobust.rl.guards import LongEnough
from vlmrobust.rl.openrlhf import extract_completion
from vlmrobust.rl.rewards import FaithfulnessReward
from vlmrobust.rl.scoring import strip_end_tokens
from vlmrobust.rl.skyrl import FaithfulnessEnv
from vlmrobust.rl.verl import compute_score

TEXTS = (
    "<think>The cube is blue.</think><answer>B</answer>",
    "<think>The cube is blue.</think><answer>A</answer>",
    "",
    "<answer>A or B",
)
COLUMNS = {"solution": "B", "question": "Which colour?", "options": ["red", "blue"], "prefill": ""}
EXPECTED = faithfulness_reward(
    completions=list(TEXTS), **{name: [value] * len(TEXTS) for name, value in COLUMNS.items()}
)


@pytest.mark.parametrize(
    ("ground_truth", "extra_info"),
    [
        (COLUMNS, None),
        (json.dumps(COLUMNS), {"index": 3}),
        ("B", {"question": "Which colour?", "options": ["red", "blue"], "split": "train"}),
        # Arrow gives every struct the fields of all of them, and pandas makes arrays of lists.
        (
            COLUMNS | {"question": None, "options": None},
            COLUMNS | {"solution": None, "options": np.array(["red", "blue"])},
        ),
        (json.dumps(COLUMNS | {"question": None}), {"question": "Which colour?", "num_turns": None}),
    ],
)
def test_verl(ground_truth: Any, extra_info: Any) -> None:
    scores = [
        compute_score(
            data_source="demo",
            solution_str=text,
            ground_truth=ground_truth,
            extra_info=extra_info,
            reward_router_address=None,
            reward_model_tokenizer=None,
        )
        for text in TEXTS
    ]
    assert [score["score"] for score in scores] == EXPECTED
    assert {tuple(score) for score in scores} == {("format", "accuracy", "consistency", "score")}
    assert all(isinstance(value, float) and value == value for score in scores for value in score.values())


def test_verl_with_another_reward_and_a_prefill() -> None:
    guarded = FaithfulnessReward(guards=(LongEnough(words=9),))
    assert compute_score("demo", TEXTS[0], COLUMNS, reward=guarded)["score"] == 0.0
    columns = COLUMNS | {"prefill": "<think>It is red."}
    assert compute_score("demo", " No, it is blue.</think><answer>B</answer>", columns)["score"] == 1.1


@pytest.mark.parametrize(
    ("ground_truth", "extra_info", "message"),
    [
        ("B", None, "^verl, faithfulness_reward, row 0: expected a column 'question', got the columns solution"),
        (
            None,
            COLUMNS | {"solution": None},
            "row 0: expected a column 'solution', got the columns options, prefill, qu",
        ),
        (
            "{broken",
            COLUMNS,
            "^verl, faithfulness_reward, row 0: expected a letter or JSON as ground truth, got",
        ),
        ("C", COLUMNS, r"row 0, column 'solution': expected the letter of an option \(one of AB\), got 'C'"),
        ("B", COLUMNS | {"options": "red, blue"}, "row 0, column 'options': expected a list of texts, got a string"),
        ("B", COLUMNS | {"options": [1, 2]}, "row 0, column 'options': expected a list of texts, got 1 in it"),
        ("B", COLUMNS | {"options": 3}, "row 0, column 'options': expected a list of texts, got 3"),
        ("B", COLUMNS | {"options": np.array(3)}, r"row 0, column 'options': expected a list of texts, got array\(3\)"),
        ("B", COLUMNS | {"question": 7}, "row 0, column 'question': expected text, got int: 7"),
    ],
)
def test_errors_name_the_place(ground_truth: Any, extra_info: Any, message: str) -> None:
    if isinstance(extra_info, dict) and isinstance(ground_truth, str):
        extra_info = {name: value for name, value in extra_info.items() if name != "solution"}
    with pytest.raises(ValueError, match=message):
        compute_score("demo", TEXTS[0], ground_truth, extra_info)


def test_settings_choose_the_reward() -> None:
    settings = {"guards": [{"name": "long_enough", "words": 9}], "additive": 0.5}
    terms = compute_score("demo", TEXTS[0], COLUMNS, **settings)
    assert terms == {"format": 1.0, "accuracy": 1.0, "consistency": 1.0, "long_enough": 0.0, "score": 1.1}
    with pytest.raises(ValueError, match=r"^verl, settings of the reward: .*got 'guard'; did you mean 'guards'"):
        compute_score("demo", TEXTS[0], COLUMNS, guard="recommended")


def test_verls_first_completion_is_undefined_for_untemplated() -> None:
    """Undefined is 0 with a warning, never 1; from the next one on a thought is compared with those before it."""
    settings = {"guards": [{"name": "untemplated", "memory": 3}], "unsure": "named"}

    def score(thought: str, answer: str, question: str) -> tuple[float, float]:
        text = f"<think>{thought}</think><answer>{answer}</answer>"
        terms = compute_score("demo", text, COLUMNS | {"solution": answer, "question": question}, **settings)
        return terms["untemplated"], terms["score"]

    with pytest.warns(UserWarning, match="untemplated: 1 of 1 thoughts have nothing to be compared with"):
        assert score("The door behind the van has the colour of the sky, blue.", "B", "The door?") == (0.0, 0.0)
    assert score("Of the two kites the lower one looks red to me.", "A", "The kite?") == (1.0, 1.1)
    assert score("Of the two kites the lower one looks blue to me.", "B", "The boat?") == (0.0, 0.0)
    assert score("Its hull is red like the roofs on the shore.", "A", "The boat?") == (1.0, 1.1)


def loaded_by_path(module: Any) -> Any:
    """Return a module as EasyR1 loads it, and verl where it is given by path: without its package."""
    spec = importlib.util.spec_from_file_location("custom_reward_fn", Path(module.__file__))
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_verl_by_its_path() -> None:
    assert loaded_by_path(vlmrobust.rl.verl).compute_score("demo", TEXTS[0], COLUMNS)["score"] == EXPECTED[0]


@pytest.fixture(scope="module")
def easyr1() -> Any:
    return loaded_by_path(vlmrobust.rl.easyr1)


def test_easyr1_passes_a_whole_batch(easyr1: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard that compares thoughts has all of them; what one row lacks does not take the column from the others."""
    turn = "<think>As one can plainly see in this picture, it is {}.</think><answer>{}</answer>"
    ground_truths = [
        COLUMNS | {"question": "What?"},
        COLUMNS | {"solution": "A", "question": "Which?", "prefill": None},
    ]
    texts = [turn.format("blue", "B"), turn.format("red", "A")]
    inputs = [{"response": t, "ground_truth": json.dumps(g)} for t, g in zip(texts, ground_truths, strict=True)]
    assert [score["untemplated"] for score in easyr1.compute_score(inputs, guards=["untemplated"])] == [0.0, 0.0]
    assert [score["overall"] for score in easyr1.compute_score(inputs)] == [1.1, 1.1]
    with pytest.raises(ValueError, match=r"^EasyR1, faithfulness_reward, row 1: expected a column 'options', got the"):
        easyr1.compute_score([inputs[0], {"response": "x", "ground_truth": '{"solution": "A", "question": "Q"}'}])
    with pytest.raises(ValueError, match=r"^EasyR1, settings of the reward: .*got 'aditive'; did you mean 'additive'"):
        easyr1.compute_score(inputs, aditive=0.5)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (TEXTS[0], TypeError, "EasyR1, reward inputs: expected a list of dictionaries, .*got one str: "),
        ({"response": "A", "ground_truth": "A"}, TypeError, "EasyR1, reward inputs: expected a list .*got one dict: "),
        ([TEXTS[0]], TypeError, "EasyR1, reward inputs, row 0: expected a dictionary with response and .*, got str: "),
        (
            [{"response": "A", "ground_truth": json.dumps(COLUMNS)}, {"response": "A", "answer": "A"}],
            ValueError,
            "EasyR1, reward inputs, row 1: expected a key 'ground_truth', got the keys response, answer",
        ),
    ],
)
def test_easyr1_refuses_invalid_batches(easyr1: Any, inputs: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        easyr1.compute_score(inputs)


def test_easyr1(easyr1: Any) -> None:
    assert easyr1.REWARD_TYPE == "batch"
    assert isinstance(easyr1.REWARD_NAME, str)
    inputs = [{"response": text, "response_length": 9, "ground_truth": json.dumps(COLUMNS)} for text in TEXTS]
    scores = easyr1.compute_score(inputs)
    assert [score["overall"] for score in scores] == EXPECTED
    assert {tuple(score) for score in scores} == {("overall", "format", "accuracy", "consistency")}
    assert all(isinstance(value, float) for score in scores for value in score.values())


PADS = "<|vision_start|>" + "<|image_pad|>" * 40 + "<|vision_end|>"
PROMPT = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Which colour?<|im_end|>\n<|im_start|>assistant\n"
ASKED = PROMPT.replace("<|vision_start|><|image_pad|><|vision_end|>", PADS)  # as the processor wrote it out
BALL_TEXTS = (
    "<think>The ball is green.</think><answer>A</answer>",
    "<think>The ball is grey.</think><answer>A</answer>",
    "<think>The ball is grey.</think><answer>B</answer>",
    "A",
    "",
)
ROW = {"solution": "A", "question": "Which colour?", "options": ["green", "grey"], "prefill": ""}
BALL_EXPECTED = faithfulness_reward(completions=list(BALL_TEXTS), **{name: [value] * 5 for name, value in ROW.items()})


def test_the_rewards_by_hand() -> None:
    """Right and consistent; right by a thought that says otherwise; well-formed and wrong; no thought; nothing."""
    assert BALL_EXPECTED == [1.1, 0.0, 0.1, 0.0, 0.0]


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
    for text, expected in zip(BALL_TEXTS, BALL_EXPECTED, strict=True):
        found = openrlhf.reward_func([f"{ASKED}{text}<|im_end|>"], [PROMPT], [json.dumps(ROW)])
        assert found["rewards"].tolist() == pytest.approx([expected])
        assert torch.equal(found["rewards"], found["scores"])
        assert set(found["extra_logs"]) == {"format", "accuracy", "consistency"}
        assert all(value.shape == (1,) and not value.isnan().any() for value in found["extra_logs"].values())


def test_openrlhf_with_settings_and_a_prefill(openrlhf: Any) -> None:
    guarded = partial(openrlhf.reward_func, guards=[{"name": "long_enough", "words": 9}], additive=0.5)
    found = guarded([ASKED + BALL_TEXTS[0]], [PROMPT], [json.dumps(ROW)])
    assert found["rewards"].tolist() == pytest.approx([1.1])
    assert found["extra_logs"]["long_enough"].tolist() == [0.0]
    label = json.dumps(ROW | {"prefill": "<think>It is grey."})
    closes = "</think><answer>B</answer>"
    begun, not_begun = PROMPT + "<think>It is grey.", PROMPT
    both = [openrlhf.reward_func([asked + closes], [asked], [label]) for asked in (begun, not_begun)]
    assert [found["extra_logs"]["consistency"].item() for found in both] == [1.0, 0.0]


def test_errors_are_logged_as_openrlhf_swallows_them(openrlhf: Any, caplog: pytest.LogCaptureFixture) -> None:
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


def test_extract_completion() -> None:
    assert extract_completion(ASKED + BALL_TEXTS[0], PROMPT) == BALL_TEXTS[0]
    assert extract_completion(ASKED[30:] + BALL_TEXTS[0], PROMPT) == BALL_TEXTS[0]  # cut at its beginning
    assert extract_completion(PROMPT + PROMPT, PROMPT) == PROMPT  # a policy that repeats what it was asked
    assert extract_completion("text", "") == "text"
    with pytest.raises(
        ValueError, match=r"expected a query that contains the end of its prompt, .*assistant.*, got 'Another"
    ):
        extract_completion("Another query, with nothing of it.", PROMPT)


@pytest.mark.parametrize(
    "end", ["<|im_end|>", "<|im_end|>\n<|endoftext|>", "</s><pad><pad>", "<end_of_turn>\n", "", "\n"]
)
def test_strip_end_tokens(end: str) -> None:
    assert strip_end_tokens(BALL_TEXTS[0] + end) == BALL_TEXTS[0] + (end if not end.strip() else "")
    assert strip_end_tokens(end + BALL_TEXTS[0]) == end + BALL_TEXTS[0]


# --- AReaL ------------------------------------------------------------------------------------------------------------


def test_areal() -> None:
    row = ROW | {"images": ["x.png"], "messages": PROMPT, "answer": "A"}
    calls = [partial(reward_fn, ASKED, f"{text}<|im_end|>", [1], [2], **row) for text in BALL_TEXTS]
    assert [call() for call in calls] == BALL_EXPECTED
    by_name = {"prompt": ASKED, "completions": BALL_TEXTS[0], "prompt_ids": [1], "completion_ids": [2]}
    assert reward_fn(**by_name, **row) == 1.1
    with pytest.raises(
        ValueError, match=r"^AReaL, faithfulness_reward, row 0: expected a column 'options', got the col"
    ):
        reward_fn(ASKED, "A", [], [], solution="A", question="Which?")
    with pytest.raises(ValueError, match=r"^AReaL, settings of the reward: .*'guard'; did you mean 'guards'"):
        reward_fn(ASKED, "A", [], [], settings={"guard": []}, **ROW)


def test_areal_pickles_the_function_to_a_process() -> None:
    guarded = partial(reward_fn, settings={"guards": [{"name": "long_enough", "words": 9}]})
    call = pickle.loads(pickle.dumps(partial(guarded, ASKED, BALL_TEXTS[0], [1], [2], **ROW)))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(call).result() == 0.0
        assert pool.submit(partial(reward_fn, ASKED, BALL_TEXTS[0], [1], [2], **ROW)).result() == 1.1


# --- SkyRL ------------------------------------------------------------------------------------------------------------


def test_skyrl() -> None:
    for text, expected in zip(BALL_TEXTS, BALL_EXPECTED, strict=True):
        env = FaithfulnessEnv(env_config={}, extras={"reward_spec": {"ground_truth": json.dumps(ROW)}})
        step = env.step(text)
        assert (step["reward"], step["done"], step["observations"]) == (expected, True, [])
        assert env.get_metrics()["score"] == expected
    with pytest.raises(ValueError, match=r"^SkyRL, faithfulness_reward, row 0: expected a column 'question'"):
        FaithfulnessEnv(extras={"reward_spec": {"ground_truth": "A"}}).step("A")
