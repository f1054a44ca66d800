"""Compute the reward for verl, which calls it for one completion at a time.

In verl's configuration: `reward.custom_reward_function.path=pkg://vlmrobust.rl.verl`, or this file's path, and
`.name=compute_score`. `.reward_kwargs` chooses the reward, its guards, judge and style.
"""

from collections.abc import Mapping
from typing import Any

# Absolute import: given a path, verl loads this file outside its package.
from vlmrobust.rl.scoring import require_text, score_completions

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
        extra_info: may hold the columns that are missing or None in `ground_truth`.
        reward_router_address: not used.
        reward_model_tokenizer: not used.
        **reward_kwargs: describes the reward, see `vlmrobust.rl.scoring.reward_of`.

    Returns:
        `score`, and for the default reward the terms `format`, `accuracy`, `consistency` and each guard; the keys are
        the same for every completion. An undefined term is 0.

    Raises:
        ValueError: a setting is unknown, a column is missing, or one of its values is invalid; the message names it.
        TypeError: the completion is not text.

    Example:
        >>> columns = {"solution": "B", "question": "Which?", "options": ["red", "blue"]}
        >>> compute_score("demo", "<think>It is blue.</think><answer>B</answer>", columns)["score"]
        1.1
        >>> compute_score("demo", "<answer>B</answer>", columns, reward="accuracy")
        {'score': 1.0}
    """
    completion = require_text(solution_str, "verl, solution_str")
    [terms] = score_completions([completion], [ground_truth], [extra_info], reward_kwargs, trainer="verl")
    return terms
