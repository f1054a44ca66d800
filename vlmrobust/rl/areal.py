"""Compute the reward as AReaL calls it, one completion at a time, in its own process.

In AReaL's workflows: `reward_fn="vlmrobust.rl.areal.reward_fn"`; for another reward than the default one
`functools.partial(reward_fn, settings={"guards": "recommended"})`, which can be pickled as well.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from .scoring import checked_text, scored, without_end

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
        completions: the completion, decoded with special tokens; AReaL calls it so.
        prompt_ids: not used.
        completion_ids: not used.
        settings: which reward, as in `vlmrobust.rl.scoring.reward_of`.
        **row: the row's columns; `solution`, `question`, `options` and `prefill` are read.

    Raises:
        ValueError: a setting is not known, a column is missing, or a value in it cannot be read; it is named.
        TypeError: prompt or completion is no text.

    Example:
        >>> row = {"solution": "B", "question": "Which?", "options": ["red", "blue"]}
        >>> reward_fn("…", "<think>It is blue.</think><answer>B</answer><|im_end|>", [], [], **row)
        1.1
    """
    completion = without_end(checked_text(completions, "AReaL, completions"))
    asked = checked_text(prompt, "AReaL, prompt")
    [terms] = scored([completion], [row], [None], settings or {}, trainer="AReaL", prompts=[asked])
    return terms["score"]
