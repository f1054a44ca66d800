"""verl and EasyR1: called with their exact signatures, and the same reward."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

import vlmrobust.rl.easyr1
from vlmrobust.rl import faithfulness_reward
from vlmrobust.rl.guards import LongEnough
from vlmrobust.rl.rewards import FaithfulnessReward
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


def test_verl_names_the_missing_column() -> None:
    with pytest.raises(ValueError, match="expected a column 'question', got the columns solution"):
        compute_score("demo", TEXTS[0], "B")


@pytest.fixture(scope="module")
def easyr1() -> Any:
    """Return the module as EasyR1 loads it: by its path, without its package."""
    path = Path(vlmrobust.rl.easyr1.__file__)
    spec = importlib.util.spec_from_file_location("custom_reward_fn", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_easyr1(easyr1: Any) -> None:
    assert easyr1.REWARD_TYPE == "batch"
    assert isinstance(easyr1.REWARD_NAME, str)
    inputs = [{"response": text, "response_length": 9, "ground_truth": json.dumps(COLUMNS)} for text in TEXTS]
    scores = easyr1.compute_score(inputs)
    assert [score["overall"] for score in scores] == EXPECTED
    assert {tuple(score) for score in scores} == {("overall", "format", "accuracy", "consistency")}
    assert all(isinstance(value, float) for score in scores for value in score.values())
