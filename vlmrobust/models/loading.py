"""Load checkpoints and processors, with adapters and their base models, and find the model inside a wrapper."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..naming import check_device, check_dtype
from .base import UnfitError

__all__ = [
    "SHARED",
    "adapter_config",
    "check_adapter",
    "check_decoder_only",
    "check_name",
    "context_of",
    "evaluating",
    "has_processor",
    "load",
    "load_processor",
    "named",
    "running_model",
]


# Both select weights in the wrapper's own forward pass, which `generate` does not call.
_WRAPPER_ONLY = ("POLY", "XLORA")


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
    if not _has_what_runs(model):
        inside = next((name for name in ("module", "model") if _has_what_runs(getattr(model, name, None))), None)
        raise UnfitError(
            "expected a Hugging Face model with `config` and `generate`, as from `AutoModelForImageTextToText`, got "
            f"{type(model).__name__}" + (f"; pass the model inside it (its attribute {inside!r})" if inside else "")
        )
    return model


def _has_what_runs(model: Any) -> bool:
    return callable(getattr(model, "generate", None)) and getattr(model, "config", None) is not None


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


SHARED = ("trust_remote_code", "revision", "token")
"""Options that are also passed to the processor."""

_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


def load(
    name: str,
    *,
    dtype: str | torch.dtype,
    device: str | torch.device | None,
    processor: Mapping[str, Any],
    model: Mapping[str, Any],
) -> tuple[Any, Any]:
    """Return a model in eval mode, and its processor.

    Args:
        name: the checkpoint's name or path; an adapter is loaded with its base.
        dtype: a torch dtype or its name; "auto" = the checkpoint's own.
        device: the device to move the model to; None = leave it where it was loaded.
        processor: options for the processor.
        model: options for the model.

    Raises:
        FileNotFoundError: `name` can only be a path, and the folder does not exist.
        OSError: no checkpoint of this name; the message has the name.
        ValueError: `dtype` or `device` is invalid or not available, or an adapter does not name its base.
        ImportError: `name` is an adapter, and PEFT is not installed.
    """
    check_dtype(dtype)
    check_device(device)
    check_name(name)
    with named(name):
        loaded_processor, base, settings = _begin(name, processor, model)
        loaded: Any = _model(base, dtype=dtype, **settings)
        if adapter_config(name, model) is not None:
            from peft import PeftModel

            loaded = PeftModel.from_pretrained(loaded, name, **{key: model[key] for key in SHARED[1:] if key in model})
    if device is not None:
        loaded = loaded.to(device)
    return loaded.eval(), loaded_processor


def load_processor(name: str, processor: Mapping[str, Any], model: Mapping[str, Any]) -> Any:
    """Return the processor that `load` returns, without any weights.

    Raises:
        OSError: no checkpoint of this name; the message has the name.
    """
    check_name(name)
    with named(name):
        return _begin(name, processor, model)[0]


@contextmanager
def named(name: str) -> Iterator[None]:
    """Add a checkpoint's name to errors about it, which the hub's own message lacks without a network.

    Raises:
        OSError: the original error, with the name.
    """
    try:
        yield
    except OSError as error:
        if name in str(error):
            raise
        raise OSError(f"expected a checkpoint's folder or a name on the hub, got {name!r}: {error}") from error


def _begin(name: str, processor: Mapping[str, Any], model: Mapping[str, Any]) -> tuple[Any, str, dict[str, Any]]:
    """Return the processor, and the name and options of the model: for an adapter, those of its base."""
    from transformers import AutoProcessor

    adapter = adapter_config(name, model)
    base, settings = name, dict(model)
    if adapter is not None:
        base = str(adapter.base_model_name_or_path)
        settings["revision"] = adapter.revision or "main"
    from_adapter = adapter is not None and has_processor(name)
    shared = {key: value for key, value in (model if from_adapter else settings).items() if key in SHARED}
    loaded = AutoProcessor.from_pretrained(name if from_adapter else base, **shared, **processor)
    return loaded, base, settings


def _model(name: str, **settings: Any) -> Any:
    import transformers

    try:
        return transformers.AutoModelForImageTextToText.from_pretrained(name, **settings)
    except ValueError as error:
        wider = getattr(transformers, "AutoModelForMultimodalLM", None)  # transformers 5
        if wider is None or "Unrecognized configuration class" not in str(error):
            raise
        return wider.from_pretrained(name, **settings)


def adapter_config(name: str, settings: Mapping[str, Any]) -> Any:
    """Return the PEFT config of an adapter; None = a complete model.

    Args:
        name: the checkpoint's name or path.
        settings: options for the model, of which only the shared ones are used.

    Raises:
        ValueError: the adapter does not name its base.
        ImportError: PEFT is not installed.
        UnfitError: see `check_adapter`.
    """
    from transformers.utils.hub import cached_file

    shared = {key: settings[key] for key in SHARED[1:] if key in settings}
    try:
        file = cached_file(name, "adapter_config.json", **shared)
    except OSError:  # not an adapter, or not found, which the model's own loader reports better
        return None
    try:
        from peft import PeftConfig
    except ImportError as error:
        raise ImportError(f"{name!r} is an adapter and needs PEFT: pip install peft") from error
    config = PeftConfig.from_pretrained(str(Path(str(file)).parent))
    if not config.base_model_name_or_path:
        raise ValueError(
            f"{name!r}: expected 'base_model_name_or_path' in adapter_config.json, got none; load the model yourself "
            "and use HFModel(PeftModel.from_pretrained(model, name), processor)"
        )
    check_adapter(name, config)
    return config


def has_processor(name: str) -> bool:
    """Return whether a folder contains a processor."""
    return any((Path(name) / file).is_file() for file in _PROCESSOR_FILES)


def check_name(name: str) -> None:
    """Raise if a name can only be a path and the folder does not exist.

    Raises:
        FileNotFoundError: the folder does not exist.
    """
    only_path = name.startswith((".", "/", "~")) or name.count("/") > 1  # on the hub it is 'name' or 'owner/name'
    if only_path and not Path(name).is_dir():
        raise FileNotFoundError(f"expected a checkpoint's folder or a name on the hub, found no folder at {name!r}")
