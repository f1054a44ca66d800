"""The reward as verl calls it, one sample at a time.

In verl's configuration: `reward.custom_reward_function.path=pkg://vlmrobust.rl.verl` and `.name=compute_score`.
"""

from collections.abc import Mapping
from typing import Any

from .columns import packed_columns
from .rewards import FaithfulnessReward

__all__ = ["compute_score"]

_REWARD = FaithfulnessReward()


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    reward: FaithfulnessReward = _REWARD,
    **_: Any,
) -> dict[str, float]:
    """Return the terms of the faithfulness reward for one completion.

    Args:
        data_source: not used.
        solution_str: the completion.
        ground_truth: the correct letter; or the columns `solution`, `question`, `options` and `prefill`, as a mapping
            or as JSON text.
        extra_info: may hold those of these columns that `ground_truth` does not.
        reward: another reward than the default; set in a module of one's own with `functools.partial`.
        **_: whatever else verl hands over.

    Returns:
        `score`, and the terms `format`, `accuracy` and `consistency`; the same keys for every sample. A term that is
        undefined is 0.

    Raises:
        ValueError: a column is missing; it is named.

    Example:
        >>> columns = {"solution": "B", "question": "Which?", "options": ["red", "blue"]}
        >>> compute_score("demo", "<think>It is blue.</think><answer>B</answer>", columns)["score"]
        1.1
    """
    [terms] = reward.rows([solution_str], packed_columns(ground_truth, extra_info))
    assert terms is not None, "a column that is None was left out, and then it is missing"
    return {name: 0.0 if value != value else value for name, value in terms.items()}
