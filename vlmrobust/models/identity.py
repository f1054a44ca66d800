"""Compute what determines a Hugging Face model's responses, as JSON values; defer loading a model.

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
from ..prompting import SpecialTokens
from ..secrecy import error_text
from ..types import Prompt, Response, Style
from .base import Model, RefusedError, expect, identity_of, special_tokens_of, work_of

__all__ = [
    "DeferredModel",
    "WeightFiles",
    "Weights",
    "config_settings",
    "processor_settings",
    "template_digest",
    "tokenizer_digest",
    "weights_digest",
    "weights_files",
]


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
# Text that tokenizers tokenise differently: cases, digits, spaces, scripts, tags.
_PROBE = (
    "The quick brown fox isn't 12,345.67 km away; Wo liegt Köln? 問題:どれ? На каком? 🙂\n\n  <answer>B</answer> "
    "def f(x):\n\treturn x**2  # naïve"
)


def weights_digest(model: Any) -> str:
    """Return a digest of a few values per parameter: cheap, and different for checkpoints of one training."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        values = parameter.detach().flatten()
        few = values[:: max(1, values.numel() // 8)][:8]
        digest.update(f"{name}:{tuple(parameter.shape)}:{few.float().tolist()}".encode())
    return digest.hexdigest()[:16]


class Weights:
    """A digest of all values of a model, recomputed when they may have changed.

    Args:
        model: the model.
        files: the files that it was loaded from, whose digest can be cached in a run; empty = not from files.
    """

    def __init__(self, model: Any, files: Sequence[Path] = ()) -> None:
        self._model = model
        self._files = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
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
        digest = _read(folder, about) or _digest(self._model)
        if folder is not None and about is not None:
            write_atomically(folder / _CACHE_FILE, json.dumps({**about, "digest": digest}, indent=2) + "\n")
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
        about = {"files": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in self._paths]}
        if self._cached is not None and self._cached[0] == about:
            return self._cached[1]
        digest = _read(folder, about)
        if digest is None:
            whole = hashlib.sha256()
            for file in self._paths:
                with file.open("rb") as opened:
                    whole.update(f"{file.name}:{hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
            digest = whole.hexdigest()
        if folder is not None:
            write_atomically(folder / _CACHE_FILE, json.dumps({**about, "digest": digest}, indent=2) + "\n")
        self._cached = about, digest
        return digest


def _read(folder: Path | None, about: Mapping[str, Any] | None) -> str | None:
    """Return the digest cached in a run, if it is of the same files."""
    if folder is None or about is None or not (folder / _CACHE_FILE).is_file():
        return None
    try:
        found = json.loads((folder / _CACHE_FILE).read_text(encoding="utf-8"))
        return str(found["digest"]) if {name: found[name] for name in about} == about else None
    except (KeyError, TypeError, ValueError):  # not valid: compute it again
        return None


def _tensors(model: Any) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _digest(model: Any) -> str:
    kept = set(model.state_dict())
    named = [(name, tensor) for name, tensor in _tensors(model) if name in kept]
    # In threads, since hashing releases the interpreter lock.
    with ThreadPoolExecutor(min(_THREADS, torch.get_num_threads())) as pool:
        digests = list(pool.map(lambda entry: _digest_of(entry[1]), named))
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
    if type(tensor) not in (Tensor, torch.nn.Parameter, torch.nn.Buffer):  # quantised, in its own format
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
    plain: dict[str, Any] = json.loads(json.dumps({**_relevant(own), **_relevant(parts)}, default=str, sort_keys=True))
    return plain


def _relevant(value: Any) -> Any:
    """Leave out unset and private fields, and class names, which newer libraries change."""
    if not isinstance(value, Mapping):
        return value
    return {
        str(name): _relevant(part)
        for name, part in value.items()
        if part is not None and not str(name).startswith("_") and not str(name).endswith(("_type", "_class"))
    }


def config_settings(config: Any) -> dict[str, Any]:
    """Return the settings of a model's config with an effect: positions, norms, activations, special tokens.

    The dtype is recorded separately; settings of speed or output format are left out.
    """
    return dict(_with_effect(json.loads(json.dumps(config.to_dict(), default=str, sort_keys=True))))


def _with_effect(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {
        name: _with_effect(part)
        for name, part in value.items()
        if name not in _WITHOUT_EFFECT and not name.startswith(("_", "output_"))
    }


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


class DeferredModel:
    """The model of a resumed run, loaded on the first prompt; its identity comes from the run.

    A run with no prompts left therefore loads no weights.

    Args:
        load: loads the model.
        identity: the run's.
        special_tokens: finds the special tokens without weights; if it fails, the model is loaded.
        check: raises if the loaded model's identity is not the run's.

    Example:
        >>> from vlmrobust.testing import FakeModel
        >>> model = DeferredModel(FakeModel, {"class": "FakeModel"}, lambda: None, lambda identity: None)
        >>> model.identity(), model.is_loaded
        ({'class': 'FakeModel'}, False)
    """

    def __init__(
        self,
        load: Callable[[], Model],
        identity: Mapping[str, Any],
        special_tokens: Callable[[], SpecialTokens | None],
        check: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._load, self._identity, self._find, self._check = load, dict(identity), special_tokens, check
        self._model: Model | None = None
        self._expected: tuple[int, Style] | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether the model has been loaded."""
        return self._model is not None

    def identity(self, beside: Path | None = None) -> dict[str, Any]:
        """Return the run's identity."""
        return dict(self._identity)

    @property
    def special_tokens(self) -> SpecialTokens | None:
        """The special tokens that the model makes inert in prompts."""
        try:
            return self._find()
        except (OSError, ValueError):  # the checkpoint has no processor
            return special_tokens_of(self._loaded())

    def expect(self, prompts: int, style: Style) -> None:
        """Pass the announcement on, once the model is loaded."""
        self._expected = prompts, style
        if self._model is not None:
            expect(self._model, prompts, style)

    def work(self) -> Mapping[str, Any]:
        """Return the model's work; empty if it was not loaded."""
        return {} if self._model is None else work_of(self._model)

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Load the model if necessary, and answer prompts.

        Raises:
            RefusedError: the model cannot be loaded, or is not the run's.
        """
        return self._loaded().respond(prompts)

    def _loaded(self) -> Model:
        if self._model is None:
            try:
                model = self._load()
                self._check(identity_of(model))
            except RefusedError:
                raise
            except (ValueError, LookupError, OSError, ImportError) as error:
                raise RefusedError(str(error)) from error  # affects every prompt
            except RuntimeError as error:
                raise RefusedError(error_text(error)) from error
            self._model = model
            if self._expected is not None:
                expect(model, *self._expected)
        return self._model
