"""How a trainer asks its model: token limit, ends of texts, template arguments and precision, from its own settings."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch

from ..prompting import check_template_arguments

__all__ = ["AsTrained", "Precision", "as_trained", "autocast_of"]

Precision = Literal["float32", "bfloat16", "float16"]

_LIMITS = ("max_completion_length", "max_new_tokens")
# What generation settings may say about where a text ends: as `generate` calls it, and as vLLM does.
_ENDS = {
    **{name: name for name in ("max_new_tokens", "min_new_tokens", "eos_token_id", "stop_strings")},
    **{"max_tokens": "max_new_tokens", "min_tokens": "min_new_tokens", "stop": "stop_strings"},
}
_KINDS = {"bf16": torch.bfloat16, "fp16": torch.float16}


class AsTrained(NamedTuple):
    """What of a trainer's settings an evaluation takes over.

    Attributes:
        generation: options for `generate`: the limit, and what else ends a text. How rollouts are sampled is not among
            them: an evaluation is greedy.
        template: arguments for the chat template.
        autocast: what the trainer computes in by autocast; None = in what the weights are.
    """

    generation: dict[str, Any]
    template: dict[str, Any]
    autocast: torch.dtype | None


def as_trained(args: Any, model: Any, processor: Any) -> AsTrained:
    """Return what an evaluation takes over from a trainer, so that it measures what is trained.

    Args:
        args: the trainer's arguments; TRL's are known by name, and what others call alike.
        model: the model that is trained.
        processor: the trainer's `processing_class`.

    Example:
        >>> from types import SimpleNamespace
        >>> from vlmrobust import demo
        >>> args = SimpleNamespace(max_completion_length=64, chat_template_kwargs={"enable_thinking": False}, bf16=True)
        >>> engine = demo.model()
        >>> as_trained(args, engine.model, engine.processor)  # the bundled template has no such argument
        AsTrained(generation={'max_new_tokens': 64}, template={}, autocast=torch.bfloat16)
    """
    generation: dict[str, Any] = {}
    limit = next((value for name in _LIMITS if (value := getattr(args, name, None)) is not None), None)
    if limit is not None:
        generation["max_new_tokens"] = int(limit)
    own = getattr(model, "generation_config", None)
    known = _tokens(getattr(own, "eos_token_id", None))
    ends = _tokens(getattr(getattr(processor, "tokenizer", processor), "eos_token_id", None))
    if known and not ends <= known:  # TRL ends a rollout at either
        generation["eos_token_id"] = sorted(known | ends)
    given = getattr(args, "generation_kwargs", None)
    for name, value in (given if isinstance(given, Mapping) else {}).items():
        if name in _ENDS and value is not None:
            generation[_ENDS[name]] = value
    given = getattr(args, "chat_template_kwargs", None)
    template = dict(given) if isinstance(given, Mapping) else {}
    known_here = {name: value for name, value in template.items() if _is_read(name, processor)}
    return AsTrained(generation, known_here, autocast_of(args))


def autocast_of(args: Any) -> torch.dtype | None:
    """Return what a trainer computes in by autocast; None = in what the weights are, as DeepSpeed does.

    Args:
        args: its arguments.
    """
    if getattr(args, "deepspeed_plugin", None) is not None:
        return None
    stated = getattr(args, "mixed_precision", None)  # the launcher's word included
    kind = stated or next((name for name in _KINDS if getattr(args, name, False)), None)
    return _KINDS.get(str(kind))


def _is_read(name: str, processor: Any) -> bool:
    """Return whether the chat template reads an argument; others make no difference to the trainer either."""
    try:
        check_template_arguments(processor, {name: None})
    except ValueError:
        return False
    return True


def _tokens(value: Any) -> set[int]:
    return set() if value is None else {value} if isinstance(value, int) else set(value)
