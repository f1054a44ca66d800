"""Compute the reward as EasyR1 calls it: a list of dictionaries in, a list of dictionaries out.

In EasyR1's configuration `reward_function` is this file's path and `:compute_score`. EasyR1 hands a reward the ground
truth alone, so put the columns into it as JSON text. What stands in `reward_function_kwargs` chooses the reward.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# EasyR1 loads the file by its path, outside of its package.
from vlmrobust.rl.scoring import scored

__all__ = ["REWARD_NAME", "REWARD_TYPE", "compute_score"]

REWARD_NAME = "vlmrobust"
REWARD_TYPE = "batch"

_KEYS = ("response", "ground_truth")


def compute_score(reward_inputs: Sequence[Mapping[str, Any]], **settings: Any) -> list[dict[str, float]]:
    """Return the terms of the reward for a whole batch, the reward itself as `overall`.

    Args:
        reward_inputs: dictionaries with `response` and `ground_truth`, as in `vlmrobust.rl.verl.compute_score`.
        **settings: which reward, as in `vlmrobust.rl.scoring.reward_of`.

    Raises:
        ValueError: a setting is not known, a key or a column is missing, or a value in it cannot be read; row and
            column are named.
        TypeError: the batch is no list of dictionaries.

    Example:
        >>> ground_truth = '{"solution": "B", "question": "Which?", "options": ["red", "blue"]}'
        >>> response = "<think>It is blue.</think><answer>B</answer>"
        >>> [scores] = compute_score([{"response": response, "response_length": 12, "ground_truth": ground_truth}])
        >>> scores["overall"]
        1.1
    """
    if isinstance(reward_inputs, str | Mapping) or not isinstance(reward_inputs, Iterable):
        raise TypeError(
            f"EasyR1, reward inputs: expected a list of dictionaries, with {' and '.join(_KEYS)}, got one "
            f"{type(reward_inputs).__name__}: {reward_inputs!r:.80}"
        )
    reward_inputs = list(reward_inputs)
    completions, ground_truths = (
        [_given(given, f"row {row}", name) for row, given in enumerate(reward_inputs)] for name in _KEYS
    )
    found = scored(completions, ground_truths, [None] * len(completions), settings, trainer="EasyR1")
    return [{"overall": terms["score"], **{name: terms[name] for name in terms if name != "score"}} for terms in found]


def _given(given: Any, row: str, name: str) -> Any:
    where = f"EasyR1, reward inputs, {row}"
    if not isinstance(given, Mapping):
        raise TypeError(
            f"{where}: expected a dictionary with {' and '.join(_KEYS)}, got {type(given).__name__}: {given!r:.80}"
        )
    if name not in given:
        raise ValueError(f"{where}: expected a key {name!r}, got the keys {', '.join(map(str, given)) or '(none)'}")
    return given[name]
