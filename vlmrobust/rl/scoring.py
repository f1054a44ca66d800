"""Score completions for trainers that pass plain settings, packed columns and texts decoded with special tokens."""

import inspect
import json
import re
from collections.abc import Collection, Mapping, Sequence
from threading import Lock
from typing import Any

from ..catalogue import STYLES, judge_named
from ..metrics import FormatRate
from ..naming import unknown_name
from ..prompting import KNOWN_TOKENS
from ..text import snake_case
from ..types.frozen import Frozen, named_errors
from . import guards
from .completions import COLUMNS
from .rewards import AccuracyReward, ConsistencyReward, FaithfulnessReward, FormatReward, Reward

__all__ = [
    "GUARDS",
    "REWARDS",
    "require_text",
    "reward_of",
    "score_completions",
    "strip_end_tokens",
    "unpack_columns",
]

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

_REWARDS: dict[str, Reward] = {}
_REWARDS_LOCK = Lock()

_END_TOKENS = re.compile(rf"(?:\s*(?:{KNOWN_TOKENS.pattern.pattern}))+\s*\Z")


def score_completions(
    completions: Sequence[str],
    ground_truths: Sequence[Any],
    extras: Sequence[Mapping[str, Any] | None],
    settings: Mapping[str, Any],
    *,
    trainer: str,
    prompts: Sequence[str] | None = None,
) -> list[dict[str, float]]:
    """Return the terms of each completion's reward, with the reward itself as `score`; the terms are the same for all.

    Args:
        completions: N texts.
        ground_truths: N ground truths, see `unpack_columns`.
        extras: further columns of each row, see `unpack_columns`.
        settings: describe the reward, see `reward_of`.
        trainer: name of the calling trainer, for messages.
        prompts: the prompts as text, if the trainer passes them; they show whether the prefill reached the model.

    Returns:
        N mappings; an undefined term is 0.

    Raises:
        ValueError: a setting is unknown, a column is missing, or one of its values is invalid; the message names row
            and column.
        TypeError: a completion is neither text nor messages.

    Example:
        >>> row = {"solution": "B", "question": "Which?", "options": ["red", "blue"]}
        >>> score_completions(["<think>It is blue.</think><answer>B</answer>"], [row], [None], {}, trainer="a trainer")
        [{'format': 1.0, 'accuracy': 1.0, 'consistency': 1.0, 'score': 1.1}]
    """
    reward = reward_of(settings, where=trainer)
    rows = []
    for number, (ground_truth, extra) in enumerate(zip(ground_truths, extras, strict=True)):
        place = f"{trainer}, {reward.__name__}, row {number}"
        try:
            row = unpack_columns(ground_truth, extra)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        if missing := [name for name in reward.needs if name not in row]:
            is_letter = isinstance(ground_truth, str) and not ground_truth.lstrip().startswith("{")
            raise ValueError(
                f"{place}: expected a column {missing[0]!r}, got the columns {', '.join(sorted(row)) or '(none)'}"
                + (f"; the ground truth is not JSON text with columns: {ground_truth!r:.80}" if is_letter else "")
            )
        rows.append(row)
    columns = {name: [row.get(name) for row in rows] for name in COLUMNS if any(name in row for row in rows)}
    if prompts is not None:
        columns["messages"] = list(prompts)
    terms = reward.rows(completions, columns, trainer=trainer)
    return [{name: 0.0 if value != value else value for name, value in (row or {}).items()} for row in terms]


def reward_of(settings: Mapping[str, Any], *, where: str) -> Reward:
    """Return the reward that settings describe; equal settings give the same object, including its memory.

    Args:
        settings: plain values by name, all optional:
            `reward`: faithfulness (the default), accuracy, format or consistency; or a `Reward` as the only setting;
            `guards`: `recommended`, or a list of names, or of mappings of `name` and the guard's own fields;
            `judge`: `rules`, `hf:NAME`, `vllm:NAME` or `openai:NAME`, or a mapping of `name` and of `base_url`,
            `api_key_env`, `dtype`, `device` and `options`, see `judge_named`;
            `style`: a name, see `named_style`;
            and the reward's other fields by their names, such as `additive: 0.5` and `format_weight`.
        where: name of the trainer, for messages.

    Raises:
        ValueError: a name or a field is unknown (the message suggests the closest), or a value is invalid.

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
            raise ValueError(f"{place}: expected no settings besides a Reward object, got {', '.join(more)}")
        reward: Reward = settings["reward"]
        return reward
    plain = _to_plain(settings, place)
    key = json.dumps(plain, sort_keys=True)
    with _REWARDS_LOCK:  # trainers call from several threads, and a judge may have to load a checkpoint
        if key not in _REWARDS:
            _REWARDS[key] = _build_reward(plain, place)
        return _REWARDS[key]


def _to_plain(value: Any, place: str) -> Any:
    """Return a configuration value as plain dictionaries, lists and scalars."""
    if isinstance(value, Mapping):
        return {str(name): _to_plain(part, place) for name, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_to_plain(part, place) for part in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"{place}: expected plain values, or `reward` with a Reward, got {type(value).__name__}")


def _build_reward(settings: dict[str, Any], place: str) -> Reward:
    fields = {name: value for name, value in settings.items() if value is not None}
    reward_class = _look_up(REWARDS, fields.pop("reward", "faithfulness"), f"{place}, 'reward'", "a reward")
    _check_names(fields, ("reward", *reward_class.model_fields), f"{place}: expected names of settings")
    if "judge" in fields:
        fields["judge"] = _build_judge(fields["judge"], f"{place}, 'judge'")
    if "guards" in fields:
        fields["guards"] = _build_guards(fields["guards"], f"{place}, 'guards'")
    if "style" in fields:
        fields["style"] = _look_up(STYLES, fields["style"], f"{place}, 'style'", "a style")
    reward: Reward = named_errors(place, fields.get("name", reward_class.__name__), lambda: reward_class(**fields))
    return reward


def _look_up(table: Mapping[str, Any], name: Any, place: str, what: str) -> Any:
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"{place}: expected {what}, {unknown_name(str(name), table)}")
    return table[name]


def _check_names(fields: Mapping[str, Any], known: Collection[str], expected: str) -> None:
    for name in fields:
        if name not in known:
            raise ValueError(f"{expected}, {unknown_name(name, known)}")


def _build_judge(setting: Any, place: str) -> Any:
    fields = dict(setting) if isinstance(setting, Mapping) else {"name": setting}
    known = [name for name in inspect.signature(judge_named).parameters if name not in ("itself", "where")]
    _check_names(fields, known, f"{place}: expected names of settings")
    if not isinstance(fields.get("name"), str):
        raise ValueError(f"{place}: expected a judge's name, got {setting!r:.80}")
    return judge_named(**fields, where=place)


def _build_guards(setting: Any, place: str) -> tuple[Any, ...]:
    if isinstance(setting, str | Mapping):
        setting = [setting]
    if not isinstance(setting, list):
        raise ValueError(f"{place}: expected `recommended` or a list of guards, got {setting!r:.80}")
    built: list[Any] = []
    for item in setting:
        built += guards.recommended() if item == "recommended" else (_build_guard(item, place),)
    return tuple(built)


def _build_guard(setting: Any, place: str) -> Any:
    fields = dict(setting) if isinstance(setting, Mapping) else {"name": setting}
    name = fields.pop("name", None)
    guard_class = _look_up(GUARDS, name, place, "a guard, or `recommended`")
    _check_names(fields, guard_class.model_fields, f"{place}, {name}: expected its fields")
    for field in [field for field in ("reader", "judge") if field in fields]:
        fields[field] = _build_judge(fields[field], f"{place}, {name}, {field!r}")
    return named_errors(place, name, lambda: guard_class(**fields))


# --- trainers' arguments ----------------------------------------------------------------------------------------------


def unpack_columns(ground_truth: Any, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a row's columns where a trainer passes a single ground truth.

    Args:
        ground_truth: the correct letter; or the columns, as a mapping or as JSON text.
        extra: further columns. They replace columns that are None in the ground truth, as Arrow fills structs.

    Raises:
        ValueError: the ground truth starts like JSON but is not valid JSON.

    Example:
        >>> unpack_columns('{"solution": "B", "question": "Which?", "options": ["red", "blue"]}')["options"]
        ['red', 'blue']
        >>> unpack_columns("B")
        {'solution': 'B'}
        >>> unpack_columns({"solution": "B", "question": None}, {"question": "Which?"})
        {'solution': 'B', 'question': 'Which?'}
    """
    if extra is not None and not isinstance(extra, Mapping):
        raise ValueError(
            f"expected further columns (extra_info) as a mapping or None, got {type(extra).__name__}: {extra!r:.80}"
        )
    if isinstance(ground_truth, str) and ground_truth.lstrip().startswith("{"):
        try:
            ground_truth = json.loads(ground_truth)
        except ValueError as error:
            raise ValueError(f"expected a letter or JSON as ground truth, got {ground_truth!r:.80}: {error}") from error
    own = ground_truth if isinstance(ground_truth, Mapping) else {"solution": ground_truth}
    parts = (own, extra or {})
    merged = {name: next((part[name] for part in parts if part.get(name) is not None), None) for name in COLUMNS}
    return {name: value for name, value in merged.items() if value is not None}


def require_text(given: Any, what: str) -> str:
    """Return a trainer's argument, such as a decoded completion, if it is text.

    Raises:
        TypeError: it is not text.

    Example:
        >>> require_text("<answer>B</answer>", "a trainer, row 0, completion")
        '<answer>B</answer>'
    """
    if not isinstance(given, str):
        raise TypeError(f"{what}: expected text, got {type(given).__name__}: {given!r:.80}")
    return given


def strip_end_tokens(completion: str) -> str:
    """Return a completion without trailing end-of-turn and padding tokens.

    Example:
        >>> strip_end_tokens("<think>Blue.</think><answer>B</answer><|im_end|><|endoftext|>")
        '<think>Blue.</think><answer>B</answer>'
    """
    return _END_TOKENS.sub("", completion)
