"""Compute the reward for AReaL, which calls it for one completion at a time in its own process.

In AReaL's workflows: `reward_fn="vlmrobust.rl.areal.reward_fn"`; for a reward other than the default,
`functools.partial(reward_fn, settings={"guards": "recommended"})`, which can be pickled too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from .scoring import require_text, score_completions, strip_end_tokens

__all__ = ["reward_fn"]


def reward_fn(
    prompt: str,
    completions: str,
    prompt_ids: Sequence[int] | None = None,
    completion_ids: Sequence[int] | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    **row: Any,
) -> float:
    """Return the reward of one completion.

    Args:
        prompt: the prompt, decoded with special tokens.
        completions: a single completion, decoded with special tokens; the name is AReaL's.
        prompt_ids: not used.
        completion_ids: not used.
        settings: describes the reward, see `vlmrobust.rl.scoring.reward_of`.
        **row: the row's columns; `solution`, `question`, `options` and `prefill` are read.

    Raises:
        ValueError: a setting is unknown, a column is missing, or one of its values is invalid; the message names it.
        TypeError: the prompt or the completion is not text.

    Example:
        >>> row = {"solution": "B", "question": "Which?", "options": ["red", "blue"]}
        >>> reward_fn("…", "<think>It is blue.</think><answer>B</answer><|im_end|>", [], [], **row)
        1.1
    """
    completion = strip_end_tokens(require_text(completions, "AReaL, completions"))
    prompts = [require_text(prompt, "AReaL, prompt")]
    [terms] = score_completions([completion], [row], [None], settings or {}, trainer="AReaL", prompts=prompts)
    return terms["score"]
