"""The reward that plain values stand for, as a trainer's configuration file holds them: the one table of them."""

import inspect
import json
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

from ..metrics import FormatRate
from ..named_judges import judge_named
from ..named_styles import named_style
from ..naming import snake_case, unknown_name
from ..types.validated import Frozen, named_errors
from . import guards
from .rewards import AccuracyReward, ConsistencyReward, FaithfulnessReward, FormatReward, Reward

__all__ = ["GUARDS", "REWARDS", "reward_of"]

REWARDS: Mapping[str, type[Reward]] = {
    "faithfulness": FaithfulnessReward,
    "accuracy": AccuracyReward,
    "format": FormatReward,
    "consistency": ConsistencyReward,
}

GUARDS: Mapping[str, Any] = {
    snake_case(each.__name__): each
    for each in (*(getattr(guards, name) for name in guards.__all__), FormatRate)
    if isinstance(each, type) and issubclass(each, Frozen)
}

_MADE: dict[str, Reward] = {}
_MAKING = Lock()


def reward_of(settings: Mapping[str, Any], *, where: str) -> Reward:
    """Return the reward that settings stand for; the same settings are the same reward, with what it remembers.

    Args:
        settings: plain values by name, none of which has to be there:
            `reward`: faithfulness (the default), accuracy, format or consistency; or a `Reward`, by itself;
            `guards`: `recommended`, or a list of names, or of mappings of `name` and the guard's own fields;
            `judge`: `rules`, `hf:NAME`, `vllm:NAME` or `openai:NAME`, or a mapping of `name` and of `base_url`,
            `api_key_env`, `dtype`, `device` and `options`, see `judge_named`;
            `style`: a name, see `named_style`;
            and the reward's other fields by their names, such as `additive: 0.5` and `format_weight`.
        where: whose settings they are, for messages.

    Raises:
        ValueError: a name or a field is not known, the nearest being told, or a value does not fit.

    Example:
        >>> reward_of({"additive": 0.5, "guards": [{"name": "long_enough", "words": 12}]}, where="verl").guards[0].words
        12
        >>> reward_of({"additve": 0.5}, where="verl")
        Traceback (most recent call last):
        ...
        ValueError: verl, settings of the reward: expected names of settings, got 'additve'; did you mean 'additive'? \
Known are reward, name, style, opener, none_value, judge, format_weight, additive, guards, unsure
    """
    place = f"{where}, settings of the reward"
    if not isinstance(settings, Mapping):
        raise ValueError(f"{place}: expected a mapping of names, got {type(settings).__name__}: {settings!r:.80}")
    if isinstance(settings.get("reward"), Reward):
        if more := [name for name in settings if name != "reward"]:
            raise ValueError(f"{place}: expected a reward by itself, which has its own, got {', '.join(more)} as well")
        reward: Reward = settings["reward"]
        return reward
    plain = _plain(settings, place)
    key = json.dumps(plain, sort_keys=True)
    with _MAKING:  # trainers ask from several threads, and a judge may be a checkpoint
        if key not in _MADE:
            _MADE[key] = _made(plain, place)
        return _MADE[key]


def _plain(value: Any, place: str) -> Any:
    """Return a value of a configuration file as dictionaries, lists and what stands in them."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part, place) for name, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(part, place) for part in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"{place}: expected plain values, or `reward` with a Reward, got {type(value).__name__}")


def _made(settings: dict[str, Any], place: str) -> Reward:
    given = {name: value for name, value in settings.items() if value is not None}
    kind = _known(REWARDS, given.pop("reward", "faithfulness"), f"{place}, 'reward'", "a reward")
    fields = ("reward", *kind.model_fields)
    for name in given:
        if name not in fields:
            raise ValueError(f"{place}: expected names of settings, {unknown_name(name, fields)}")
    if "judge" in given:
        given["judge"] = _judge(given["judge"], f"{place}, 'judge'")
    if "guards" in given:
        given["guards"] = _guards(given["guards"], f"{place}, 'guards'")
    if "style" in given:
        given["style"] = _style(given["style"], f"{place}, 'style'")
    reward: Reward = named_errors(place, given.get("name", kind.__name__), lambda: kind(**given))
    return reward


def _known(table: Mapping[str, Any], name: Any, place: str, what: str) -> Any:
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"{place}: expected {what}, {unknown_name(str(name), table)}")
    return table[name]


def _style(name: Any, place: str) -> Any:
    try:
        return named_style(str(name))
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _judge(given: Any, place: str) -> Any:
    fields = dict(given) if isinstance(given, Mapping) else {"name": given}
    known = [name for name in inspect.signature(judge_named).parameters if name not in ("itself", "where")]
    for name in fields:
        if name not in known:
            raise ValueError(f"{place}: expected names of settings, {unknown_name(name, known)}")
    if not isinstance(fields.get("name"), str):
        raise ValueError(f"{place}: expected a judge's name, got {given!r:.80}")
    return judge_named(**fields, where=place)


def _guards(given: Any, place: str) -> tuple[Any, ...]:
    if given == "recommended":
        return guards.recommended()
    if isinstance(given, str | Mapping):
        given = [given]
    if not isinstance(given, list):
        raise ValueError(f"{place}: expected `recommended` or a list of guards, got {given!r:.80}")
    found: list[Any] = []
    for one in given:
        found += guards.recommended() if one == "recommended" else (_guard(one, place),)
    return tuple(found)


def _guard(given: Any, place: str) -> Any:
    fields = dict(given) if isinstance(given, Mapping) else {"name": given}
    name = fields.pop("name", None)
    kind = _known(GUARDS, name, place, "a guard, or `recommended`")
    for field in fields:
        if field not in kind.model_fields:
            raise ValueError(f"{place}, {name}: expected its fields, {unknown_name(field, kind.model_fields)}")
        if field in ("reader", "judge"):
            fields[field] = _judge(fields[field], f"{place}, {name}, {field!r}")
    return named_errors(place, name, lambda: kind(**fields))
