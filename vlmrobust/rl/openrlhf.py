"""The reward as OpenRLHF calls it: queries in, rewards, scores and logs out.

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
from vlmrobust.rl.decoded import completion_in, without_end
from vlmrobust.rl.packed import scored

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
        **settings: which reward, as in `vlmrobust.rl.configured.reward_of`.

    Returns:
        `rewards` and `scores`, each `(N,)`, and `extra_logs`: the other terms by name, each `(N,)`.

    Raises:
        ValueError: a setting is not known, a column is missing, or a value in it cannot be read; row and column are
            named.

    Example:
        >>> prompt = "<|im_start|>user\nWhich?<|im_end|>\n<|im_start|>assistant\n"
        >>> query = prompt + "<think>It is blue.</think><answer>B</answer><|im_end|>"
        >>> label = '{"solution": "B", "question": "Which?", "options": ["red", "blue"]}'
        >>> reward_func([query], [prompt], [label])["rewards"]
        tensor([1.1000])
    """
    try:
        pairs = zip(queries, prompts, strict=True)
        completions = [without_end(completion_in(query, prompt)) for query, prompt in pairs]
        found = scored(completions, labels, [None] * len(labels), settings, trainer="OpenRLHF", prompts=prompts)
    except Exception:
        logger.exception("OpenRLHF goes on without a reward for %d completions", len(queries))
        raise
    terms: dict[str, Tensor] = {
        name: torch.tensor([row[name] for row in found]) for name in (found[0] if found else {})
    }
    score = terms.pop("score", torch.zeros(0))
    return {"rewards": score, "scores": score, "extra_logs": terms}
