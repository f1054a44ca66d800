"""The reward as EasyR1 calls it: a list of dictionaries in, a list of dictionaries out.

In EasyR1's configuration `reward_function` is this file's path and `:compute_score`. EasyR1 hands a reward the ground
truth alone, so put the columns into it as JSON text.
"""

from collections.abc import Mapping, Sequence
from typing import Any

# EasyR1 loads the file by its path, outside of its package.
from vlmrobust.rl.verl import compute_score as score_of_one

__all__ = ["REWARD_NAME", "REWARD_TYPE", "compute_score"]

REWARD_NAME = "vlmrobust"
REWARD_TYPE = "batch"


def compute_score(reward_inputs: Sequence[Mapping[str, Any]], **options: Any) -> list[dict[str, float]]:
    """Return the terms of the faithfulness reward, the reward itself as `overall`.

    Args:
        reward_inputs: dictionaries with `response` and `ground_truth`, as in `vlmrobust.rl.verl.compute_score`.
        **options: `reward`, as there.

    Raises:
        ValueError: a column is missing; it is named.

    Example:
        >>> ground_truth = '{"solution": "B", "question": "Which?", "options": ["red", "blue"]}'
        >>> response = "<think>It is blue.</think><answer>B</answer>"
        >>> [scores] = compute_score([{"response": response, "response_length": 12, "ground_truth": ground_truth}])
        >>> scores["overall"]
        1.1
    """
    scores = []
    for given in reward_inputs:
        terms = score_of_one(REWARD_NAME, given["response"], given["ground_truth"], **options)
        scores.append({"overall": terms.pop("score"), **terms})
    return scores
