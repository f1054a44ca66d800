"""Rows of trainers that hand over one ground truth per completion: the columns in it, and what they earn."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .columns import COLUMNS
from .configured import reward_of

__all__ = ["checked_list", "checked_text", "packed_columns", "scored"]


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
    one = isinstance(given, str | bytes | Mapping) or not hasattr(given, "__len__") or not hasattr(given, "__getitem__")
    if one:
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


def scored(
    completions: Sequence[str],
    ground_truths: Sequence[Any],
    extras: Sequence[Mapping[str, Any] | None],
    settings: Mapping[str, Any],
    *,
    trainer: str,
    prompts: Sequence[str] | None = None,
) -> list[dict[str, float]]:
    """Return what completions earn, by term, the reward itself as `score`; the same terms for each of them.

    Args:
        completions: N texts.
        ground_truths: one each, see `packed_columns`.
        extras: further columns of each, see `packed_columns`.
        settings: which reward, see `reward_of`.
        trainer: who calls, for messages.
        prompts: what was asked, as text, where the trainer shows it: so it is seen whether it ends with the prefill.

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
