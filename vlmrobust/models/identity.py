"""Compute what determines a Hugging Face model's responses, as JSON values.

Settings are compared, not files: a checkpoint may move, and newer libraries write other fields that have no effect.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..jsonl import write_atomically
from .offloading import value_of

__all__ = [
    "WeightFiles",
    "Weights",
    "adapters",
    "config_settings",
    "processor_settings",
    "template_digest",
    "tokenizer_digest",
    "weights_digest",
    "weights_files",
]


_USUAL = (Tensor, torch.nn.Parameter, torch.nn.Buffer)
_CHUNK = 64 * 2**20  # bytes to copy from a device at a time
_THREADS = 8
_SAMPLES, _SAMPLE = 1024, 64  # number and bytes of the samples of a file for the short digest
_CACHE_FILE = "weights.json"
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth")
_WITHOUT_EFFECT = frozenset(
    {
        *("architectures", "dtype", "torch_dtype", "transformers_version", "name_or_path", "auto_map", "problem_type"),
        *("use_cache", "gradient_checkpointing", "return_dict", "return_dict_in_generate", "id2label", "label2id"),
        "chunk_size_feed_forward",
    }
)
_ADAPTER_WITHOUT_EFFECT = ("inference_mode", "peft_version", "auto_mapping", "task_type")
# Text that tokenizers tokenise differently: cases, digits, spaces, scripts, tags.
_PROBE = (
    "The quick brown fox isn't 12,345.67 km away; Wo liegt Köln? 問題:どれ? На каком? 🙂\n\n  <answer>B</answer> "
    "def f(x):\n\treturn x**2  # naïve"
)


def weights_digest(model: Any) -> str:
    """Return a digest of a few values per parameter: cheap, and different for checkpoints of one training."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        for part in _parts(value_of(model, name).detach()):
            values = part.flatten()
            few = values[:: max(1, values.numel() // 8)][:8]
            digest.update(f"{name}:{tuple(parameter.shape)}:{few.float().tolist()}".encode())
    return digest.hexdigest()[:16]


def _parts(tensor: Any) -> list[Tensor]:
    """Return the tensors that a quantised one consists of, such as numbers and scales; a usual one as it is."""
    if type(tensor) in _USUAL or hasattr(tensor, "full_tensor") or not hasattr(tensor, "__tensor_flatten__"):
        return [tensor]
    names, _ = tensor.__tensor_flatten__()
    return [part for name in names for part in _parts(getattr(tensor, name))]


class Weights:
    """A digest of all values of a model, recomputed when they may have changed.

    Args:
        model: the model.
        files: the files that it was loaded from, whose digest can be cached in a run; empty = not from files.
    """

    def __init__(self, model: Any, files: Sequence[Path] = ()) -> None:
        self._model = model
        self._files = _sizes_and_times(files)
        self._as_loaded = self._changes()
        self._cached: tuple[Any, str] | None = None

    def digest(self, few: str, folder: Path | None = None) -> str:
        """Return the digest.

        Args:
            few: `weights_digest` of the model in its current state.
            folder: run directory in which to cache the digest of the files.
        """
        changes = self._changes()
        state = (few, changes)
        if self._cached is not None and changes is not None and self._cached[0] == state:
            return self._cached[1]
        as_loaded = bool(self._files) and changes is not None and changes == self._as_loaded
        about = {"files": self._files, "few": few, "dtypes": self._dtypes()} if as_loaded else None
        digest = _cached(folder, about, lambda: _digest(self._model))
        self._cached = state, digest
        return digest

    def _changes(self) -> tuple[int, ...] | None:
        """Return how often each tensor was changed in place so far; None = torch does not count."""
        try:
            return tuple(tensor._version for _, tensor in _tensors(self._model))
        except RuntimeError:  # inference tensors have no version
            return None

    def _dtypes(self) -> list[str]:
        return sorted({str(tensor.dtype) for _, tensor in _tensors(self._model)})


class WeightFiles:
    """A digest of weight files that another process loads, recomputed when a size or time has changed.

    Args:
        files: the files.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._paths = list(files)
        self._cached: tuple[Any, str] | None = None

    def few(self) -> str:
        """Return a digest of a few bytes per file: cheap, and different for checkpoints of one training."""
        digest = hashlib.sha256()
        for file in self._paths:
            size = file.stat().st_size
            digest.update(f"{file.name}:{size}\n".encode())
            with file.open("rb") as opened:
                for start in range(0, size, max(_SAMPLE, size // _SAMPLES)):
                    opened.seek(start)
                    digest.update(opened.read(_SAMPLE))
        return digest.hexdigest()[:16]

    def digest(self, folder: Path | None = None) -> str:
        """Return the digest.

        Args:
            folder: run directory in which to cache it.
        """
        about = {"files": _sizes_and_times(self._paths)}
        if self._cached is not None and self._cached[0] == about:
            return self._cached[1]
        digest = _cached(folder, about, self._whole)
        self._cached = about, digest
        return digest

    def _whole(self) -> str:
        whole = hashlib.sha256()
        for file in self._paths:
            with file.open("rb") as opened:
                whole.update(f"{file.name}:{hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
        return whole.hexdigest()


def _sizes_and_times(files: Sequence[Path]) -> list[list[str | int]]:
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _cached(folder: Path | None, about: Mapping[str, Any] | None, compute: Callable[[], str]) -> str:
    """Return the digest cached in a run, if it is of the same files; else compute it, and cache it."""
    if folder is None or about is None:
        return compute()
    digest = None
    try:
        found = json.loads((folder / _CACHE_FILE).read_text(encoding="utf-8"))
        digest = str(found["digest"]) if {name: found[name] for name in about} == about else None
    except (FileNotFoundError, KeyError, TypeError, ValueError):  # none, or not valid
        pass
    digest = digest or compute()
    write_atomically(folder / _CACHE_FILE, json.dumps({**about, "digest": digest}, indent=2) + "\n")
    return digest


def _tensors(model: Any) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _digest(model: Any) -> str:
    kept = set(model.state_dict())
    named = [(name, tensor) for name, tensor in _tensors(model) if name in kept]
    # In threads, since hashing releases the interpreter lock.
    with ThreadPoolExecutor(min(_THREADS, torch.get_num_threads())) as pool:
        digests = list(pool.map(lambda entry: _digest_of(value_of(model, entry[0])), named))
    whole = hashlib.sha256()
    for (name, tensor), digest in zip(named, digests, strict=True):
        whole.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}:{digest}\n".encode())
    return whole.hexdigest()


def _digest_of(tensor: Tensor) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(tensor.detach()):
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(tensor: Any) -> Iterable[Any]:
    if hasattr(tensor, "full_tensor"):  # distributed over several devices
        tensor = tensor.full_tensor()
    if tensor.device.type == "meta":  # has no values
        return
    if type(tensor) not in _USUAL:  # quantised, in its own format
        saved = io.BytesIO()
        torch.save(tensor, saved)
        yield saved.getbuffer()
        return
    flat = tensor.contiguous().reshape(-1)
    step = max(1, _CHUNK // max(1, flat.element_size()))
    for start in range(0, flat.numel(), step):
        yield flat[start : start + step].view(torch.uint8).cpu().numpy()


def weights_files(folder: str) -> list[Path]:
    """Return the weight files in a folder; empty for a checkpoint from the hub."""
    path = Path(folder)
    return sorted({file for pattern in _WEIGHTS for file in path.glob(pattern)}) if path.is_dir() else []


def processor_settings(processor: Any) -> dict[str, Any]:
    """Return a processor's settings for images and texts, without its tokenizer and chat template."""
    parts = {
        name: part.to_dict()
        for name, part in vars(processor).items()
        if callable(getattr(part, "to_dict", None)) and name not in ("tokenizer", "video_processor")
    }
    own = {
        name: value
        for name, value in vars(processor).items()
        if isinstance(value, bool | int | float | str) and name not in ("chat_template", "name_or_path")
    }

    def is_relevant(name: str, value: Any) -> bool:  # set, public, and no class name, which newer libraries change
        return value is not None and not name.startswith("_") and not name.endswith(("_type", "_class"))

    return _plain(_filtered(own | parts, is_relevant))


def _filtered(value: Any, keeps: Callable[[str, Any], bool]) -> Any:
    """Return nested settings without those that are not to be kept."""
    if not isinstance(value, Mapping):
        return value
    return {str(name): _filtered(part, keeps) for name, part in value.items() if keeps(str(name), part)}


def _plain(settings: Mapping[str, Any], default: Callable[[Any], Any] = str) -> dict[str, Any]:
    """Return settings as JSON values."""
    plain: dict[str, Any] = json.loads(json.dumps(settings, default=default, sort_keys=True))
    return plain


def config_settings(config: Any) -> dict[str, Any]:
    """Return the settings of a model's config with an effect: positions, norms, activations, special tokens.

    The dtype is recorded separately; settings of speed or output format are left out.
    """

    def has_effect(name: str, value: Any) -> bool:
        return name not in _WITHOUT_EFFECT and not name.startswith(("_", "output_"))

    return dict(_filtered(_plain(config.to_dict()), has_effect))


def template_digest(processor: Any) -> str:
    """Return a digest of the chat template."""
    own, tokenizer = getattr(processor, "chat_template", None), getattr(processor, "tokenizer", None)
    template = own or getattr(tokenizer, "chat_template", None)
    return _short(json.dumps(template, sort_keys=True, default=str))


def tokenizer_digest(tokenizer: Any) -> str:
    """Return a digest of a tokenizer: its vocabulary, its added tokens, and its tokens for a varied text."""
    added = [
        [number, token.content, token.special, token.lstrip, token.rstrip, token.normalized]
        for number, token in sorted(tokenizer.added_tokens_decoder.items())
    ]
    tokens = [tokenizer(_PROBE, add_special_tokens=special)["input_ids"] for special in (False, True)]
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    return _short(json.dumps([vocabulary, added, tokens]))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def adapters(model: Any) -> dict[str, Any]:
    """Return the state of a running model's adapters, as JSON values; empty = none.

    Args:
        model: the result of `loading.running_model`.
    """
    layers = [layer for layer in model.modules() if hasattr(layer, "merged_adapters")]
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
            name: {key: value for key, value in config.to_dict().items() if key not in _ADAPTER_WITHOUT_EFFECT}
            for name, config in sorted(getattr(model, "peft_config", {}).items())
        },
    }
    return _plain(found, lambda value: sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value))
