"""Compute the reward as OpenRLHF calls it: queries in, rewards, scores and logs out.

`--reward.remote_url /path/to/vlmrobust/rl/openrlhf.py` takes this file, and `--data.label_key label` the column that
holds a row's columns as JSON text. For another reward than the default one write a file of your own:

    from functools import partial
    from vlmrobust.rl import openrlhf
    reward_func = partial(openrlhf.reward_func, guards="recommended")
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# OpenRLHF loads the file by its path, outside of its package.
from vlmrobust.rl.scoring import checked_list, checked_text, completion_in, scored, without_end

__all__ = ["reward_func"]

logger = logging.getLogger("vlmrobust.rl.openrlhf")


def reward_func(
    queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any], **settings: Any
) -> dict[str, Any]:
    r"""Return rewards, scores and the terms to log.

    OpenRLHF logs an exception of this function at the level of information, and trains on without a reward: it is
    logged here at the level of errors.

    Args:
        queries: N prompts with their completions, decoded with special tokens.
        prompts: the N prompts.
        labels: the columns `solution`, `question`, `options` and `prefill` of each, as JSON text.
        **settings: which reward, as in `vlmrobust.rl.scoring.reward_of`.

    Returns:
        `rewards` and `scores`, each `(N,)`, and `extra_logs`: the other terms by name, each `(N,)`.

    Raises:
        ValueError: a setting is not known, a column is missing, or a value in it cannot be read; row and column are
            named.
        TypeError: queries, prompts or labels are no list, or a query or a prompt is no text.

    Example:
        >>> prompt = "<|im_start|>user\nWhich?<|im_end|>\n<|im_start|>assistant\n"
        >>> query = prompt + "<think>It is blue.</think><answer>B</answer><|im_end|>"
        >>> label = '{"solution": "B", "question": "Which?", "options": ["red", "blue"]}'
        >>> reward_func([query], [prompt], [label])["rewards"]
        tensor([1.1000])
    """
    try:
        completions, asked = _completions(queries, prompts)
        labels = checked_list(labels, len(completions), "OpenRLHF, labels")
        found = scored(completions, labels, [None] * len(labels), settings, trainer="OpenRLHF", prompts=asked)
    except Exception:
        count = f"{len(queries)} completions" if isinstance(queries, Sequence) else "all completions"
        logger.exception("OpenRLHF goes on without a reward for %s", count)
        raise
    terms: dict[str, Tensor] = {
        name: torch.tensor([row[name] for row in found]) for name in (found[0] if found else {})
    }
    score = terms.pop("score", torch.zeros(0))
    return {"rewards": score, "scores": score, "extra_logs": terms}


def _completions(queries: Any, prompts: Any) -> tuple[list[str], list[str]]:
    """Return the completions in queries, and the prompts."""
    queries = checked_list(queries, None, "OpenRLHF, queries")
    prompts = checked_list(prompts, len(queries), "OpenRLHF, prompts")
    completions, asked = [], []
    for row, (query, prompt) in enumerate(zip(queries, prompts, strict=True)):
        asked.append(checked_text(prompt, f"OpenRLHF, prompts, row {row}"))
        query = checked_text(query, f"OpenRLHF, queries, row {row}")
        try:
            completions.append(without_end(completion_in(query, prompt)))
        except ValueError as error:
            raise ValueError(f"OpenRLHF, queries, row {row}: {error}") from error
    return completions, asked
