"""Judges, and writers of texts, by the names that the command line and studies know."""

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from .functional import QUADRANTS
from .judges import Judge, LMJudge, OpenAIJudge, RuleJudge
from .metrics import (
    Consistency,
    ConsistencyCoverage,
    ConsistencyGivenCorrect,
    ConsistentAccuracy,
    Metric,
    Quadrant,
)
from .models import HFModel, Model, OpenAIModel, VLLMModel
from .secrecy import variable_shown
from .written_texts import TextModel

__all__ = ["judge_named", "judged_metrics", "secret", "slug_of", "writer_named"]


def judge_named(
    name: str,
    *,
    base_url: str | None = None,
    api_key_env: str | None = None,
    dtype: str = "auto",
    device: str | None = None,
    options: Mapping[str, Any] | None = None,
    itself: str | None = None,
    where: str,
) -> Judge:
    """Return the judge of a name: the table of what a name stands for.

    Args:
        name: `rules`, `hf:NAME` (a checkpoint), `vllm:NAME` (one on vLLM), `openai:NAME` (a model behind a server), or
            `self`.
        base_url: the server's address.
        api_key_env: the environment variable that holds the server's key.
        dtype: of a checkpoint.
        device: of a checkpoint; vLLM takes the cards it sees.
        options: further arguments of `LMJudge.from_pretrained` or `OpenAIJudge`.
        itself: the name that `self` means, such as `hf:NAME` of the model that had the thoughts; None = there is none.
        where: what errors call the place that the name stands at.

    Raises:
        ValueError: the name is of none of these forms, the key is not there, or `self` means no checkpoint.

    Example:
        >>> judge_named("rules", where="judges").title
        'RuleJudge'
    """
    if name == "self":
        if itself is None:
            raise ValueError(f"{where}: expected self beside a run of a checkpoint, got none; hf:NAME names one")
        name = itself
    kind, _, which = name.partition(":")
    further = dict(options or {})
    match kind, bool(which):
        case "rules", False:
            return RuleJudge()
        case "hf", True:
            return LMJudge.from_pretrained(which, dtype=dtype, device=device, **further)
        case "vllm", True:
            return LMJudge.from_pretrained(which, engine="vllm", dtype=dtype, device=device, **further)
        case "openai", True:
            return OpenAIJudge(model=which, base_url=base_url, api_key=secret(api_key_env, where), **further)
    raise ValueError(f"{where}: expected rules, self, hf:NAME, vllm:NAME or openai:NAME, got {name!r}")


def writer_named(
    name: str,
    *,
    base_url: str | None = None,
    api_key_env: str | None = None,
    dtype: str = "auto",
    device: str | None = None,
    max_new_tokens: int = 512,
    options: Mapping[str, Any] | None = None,
    where: str,
) -> Model:
    """Return who writes captions and thoughts, of a name.

    Args:
        name: `hf:NAME` (a checkpoint, with or without eyes), `vllm:NAME` (a vision-language model on vLLM) or
            `openai:NAME` (a model behind a server).
        base_url: the server's address.
        api_key_env: the environment variable that holds the server's key.
        dtype: of a checkpoint.
        device: of a checkpoint; vLLM takes the cards it sees.
        max_new_tokens: the most that is written for a text.
        options: further arguments of `VLLMModel` or `OpenAIModel`.
        where: what errors call the place that the name stands at.

    Raises:
        ValueError: the name is of none of these forms, or the key is not there.
    """
    kind, _, which = name.partition(":")
    further = dict(options or {})
    match kind, bool(which):
        case "hf", True:
            if not _sees(which):
                return TextModel.from_pretrained(which, dtype=dtype, device=device, max_new_tokens=max_new_tokens)
            generation = {"max_new_tokens": max_new_tokens}
            return HFModel.from_pretrained(which, dtype=dtype, device=device, generation=generation)
        case "vllm", True:
            return VLLMModel(which, {"max_new_tokens": max_new_tokens}, dtype=dtype, **further)
        case "openai", True:
            # Letters are of no use here, and some servers refuse to tell probabilities.
            told: dict[str, Any] = {"generation": {"max_tokens": max_new_tokens}, "top_logprobs": None}
            return OpenAIModel(which, base_url, secret(api_key_env, where), **told | further)
    raise ValueError(f"{where}: expected hf:NAME, vllm:NAME or openai:NAME, got {name!r}")


def _sees(name: str) -> bool:
    """Return whether a checkpoint is one of a vision-language model; of what has no config of its own, that it is."""
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoConfig

    try:
        return type(AutoConfig.from_pretrained(name)) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    except (OSError, ValueError):
        return True  # an adapter, or one that its own loader says more about


def slug_of(name: str) -> str:
    """Return a judge's name as a part of a file's name; no two names have the same.

    Example:
        >>> slug_of("hf:org/model"), slug_of("hf:org-model")
        ('hf-org+model', 'hf-org-model')
    """
    kind, _, which = name.partition(":")
    return "-".join(filter(None, (kind, quote(which, safe="").replace("%2F", "+"))))


def secret(variable: str | None, where: str) -> str | None:
    """Return the value of an environment variable: a key is named on a command line or in a file, never written there.

    Args:
        variable: its name; None = no key.
        where: what errors call the place that the name stands at.

    Raises:
        ValueError: it is not set.
    """
    if variable is None:
        return None
    if not os.environ.get(variable):
        shown = variable_shown(variable)
        raise ValueError(f"{where}: expected an environment variable that holds the key, {shown} is not set")
    return os.environ[variable]


def judged_metrics(judge: Judge) -> tuple[Metric, ...]:
    """Return the metrics that depend on the judge.

    Example:
        >>> [metric.column for metric in judged_metrics(RuleJudge())][:3]
        ['consistency', 'consistency_coverage', 'consistency_given_correct']
    """
    return (
        Consistency(judge=judge),
        ConsistencyCoverage(judge=judge),
        ConsistencyGivenCorrect(judge=judge),
        *(Quadrant(kind=kind, judge=judge) for kind in QUADRANTS),
        ConsistentAccuracy(judge=judge),
    )
