"""Find the model that runs inside a PEFT wrapper, a compiled model or an omni model."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from .base import UnfitError

__all__ = [
    "adapters",
    "autocast_name",
    "check_adapter",
    "check_decoder_only",
    "compute_dtypes",
    "context_of",
    "evaluating",
    "running_model",
    "tolerance",
]


# Both select weights in the wrapper's own forward pass, which `generate` does not call.
_WRAPPER_ONLY = ("POLY", "XLORA")
_WITHOUT_EFFECT = ("inference_mode", "peft_version", "auto_mapping", "task_type")
# Largest difference of letter log-probabilities (nats) from the plain path by rounding, per dtype.
_TOLERANCE = {torch.float64: 2e-4, torch.float32: 2e-4, torch.float16: 0.05, torch.bfloat16: 0.25}


def running_model(model: Any) -> Any:
    """Return the model whose forward pass `generate` calls, and on which hooks must be placed.

    `PeftModel.generate` calls the base model with the adapter in it, a compiled model's calls the original, and that of
    a model that also speaks (Qwen-Omni) calls the part for text.

    Raises:
        UnfitError: the model cannot be evaluated; the message has the reason.
    """
    if hasattr(model, "_orig_mod"):  # torch.compile
        return running_model(model._orig_mod)
    if any(kind.__module__.partition(".")[0] == "peft" for kind in type(model).__mro__):
        for name in _active(model):
            check_adapter(name, model.peft_config[name])
        if hasattr(model, "get_base_model"):
            return running_model(model.get_base_model())
        inner = dict(model.named_children())  # PeftMixedModel, or a tuner
        return running_model(inner["base_model" if "base_model" in inner else "model"])
    if isinstance(model, nn.Module) and type(model).forward is nn.Module.forward:
        parts = [part for part in model.children() if hasattr(part, "generate") and hasattr(part, "get_decoder")]
        if not parts:
            raise UnfitError(
                f"expected a model with a forward pass, got {type(model).__name__}, which has none, nor a part with one"
            )
        return running_model(parts[0])
    return model


def check_decoder_only(model: Any) -> None:
    """Refuse an encoder–decoder model.

    Raises:
        UnfitError: it is an encoder–decoder.
    """
    if getattr(model.config, "is_encoder_decoder", False):
        raise UnfitError(
            f"expected a decoder-only model, got {type(model).__name__}, an encoder–decoder: its output does not "
            "continue its prompt, so a thought cannot be prefilled"
        )


def context_of(model: Any) -> int | None:
    """Return the context length of a running model in tokens; None = its config does not say."""
    config = model.config.get_text_config()
    context = getattr(config, "max_position_embeddings", None)
    if not isinstance(context, int) or context < 1:
        return None
    scaling = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    original, factor = scaling.get("original_max_position_embeddings"), scaling.get("factor")
    # Some configs have the original context length of scaled positions, but not the new one.
    scaled = int(original * factor) if original and factor else 0
    return max(context, scaled)


def check_adapter(name: str, config: Any) -> None:
    """Refuse an adapter that acts only in the wrapper.

    Args:
        name: the adapter's name.
        config: its PEFT config.

    Raises:
        UnfitError: `generate`, or the model's own forward pass, would ignore it.
    """
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    if getattr(config, "is_prompt_learning", False):
        why = "whose prefix `generate` ignores for models with images"
    elif kind in _WRAPPER_ONLY:
        why = "which acts only in the wrapper's forward pass, which `generate` does not call"
    elif getattr(config, "alora_invocation_tokens", None):
        kind, why = "activated LoRA", "which acts from certain tokens on that only the wrapper finds"
    else:
        return
    raise UnfitError(
        f"expected an adapter that acts inside the model's layers, such as LoRA, got {kind} (adapter {name!r}), {why}"
    )


def _active(model: Any) -> list[str]:
    names = getattr(model, "active_adapters", None) or []
    names = names() if callable(names) else names
    return [names] if isinstance(names, str) else list(names)


def adapters(model: Any) -> dict[str, Any]:
    """Return the state of a running model's adapters, as JSON values; empty = none.

    Args:
        model: the result of `running_model`.
    """
    layers = [layer for layer in model.modules() if hasattr(layer, "merged_adapters")]
    configs = getattr(model, "peft_config", {}) if layers else {}
    if not layers:
        return {}
    scaling: dict[str, set[float]] = {}
    for layer in layers:
        for name, factor in dict(getattr(layer, "scaling", {})).items():
            scaling.setdefault(name, set()).add(round(float(factor), 6))
    found = {
        "active": sorted({name for layer in layers for name in layer.active_adapters}),
        "merged": sorted({name for layer in layers for name in layer.merged_adapters}),
        "disabled": any(layer.disable_adapters for layer in layers),
        "scaling": {name: sorted(factors) for name, factors in sorted(scaling.items())},
        "configs": {
            name: {key: value for key, value in config.to_dict().items() if key not in _WITHOUT_EFFECT}
            for name, config in sorted(configs.items())
        },
    }
    plain: dict[str, Any] = json.loads(json.dumps(found, sort_keys=True, default=_plain))
    return plain


def _plain(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)


def compute_dtypes(model: Any) -> set[torch.dtype]:
    """Return the dtypes a model computes in: its own, and autocast's if it is on."""
    device = model.device.type
    kinds = {model.dtype} | ({torch.get_autocast_dtype(device)} if torch.is_autocast_enabled(device) else set())
    if "_original_forward" in vars(model):  # accelerate's autocast, to a half precision that it does not expose
        kinds.add(torch.bfloat16)
    return kinds


def autocast_name(model: Any) -> str | None:
    """Return the dtype of the autocast that is on, None without one."""
    device = model.device.type
    return str(torch.get_autocast_dtype(device)).removeprefix("torch.") if torch.is_autocast_enabled(device) else None


def tolerance(model: Any) -> float:
    """Return how far a model's letter log-probabilities (nats) may differ from the plain path by rounding."""
    return max(_TOLERANCE.get(kind, _TOLERANCE[torch.float32]) for kind in compute_dtypes(model))


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Switch dropout and the like off, and restore every module's mode afterwards."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
