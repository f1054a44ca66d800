"""Compute the reward for EasyR1, which passes a list of dictionaries and expects one back.

In EasyR1's configuration `reward_function` is this file's path and `:compute_score`. EasyR1 passes a reward only the
ground truth, so put the columns into it as JSON text. `reward_function_kwargs` chooses the reward.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Absolute import: EasyR1 loads this file by its path, outside its package.
from vlmrobust.rl.scoring import score_completions

__all__ = ["REWARD_NAME", "REWARD_TYPE", "compute_score"]

REWARD_NAME = "vlmrobust"
REWARD_TYPE = "batch"

_KEYS = ("response", "ground_truth")


def compute_score(reward_inputs: Sequence[Mapping[str, Any]], **settings: Any) -> list[dict[str, float]]:
    """Return the terms of the reward for a whole batch, with the reward itself as `overall`.

    Args:
        reward_inputs: dictionaries with `response` and `ground_truth`, as in `vlmrobust.rl.verl.compute_score`.
        **settings: describe the reward, see `vlmrobust.rl.scoring.reward_of`.

    Raises:
        ValueError: a setting is unknown, a key or a column is missing, or one of its values is invalid; the message
            names row and column.
        TypeError: the batch is not a list of dictionaries.

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
        [_value(inputs, row, key) for row, inputs in enumerate(reward_inputs)] for key in _KEYS
    )
    scores = score_completions(completions, ground_truths, [None] * len(completions), settings, trainer="EasyR1")
    return [{"overall": terms["score"], **{name: terms[name] for name in terms if name != "score"}} for terms in scores]


def _value(inputs: Any, row: int, key: str) -> Any:
    where = f"EasyR1, reward inputs, row {row}"
    if not isinstance(inputs, Mapping):
        raise TypeError(
            f"{where}: expected a dictionary with {' and '.join(_KEYS)}, got {type(inputs).__name__}: {inputs!r:.80}"
        )
    if key not in inputs:
        raise ValueError(f"{where}: expected a key {key!r}, got the keys {', '.join(map(str, inputs)) or '(none)'}")
    return inputs[key]
