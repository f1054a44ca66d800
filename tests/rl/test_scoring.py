"""Check rewards built from a trainer's plain settings, and errors that name trainer, row and column."""

import json
import logging
import pickle
import re
from collections import UserDict, UserList
from collections.abc import Callable
from typing import Any

import pytest

from vlmrobust import styles
from vlmrobust.judges import OpenAIJudge, RuleJudge
from vlmrobust.metrics import FormatRate
from vlmrobust.rl import areal, easyr1, faithfulness_reward, guards, openrlhf, rewards, verl
from vlmrobust.rl.rewards import AccuracyReward, ConsistencyReward
from vlmrobust.rl.scoring import GUARDS, reward_of
from vlmrobust.rl.skyrl import FaithfulnessEnv


def test_no_settings_give_the_default_reward() -> None:
    assert reward_of({}, where="verl") == rewards.faithfulness_reward
    assert reward_of({"guards": None, "judge": None}, where="verl") == rewards.faithfulness_reward


def test_every_setting_reaches_its_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "secret")
    made = reward_of(
        {
            "additive": 0.25,
            "format_weight": 0,
            "opener": "<think>\n",
            "style": "vigorl_spatial",
            "judge": {"name": "openai:small", "base_url": "http://localhost:1/v1", "api_key_env": "JUDGE_KEY"},
            "guards": ["untemplated", {"name": "long_enough", "words": 3}, {"name": "sufficient", "reader": "rules"}],
        },
        where="verl",
    )
    assert isinstance(made, rewards.FaithfulnessReward)
    assert (made.additive, made.format_weight, made.opener) == (0.25, 0.0, "<think>\n")
    assert made.style == styles.vigorl_spatial
    assert isinstance(made.judge, OpenAIJudge)
    assert made.judge.model == "small"
    assert made.guards == (guards.Untemplated(), guards.LongEnough(words=3), guards.Sufficient(reader=RuleJudge()))


def test_the_recommended_guards_by_name() -> None:
    names = [guard.column for guard in guards.recommended()]
    for setting in ("recommended", ["recommended"]):
        assert [guard.column for guard in reward_of({"guards": setting}, where="x").guards] == names
    both = reward_of({"guards": ["recommended", "sufficient"]}, where="x")
    assert [guard.column for guard in both.guards] == [*names, "sufficient"]


@pytest.mark.parametrize(
    ("name", "kind"), [("accuracy", rewards.AccuracyReward), ("consistency", rewards.ConsistencyReward)]
)
def test_the_other_rewards(name: str, kind: type) -> None:
    assert type(reward_of({"reward": name, "name": "mine"}, where="x")) is kind


def test_a_reward_object_is_returned() -> None:
    own = rewards.FormatReward(weight=2.0)
    assert reward_of({"reward": own}, where="x") is own
    with pytest.raises(
        ValueError, match=r"x, settings of the reward: expected no settings besides a Reward object, got additive"
    ):
        reward_of({"reward": own, "additive": 1.0}, where="x")


def test_equal_settings_give_the_same_reward_object() -> None:
    first = reward_of({"guards": [{"name": "untemplated", "n": 2}]}, where="verl")
    # Hydra hands over containers of its own.
    assert reward_of(UserDict({"guards": UserList([UserDict({"n": 2, "name": "untemplated"})])}), where="x") is first
    assert pickle.loads(pickle.dumps(first)) == first


def test_guards_are_found_by_their_name() -> None:
    assert {"long_enough", "untemplated", "sufficient", "format_rate"} <= set(GUARDS)
    assert GUARDS["format_rate"] is FormatRate
    assert not {"guard", "reader", "recommended"} & set(GUARDS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"additve": 1.0}, "expected names of settings, got 'additve'; did you mean 'additive'"),
        ({"reward": "faithful"}, "'reward': expected a reward, got 'faithful'; did you mean 'faithfulness'"),
        ({"reward": "format", "judge": "rules"}, "expected names of settings, got 'judge'; known are reward, name"),
        ({"guards": "recomended"}, "'guards': expected a guard, or `recommended`, got 'recomended'"),
        ({"guards": ["long_enuogh"]}, "'guards': .*got 'long_enuogh'; did you mean 'long_enough'"),
        (
            {"guards": [{"name": "long_enough", "word": 3}]},
            "'guards', long_enough: expected its fields, got 'word'; did you mean 'words'",
        ),
        ({"guards": [{"name": "long_enough", "words": 0}]}, "'long_enough', field 'words': .*got 0"),
        ({"guards": [{"words": 3}]}, "'guards': expected a guard, or `recommended`, got 'None'"),
        ({"guards": 3}, "'guards': expected `recommended` or a list of guards, got 3"),
        ({"judge": "rule"}, "'judge': expected rules, self, hf:NAME, vllm:NAME or openai:NAME, got 'rule'"),
        ({"judge": {"name": "openai:x", "baseurl": "y"}}, "'judge': .*got 'baseurl'; did you mean"),
        ({"judge": {"base_url": "y"}}, "'judge': expected a judge's name"),
        ({"style": "thinks"}, "'style': expected a style, got 'thinks'; did you mean 'think'"),
        ({"additive": "much"}, "field 'additive': .*got 'much'"),
        ({"judge": RuleJudge()}, "expected plain values, or `reward` with a Reward, got RuleJudge"),
    ],
)
def test_unknown_names_are_refused_with_a_suggestion(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"verl, settings of the reward.*{message}"):
        reward_of(settings, where="verl")


TURN = "<think>The bird is green.</think><answer>A</answer>"
ROW = {"solution": "A", "question": "What colour is the bird?", "options": ["green", "grey"]}
LABEL = json.dumps(ROW)
ASKED = "What colour is the bird? "
COLUMNS = {name: [value] * 2 for name, value in ROW.items()}
# What each trainer alone adds to its call, and what messages call it.
ADDED = {"TRL": {"log_metric": lambda *_: None}, "ms-swift": {"request_id": ["1"]}, "VLM-R1": {"accu_reward_method": 1}}


def of_openrlhf(queries: Any = None, prompts: Any = None, labels: Any = None) -> Any:
    queries = [ASKED + TURN] * 2 if queries is None else queries
    return openrlhf.reward_func(queries, [ASKED] * 2 if prompts is None else prompts, labels or [LABEL] * 2)


def of_skyrl(action: Any = TURN, spec: Any = None, **more: Any) -> Any:
    return FaithfulnessEnv(extras={"reward_spec": spec or {"ground_truth": ROW}, **more}).step(action)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: of_openrlhf(prompts=ASKED), "OpenRLHF, prompts: expected a list .* got str: 'What"),
        (lambda: of_openrlhf(queries=ASKED + TURN), "OpenRLHF, queries: expected a list .* got str"),
        (lambda: of_openrlhf(queries={"a": 1}), "OpenRLHF, queries: expected a list .* got dict"),
        (lambda: of_openrlhf(queries=7), "OpenRLHF, queries: expected a list .* got int"),
        (lambda: of_openrlhf(labels=LABEL), "OpenRLHF, labels: expected a list .* got str"),
        (lambda: of_openrlhf(labels=[LABEL]), "OpenRLHF, labels: expected 2 values, .* got 1"),
        (lambda: of_openrlhf(prompts=[ASKED]), "OpenRLHF, prompts: expected 2 values, .* got 1"),
        (lambda: of_openrlhf(queries=[ASKED + TURN, None]), "OpenRLHF, queries, row 1: expected text, got NoneType"),
        (lambda: of_openrlhf(prompts=[ASKED, ["x"]]), "OpenRLHF, prompts, row 1: expected text, got list"),
        (
            lambda: of_openrlhf(queries=[ASKED + TURN, "B"]),
            "OpenRLHF, queries, row 1: expected a query that contains the end",
        ),
        (
            lambda: of_openrlhf(labels=[LABEL, "nope"]),
            "OpenRLHF, .*row 1: .*column 'question'.*not JSON text with columns: 'nope'",
        ),
        (lambda: verl.compute_score("d", [TURN], ROW), "verl, solution_str: expected text, got list"),
        (lambda: verl.compute_score("d", None, ROW), "verl, solution_str: expected text, got NoneType"),
        (
            lambda: verl.compute_score("d", TURN, "A", "extra"),
            r"verl, .*row 0: expected further columns \(extra_info\) as a mapping or None, got str: 'extra'",
        ),
        (lambda: verl.compute_score("d", TURN, ["A"], ROW | {"solution": None}), "verl, .*row 0, column 'solution'"),
        (lambda: verl.compute_score("d", TURN, ROW | {"prefill": 3}), "verl, .*row 0, column 'prefill': .* got int: 3"),
        (
            lambda: verl.compute_score("d", TURN, ROW | {"options": {"A": "green"}}),
            "verl, .*row 0, column 'options': expected a list of texts, got a mapping",
        ),
        (lambda: areal.reward_fn(ASKED, [TURN], **ROW), "AReaL, completions: expected text, got list"),
        (lambda: areal.reward_fn([ASKED], TURN, **ROW), "AReaL, prompt: expected text, got list"),
        (
            lambda: areal.reward_fn(ASKED, TURN, settings="x", **ROW),
            "AReaL, settings .*: expected a mapping .* got str",
        ),
        (lambda: of_skyrl([TURN]), "SkyRL, action: expected text, got list"),
        (lambda: of_skyrl(spec="A"), "SkyRL, extras, 'reward_spec': expected a mapping or None, got str: 'A'"),
        (lambda: of_skyrl(extra_info="x"), "SkyRL, .*row 0: expected further columns .* got str"),
        (lambda: FaithfulnessEnv("x"), "SkyRL, environment's configuration: expected a mapping or None, got str"),
        (lambda: FaithfulnessEnv(extras=[1]), "SkyRL, extras: expected a mapping or None, got list"),
        (lambda: easyr1.compute_score(5), "EasyR1, reward inputs: expected a list of dictionaries, .* got one int"),
        (
            lambda: easyr1.compute_score([{"response": {"a": 1}, "ground_truth": LABEL}]),
            "EasyR1, .*row 0, completion: expected ",
        ),
    ],
)
def test_invalid_arguments_name_trainer_and_row(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        call()


@pytest.mark.parametrize("trainer", ADDED)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"completions": None}, "expected completions, or prompts and completions"),
        ({"completions": 3}, "expected a list of completions, .* got int: 3"),
        ({"completions": {TURN}}, "expected a list of completions, .* got set"),
        ({"completions": TURN}, "expected a list of 2 completions"),
        ({"completions": [TURN, None]}, "row 1, completion: expected text or a list of chat messages, got NoneType"),
        ({"completions": [TURN, [TURN]]}, "row 1, completion: expected text or a list of chat messages, got list"),
        (
            {"completions": [TURN, [{"role": "assistant", "content": [{"type": "text", "text": 3}]}]]},
            "row 1, completion: expected a message whose content is text or a list of parts",
        ),
        (
            {"completions": [TURN, [{"role": "assistant", "content": TURN, "reasoning": ["x"]}]]},
            "row 1, completion: expected the thought to be text",
        ),
        ({"question": "Which?"}, r"expected column 'question' to have one value per completion \(2\), got str"),
        ({"question": {"a": 1, "b": 2}}, r"expected column 'question' to have .* \(2\), got dict"),
        ({"options": [["green", "grey"]]}, r"expected column 'options' to have .* \(2\), got 1 values"),
        ({"options": [["green", "grey"], {"A": "green"}]}, "row 1, column 'options': .* got a mapping"),
        ({"question": ["Which?", ["Which?"]]}, "row 1, column 'question': expected text, got list"),
        ({"prefill": ["", {"a": 1}]}, "row 1, column 'prefill': expected text, got dict"),
        ({"solution": ["A", {"a": 1}]}, "row 1, column 'solution': expected the letter of an option"),
    ],
)
def test_invalid_columns_name_trainer_row_and_column(trainer: str, change: dict[str, Any], message: str) -> None:
    arguments = {"completions": [TURN] * 2} | COLUMNS | ADDED[trainer] | change
    name = "" if change.get("completions", "") is None else f"{trainer}, "
    with pytest.raises((ValueError, TypeError), match=f"^{name}faithfulness_reward[:,] ?{message}"):
        faithfulness_reward(**arguments)


def test_none_is_logged_by_column_and_rows(caplog: pytest.LogCaptureFixture) -> None:
    """Rows of another task have None, and get None: that is no error, but it is said, and not at every step."""
    columns = COLUMNS | {"solution": ["A", None], "log_metric": lambda *_: None}
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            assert AccuracyReward()(completions=[TURN] * 2, **columns) == [1.0, None]
    messages = [record.getMessage() for record in caplog.records]
    assert [re.findall(r"\d+", text) for text in messages] == [["1", "2", "1"], ["1", "2", "2"], ["1", "2", "4"]]
    assert all(
        text.startswith("TRL, accuracy_reward: column 'solution' is None in 1 of the 2 rows") for text in messages
    )


def test_none_in_all_rows_of_a_batch(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert ConsistencyReward()(completions=[TURN] * 2, **COLUMNS | {"options": [None] * 2}) == [None] * 2
    assert "consistency_reward: column 'options' is None in 2 of the 2 rows of this batch" in caplog.text
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        assert ConsistencyReward()(completions=[TURN] * 2, **COLUMNS) == [1.0] * 2
    assert not caplog.records
