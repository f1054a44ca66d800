"""Compute the reward for OpenRLHF, which passes queries and expects rewards, scores and logs.

`--reward.remote_url /path/to/vlmrobust/rl/openrlhf.py` names this file, and `--data.label_key label` the column that
holds a row's columns as JSON text. For a reward other than the default, write a file of your own:

    from functools import partial
    from vlmrobust.rl import openrlhf
    reward_func = partial(openrlhf.reward_func, guards="recommended")
"""

import logging
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# Absolute imports: OpenRLHF loads this file by its path, outside its package.
from vlmrobust.rl.completions import is_list
from vlmrobust.rl.scoring import require_text, score_completions, strip_end_tokens

__all__ = ["reward_func"]

logger = logging.getLogger("vlmrobust.rl.openrlhf")

_MIN_OVERLAP = 16  # characters of a prompt's end that a query must contain


def reward_func(
    queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any], **settings: Any
) -> dict[str, Any]:
    r"""Return rewards, scores and the terms to log.

    OpenRLHF logs exceptions of a reward function at level INFO and trains on without a reward, so this function logs
    them at level ERROR.

    Args:
        queries: N prompts with their completions, decoded with special tokens.
        prompts: the N prompts.
        labels: the columns `solution`, `question`, `options` and `prefill` of each, as JSON text.
        **settings: describe the reward, see `vlmrobust.rl.scoring.reward_of`.

    Returns:
        `rewards` and `scores`, each `(N,)`, and `extra_logs`: the other terms by name, each `(N,)`.

    Raises:
        ValueError: a setting is unknown, a column is missing, or one of its values is invalid; the message names row
            and column.
        TypeError: queries, prompts or labels are not a list, or a query or a prompt is not text.

    Example:
        >>> prompt = "<|im_start|>user\nWhich?<|im_end|>\n<|im_start|>assistant\n"
        >>> query = prompt + "<think>It is blue.</think><answer>B</answer><|im_end|>"
        >>> label = '{"solution": "B", "question": "Which?", "options": ["red", "blue"]}'
        >>> reward_func([query], [prompt], [label])["rewards"]
        tensor([1.1000])
    """
    try:
        completions, texts = _completions(queries, prompts)
        labels = _require_list(labels, len(completions), "labels")
        extras = [None] * len(labels)
        rows = score_completions(completions, labels, extras, settings, trainer="OpenRLHF", prompts=texts)
    except Exception:
        count = f"{len(queries)} completions" if isinstance(queries, Sequence) else "all completions"
        logger.exception("OpenRLHF goes on without a reward for %s", count)
        raise
    terms: dict[str, Tensor] = {name: torch.tensor([row[name] for row in rows]) for name in (rows[0] if rows else {})}
    score = terms.pop("score", torch.zeros(0))
    return {"rewards": score, "scores": score, "extra_logs": terms}


def _completions(queries: Any, prompts: Any) -> tuple[list[str], list[str]]:
    """Return the completions in the queries, and the prompts."""
    queries = _require_list(queries, None, "queries")
    prompts = _require_list(prompts, len(queries), "prompts")
    completions, texts = [], []
    for row, (query, prompt) in enumerate(zip(queries, prompts, strict=True)):
        texts.append(require_text(prompt, f"OpenRLHF, prompts, row {row}"))
        query = require_text(query, f"OpenRLHF, queries, row {row}")
        try:
            completions.append(strip_end_tokens(extract_completion(query, prompt)))
        except ValueError as error:
            raise ValueError(f"OpenRLHF, queries, row {row}: {error}") from error
    return completions, texts


def _require_list(given: Any, count: int | None, name: str) -> list[Any]:
    """Return an argument as a list with one value per completion; `count` None = any number."""
    if not is_list(given):
        raise TypeError(
            f"OpenRLHF, {name}: expected a list of one value per completion, got {type(given).__name__}: {given!r:.80}"
        )
    if count is not None and len(given) != count:
        raise ValueError(f"OpenRLHF, {name}: expected {count} values, one per completion, got {len(given)}")
    return list(given)


def extract_completion(query: str, prompt: str) -> str:
    r"""Return the part of a query after its prompt, which the query holds as it was tokenized.

    A processor expands an image placeholder into many tokens, and a long prompt may be truncated at its start, so the
    longest suffix of the prompt that the query contains is used.

    Args:
        query: prompt and completion, decoded together.
        prompt: the prompt before tokenization.

    Raises:
        ValueError: the query does not contain the end of the prompt.

    Example:
        >>> prompt = "<|im_start|>user\n<image>Which?<|im_end|>\n<|im_start|>assistant\n"
        >>> extract_completion(prompt.replace("<image>", "<image>" * 9) + "B<|im_end|>", prompt)
        'B<|im_end|>'
    """
    size = len(prompt)
    least = min(_MIN_OVERLAP, size)
    if prompt[size - least :] not in query:
        raise ValueError(
            f"expected a query that contains the end of its prompt, {prompt[-60:]!r}, got {query[-200:]!r}"
        )
    # Every suffix of a contained suffix is contained.
    longest = bisect_left(range(size + 1), True, lo=least, key=lambda length: prompt[size - length :] not in query) - 1
    return query[query.index(prompt[size - longest :]) + longest :]
