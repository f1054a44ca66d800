"""Score completions as trainers hand them over: plain settings, packed columns, texts decoded with special tokens."""

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

from ..catalogue import judge_named, named_style
from ..metrics import FormatRate
from ..naming import snake_case, unknown_name
from ..prompting import KNOWN_TOKENS
from ..types.frozen import Frozen, named_errors
from . import guards
from .completions import COLUMNS, is_list
from .rewards import AccuracyReward, ConsistencyReward, FaithfulnessReward, FormatReward, Reward

__all__ = [
    "GUARDS",
    "REWARDS",
    "checked_list",
    "checked_text",
    "completion_in",
    "packed_columns",
    "reward_of",
    "scored",
    "without_end",
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

_MADE: dict[str, Reward] = {}
_MAKING = Lock()

_FEWEST = 16  # characters of a prompt's end that have to be found
_END = re.compile(rf"(?:\s*(?:{KNOWN_TOKENS.pattern.pattern}))+\s*\Z")


def scored(
    completions: Sequence[str],
    ground_truths: Sequence[Any],
    extras: Sequence[Mapping[str, Any] | None],
    settings: Mapping[str, Any],
    *,
    trainer: str,
    prompts: Sequence[str] | None = None,
) -> list[dict[str, float]]:
    """Return the terms of each completion's reward, and the reward itself as `score`; each has the same terms.

    Args:
        completions: N texts.
        ground_truths: one each, see `packed_columns`.
        extras: further columns of each, see `packed_columns`.
        settings: which reward, see `reward_of`.
        trainer: the trainer that calls, for messages.
        prompts: the prompts as text, where the trainer shows them, which tells whether they end with the prefill.

    Returns:
        N mappings; a term that is undefined is 0.

    Raises:
        ValueError: a setting is not known, a column is missing, or a value in it cannot be read; row and column are
            named.
        TypeError: a completion is neither text nor messages.

    Example:
        >>> row = {"solution": "B", "question": "Which?", "options": ["red", "blue"]}
        >>> scored(["<think>It is blue.</think><answer>B</answer>"], [row], [None], {}, trainer="a trainer")
        [{'format': 1.0, 'accuracy': 1.0, 'consistency': 1.0, 'score': 1.1}]
    """
    reward = reward_of(settings, where=trainer)
    rows = []
    for number, (ground_truth, extra) in enumerate(zip(ground_truths, extras, strict=True)):
        try:
            rows.append(_row(ground_truth, extra))
        except ValueError as error:
            raise ValueError(f"{trainer}, {reward.__name__}, row {number}: {error}") from error
    columns = {name: [row.get(name) for row in rows] for name in COLUMNS if any(name in row for row in rows)}
    for number, row in enumerate(rows):
        if missing := [name for name in reward.needs if name not in row]:
            given = ground_truths[number]
            is_letter = isinstance(given, str) and not given.lstrip().startswith("{")
            raise ValueError(
                f"{trainer}, {reward.__name__}, row {number}: expected a column {missing[0]!r}, got the columns "
                f"{', '.join(sorted(row)) or '(none)'}"
                + (f"; the ground truth is no JSON text with columns: {given!r:.80}" if is_letter else "")
            )
    if prompts is not None:
        columns["messages"] = list(prompts)
    terms = reward.rows(completions, columns, trainer=trainer)
    return [{name: 0.0 if value != value else value for name, value in (row or {}).items()} for row in terms]


def reward_of(settings: Mapping[str, Any], *, where: str) -> Reward:
    """Return the reward that settings describe; equal settings give the same object, with what it remembers.

    Args:
        settings: plain values by name, none of which has to be there:
            `reward`: faithfulness (the default), accuracy, format or consistency; or a `Reward`, by itself;
            `guards`: `recommended`, or a list of names, or of mappings of `name` and the guard's own fields;
            `judge`: `rules`, `hf:NAME`, `vllm:NAME` or `openai:NAME`, or a mapping of `name` and of `base_url`,
            `api_key_env`, `dtype`, `device` and `options`, see `judge_named`;
            `style`: a name, see `named_style`;
            and the reward's other fields by their names, such as `additive: 0.5` and `format_weight`.
        where: the trainer whose settings they are, for messages.

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


# --- what trainers hand over ------------------------------------------------------------------------------------------


def packed_columns(ground_truth: Any, extra: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
    """Return one row's columns where a trainer hands over a single ground truth.

    Args:
        ground_truth: the correct letter; or the columns themselves, as a mapping or as JSON text.
        extra: further columns, if any. What is None in one of the two, as Arrow fills structs, is taken from the other.

    Raises:
        ValueError: the ground truth begins like JSON and is none.

    Example:
        >>> packed_columns('{"solution": "B", "question": "Which?", "options": ["red", "blue"]}')["options"]
        [['red', 'blue']]
        >>> packed_columns("B")
        {'solution': ['B']}
        >>> packed_columns({"solution": "B", "question": None}, {"question": "Which?"})
        {'solution': ['B'], 'question': ['Which?']}
    """
    return {name: [value] for name, value in _row(ground_truth, extra).items()}


def checked_list(given: Any, count: int | None, what: str) -> list[Any]:
    """Return what a trainer hands over as a list of values, one per completion.

    Args:
        given: a list, or what is as good as one.
        count: how many values are expected; None = any number.
        what: which trainer's argument it is, for messages.

    Raises:
        TypeError: it is a text, a mapping, or no list at all.
        ValueError: it has another length.

    Example:
        >>> checked_list(("a", "b"), 2, "a trainer, prompts")
        ['a', 'b']
    """
    if not is_list(given):
        raise TypeError(
            f"{what}: expected a list of one value per completion, got {type(given).__name__}: {given!r:.80}"
        )
    if count is not None and len(given) != count:
        raise ValueError(f"{what}: expected {count} values, one per completion, got {len(given)}")
    return list(given)


def checked_text(given: Any, what: str) -> str:
    """Return a text, such as a completion that a trainer hands over decoded.

    Raises:
        TypeError: it is none.

    Example:
        >>> checked_text("<answer>B</answer>", "a trainer, row 0, completion")
        '<answer>B</answer>'
    """
    if not isinstance(given, str):
        raise TypeError(f"{what}: expected text, got {type(given).__name__}: {given!r:.80}")
    return given


def _row(ground_truth: Any, extra: Mapping[str, Any] | None) -> dict[str, Any]:
    if extra is not None and not isinstance(extra, Mapping):
        raise ValueError(
            f"expected further columns (extra_info) as a mapping or None, got {type(extra).__name__}: {extra!r:.80}"
        )
    given: Any = ground_truth
    if isinstance(given, str) and given.lstrip().startswith("{"):
        try:
            given = json.loads(given)
        except ValueError as error:
            raise ValueError(f"expected a ground truth that is a letter or JSON, got {given!r:.80}: {error}") from error
    own = given if isinstance(given, Mapping) else {"solution": given}
    merged = {
        name: next((part[name] for part in (own, extra or {}) if _is_there(part, name)), None) for name in COLUMNS
    }
    return {name: value for name, value in merged.items() if value is not None}


def _is_there(part: Mapping[str, Any], name: str) -> bool:
    return part.get(name) is not None


def without_end(completion: str) -> str:
    """Return a completion without the special tokens that end its turn and fill its batch.

    Example:
        >>> without_end("<think>Blue.</think><answer>B</answer><|im_end|><|endoftext|>")
        '<think>Blue.</think><answer>B</answer>'
    """
    return _END.sub("", completion)


def completion_in(query: str, prompt: str) -> str:
    r"""Return what follows the prompt in a query, which holds the prompt as it was tokenized.

    A processor writes an image's place out in many tokens, and a long prompt may be cut at its beginning: so as much of
    the prompt's end is looked for as can be found.

    Args:
        query: prompt and completion, decoded together.
        prompt: the prompt as it was before it was tokenized.

    Raises:
        ValueError: the end of the prompt does not stand in the query.

    Example:
        >>> prompt = "<|im_start|>user\n<image>Which?<|im_end|>\n<|im_start|>assistant\n"
        >>> completion_in(prompt.replace("<image>", "<image>" * 9) + "B<|im_end|>", prompt)
        'B<|im_end|>'
    """
    least, most = min(_FEWEST, len(prompt)), len(prompt)
    if prompt[most - least :] not in query:
        raise ValueError(f"expected a query with the end of its prompt, {prompt[-60:]!r}, in it, got {query[-200:]!r}")
    while least < most:  # an end that stands in the query has ends that do
        middle = (least + most + 1) // 2
        if prompt[len(prompt) - middle :] in query:
            least = middle
        else:
            most = middle - 1
    return query[query.index(prompt[len(prompt) - least :]) + least :]
