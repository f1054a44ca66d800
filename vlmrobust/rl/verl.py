"""Compute the reward as verl calls it, one sample at a time.

In verl's configuration: `reward.custom_reward_function.path=pkg://vlmrobust.rl.verl`, or this file's path, and
`.name=compute_score`. What stands in `.reward_kwargs` chooses the reward, its guards, its judge and its style.
"""

from collections.abc import Mapping
from typing import Any

# verl loads the file outside of its package where it is given by its path.
from vlmrobust.rl.scoring import checked_text, scored

__all__ = ["compute_score"]


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    reward_router_address: Any = None,
    reward_model_tokenizer: Any = None,
    **reward_kwargs: Any,
) -> dict[str, float]:
    """Return the terms of the reward for one completion.

    Args:
        data_source: not used.
        solution_str: the completion.
        ground_truth: the correct letter; or the columns `solution`, `question`, `options` and `prefill`, as a mapping
            or as JSON text.
        extra_info: may hold those of these columns that `ground_truth` does not, or has as None.
        reward_router_address: not used.
        reward_model_tokenizer: not used.
        **reward_kwargs: which reward, as in `vlmrobust.rl.scoring.reward_of`.

    Returns:
        `score`, and for the default reward the terms `format`, `accuracy`, `consistency` and each guard; the same keys
        for every sample. A term that is undefined is 0.

    Raises:
        ValueError: a setting is not known, a column is missing, or a value in it cannot be read; it is named.
        TypeError: the completion is no text.

    Example:
        >>> columns = {"solution": "B", "question": "Which?", "options": ["red", "blue"]}
        >>> compute_score("demo", "<think>It is blue.</think><answer>B</answer>", columns)["score"]
        1.1
        >>> compute_score("demo", "<answer>B</answer>", columns, reward="accuracy")
        {'score': 1.0}
    """
    completion = checked_text(solution_str, "verl, solution_str")
    [terms] = scored([completion], [ground_truth], [extra_info], reward_kwargs, trainer="verl")
    return terms
