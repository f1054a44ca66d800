"""Look up styles, judges and text writers by name, and read their API keys from environment variables (`secret`).

For judges there are also their names in files (`slug_of`), and the metrics that depend on them (`judged_metrics`, with
the columns `JUDGED_METRICS`).
"""

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from . import styles
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
from .naming import unknown_name
from .secrecy import variable_shown
from .types import Style
from .written_texts import TextModel

__all__ = [
    "JUDGED_METRICS",
    "STYLES",
    "judge_named",
    "judged_metrics",
    "named_style",
    "secret",
    "slug_of",
    "writer_named",
]


STYLES: dict[str, Style] = {
    "think": Style(),
    "direct": Style(mode="direct"),
    **{name: style for name in styles.__all__ if isinstance(style := getattr(styles, name), Style)},
}


def named_style(name: str) -> Style:
    """Return a style by name: the default with a thought ("think"), without ("direct"), or one of `vlmrobust.styles`.

    Raises:
        ValueError: the name is unknown; the message suggests the closest and lists all.

    Example:
        >>> named_style("vigorl_spatial").answer_by
        'text'
    """
    if name not in STYLES:
        raise ValueError(f"expected a style, {unknown_name(name, STYLES)}")
    return STYLES[name]


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
    """Return a judge by name.

    Args:
        name: `rules`, `hf:NAME` (a checkpoint), `vllm:NAME` (one on vLLM), `openai:NAME` (a model behind a server), or
            `self`.
        base_url: the server's address.
        api_key_env: the environment variable that holds the server's key.
        dtype: data type of a checkpoint.
        device: device of a checkpoint; vLLM uses the GPUs it sees.
        options: further arguments of `LMJudge.from_pretrained` or `OpenAIJudge`.
        itself: the name that `self` refers to, such as `hf:NAME` of the model that wrote the thoughts; None = none.
        where: the name's origin, for messages.

    Raises:
        ValueError: the name has another form, the key is missing, or `self` does not refer to a checkpoint.

    Example:
        >>> judge_named("rules", where="judges").title
        'RuleJudge'
    """
    if name == "self":
        if itself is None:
            raise ValueError(f"{where}: expected self beside a run of a checkpoint, got none; hf:NAME names one")
        name = itself
    kind, _, which = name.partition(":")
    extra = dict(options or {})
    match kind, bool(which):
        case "rules", False:
            return RuleJudge()
        case "hf", True:
            return LMJudge.from_pretrained(which, dtype=dtype, device=device, **extra)
        case "vllm", True:
            return LMJudge.from_pretrained(which, engine="vllm", dtype=dtype, device=device, **extra)
        case "openai", True:
            return OpenAIJudge(model=which, base_url=base_url, api_key=secret(api_key_env, where), **extra)
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
    """Return a model that writes captions and thoughts, by name.

    Args:
        name: `hf:NAME` (a language or vision-language checkpoint), `vllm:NAME` (a vision-language model on vLLM) or
            `openai:NAME` (a model behind a server).
        base_url: the server's address.
        api_key_env: the environment variable that holds the server's key.
        dtype: data type of a checkpoint.
        device: device of a checkpoint; vLLM uses the GPUs it sees.
        max_new_tokens: maximum number of tokens per text.
        options: further arguments of `VLLMModel` or `OpenAIModel`.
        where: the name's origin, for messages.

    Raises:
        ValueError: the name has another form, or the key is missing.
    """
    kind, _, which = name.partition(":")
    extra = dict(options or {})
    match kind, bool(which):
        case "hf", True:
            if not _is_vision_language(which):
                return TextModel.from_pretrained(which, dtype=dtype, device=device, max_new_tokens=max_new_tokens)
            generation = {"max_new_tokens": max_new_tokens}
            return HFModel.from_pretrained(which, dtype=dtype, device=device, generation=generation)
        case "vllm", True:
            return VLLMModel(which, {"max_new_tokens": max_new_tokens}, dtype=dtype, **extra)
        case "openai", True:
            # Letters are not needed here, and some servers refuse requests for log-probabilities.
            settings: dict[str, Any] = {"generation": {"max_tokens": max_new_tokens}, "top_logprobs": None}
            return OpenAIModel(which, base_url, secret(api_key_env, where), **settings | extra)
    raise ValueError(f"{where}: expected hf:NAME, vllm:NAME or openai:NAME, got {name!r}")


def _is_vision_language(name: str) -> bool:
    """Return whether a checkpoint is a vision-language model; assumed for checkpoints without a readable config."""
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoConfig

    try:
        return type(AutoConfig.from_pretrained(name)) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    except (OSError, ValueError):
        return True  # an adapter, or a checkpoint whose loader reports the problem


def slug_of(name: str) -> str:
    """Return a judge's name in a form that is valid in file names and unique.

    Example:
        >>> slug_of("hf:org/model"), slug_of("hf:org-model")
        ('hf-org+model', 'hf-org-model')
    """
    kind, _, which = name.partition(":")
    return "-".join(filter(None, (kind, quote(which, safe="").replace("%2F", "+"))))


def secret(variable: str | None, where: str) -> str | None:
    """Return a key from an environment variable, so that command lines and files never contain the key.

    Args:
        variable: the variable's name; None = no key.
        where: the name's origin, for messages.

    Raises:
        ValueError: the variable is not set.
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


JUDGED_METRICS = tuple(metric.column for metric in judged_metrics(RuleJudge()))
"""The columns of the metrics that depend on the judge."""
