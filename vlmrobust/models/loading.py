"""Load checkpoints from the hub or a folder: models, and adapters with their base models."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..naming import check_device, check_dtype
from .unwrapping import check_adapter

__all__ = ["SHARED", "adapter_config", "check_name", "has_processor", "load", "load_processor", "named"]

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
