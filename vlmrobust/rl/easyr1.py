"""The reward as EasyR1 calls it: a list of dictionaries in, a list of dictionaries out.

In EasyR1's configuration `reward_function` is this file's path and `:compute_score`. EasyR1 hands a reward the ground
truth alone, so put the columns into it as JSON text. What stands in `reward_function_kwargs` chooses the reward.
"""

from collections.abc import Mapping, Sequence
from typing import Any

# EasyR1 loads the file by its path, outside of its package.
from vlmrobust.rl.packed import scored

__all__ = ["REWARD_NAME", "REWARD_TYPE", "compute_score"]

REWARD_NAME = "vlmrobust"
REWARD_TYPE = "batch"


def compute_score(reward_inputs: Sequence[Mapping[str, Any]], **settings: Any) -> list[dict[str, float]]:
    """Return the terms of the reward for a whole batch, the reward itself as `overall`.

    Args:
        reward_inputs: dictionaries with `response` and `ground_truth`, as in `vlmrobust.rl.verl.compute_score`.
        **settings: which reward, as in `vlmrobust.rl.configured.reward_of`.

    Raises:
        ValueError: a setting is not known, a column is missing, or a value in it cannot be read; row and column are
            named.

    Example:
        >>> ground_truth = '{"solution": "B", "question": "Which?", "options": ["red", "blue"]}'
        >>> response = "<think>It is blue.</think><answer>B</answer>"
        >>> [scores] = compute_score([{"response": response, "response_length": 12, "ground_truth": ground_truth}])
        >>> scores["overall"]
        1.1
    """
    completions, ground_truths = ([given[name] for given in reward_inputs] for name in ("response", "ground_truth"))
    found = scored(completions, ground_truths, [None] * len(completions), settings, trainer="EasyR1")
    return [{"overall": terms["score"], **{name: terms[name] for name in terms if name != "score"}} for terms in found]
