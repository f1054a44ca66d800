"""Rewards from plain values, as a YAML file of a trainer holds them."""

import pickle
from collections import UserDict, UserList
from typing import Any

import pytest

from vlmrobust import styles
from vlmrobust.judges import OpenAIJudge, RuleJudge
from vlmrobust.metrics import FormatRate
from vlmrobust.rl import guards, rewards
from vlmrobust.rl.configured import GUARDS, reward_of


def test_nothing_given_is_the_default_reward() -> None:
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


def test_the_recommended_guards_by_their_name() -> None:
    names = [guard.column for guard in guards.recommended()]
    for given in ("recommended", ["recommended"]):
        assert [guard.column for guard in reward_of({"guards": given}, where="x").guards] == names
    both = reward_of({"guards": ["recommended", "sufficient"]}, where="x")
    assert [guard.column for guard in both.guards] == [*names, "sufficient"]


@pytest.mark.parametrize(
    ("name", "kind"), [("accuracy", rewards.AccuracyReward), ("consistency", rewards.ConsistencyReward)]
)
def test_the_other_rewards(name: str, kind: type) -> None:
    assert type(reward_of({"reward": name, "name": "mine"}, where="x")) is kind


def test_a_reward_by_itself_is_that_reward() -> None:
    own = rewards.FormatReward(weight=2.0)
    assert reward_of({"reward": own}, where="x") is own
    with pytest.raises(ValueError, match=r"x, settings of the reward: expected a reward by itself.* got additive as"):
        reward_of({"reward": own, "additive": 1.0}, where="x")


def test_the_same_settings_are_the_same_reward_which_may_remember() -> None:
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
def test_what_is_not_known_is_refused_with_the_nearest(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"verl, settings of the reward.*{message}"):
        reward_of(settings, where="verl")
