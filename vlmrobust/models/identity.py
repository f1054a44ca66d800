"""What decides a Hugging Face model's answers, as JSON values; and a checkpoint whose answers are all there.

Settings are compared, not files: a checkpoint may move, and what a newer library writes besides decides nothing.
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


_PIECE = 64 * 2**20  # bytes that are fetched from a device at a time
_THREADS = 8
_PLACES, _PLACE = 1024, 64  # of a file, where a few bytes will do
_KNOWN = "weights.json"
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth")
_NOT_DECIDING = frozenset(
    {
        *("architectures", "dtype", "torch_dtype", "transformers_version", "name_or_path", "auto_map", "problem_type"),
        *("use_cache", "gradient_checkpointing", "return_dict", "return_dict_in_generate", "id2label", "label2id"),
        "chunk_size_feed_forward",
    }
)
# Texts that tokenizers cut in different ways: cases, digits, spaces, scripts, tags.
_PROBE = (
    "The quick brown fox isn't 12,345.67 km away; Wo liegt Köln? 問題:どれ? На каком? 🙂\n\n  <answer>B</answer> "
    "def f(x):\n\treturn x**2  # naïve"
)


def weights_digest(model: Any) -> str:
    """Return a digest of a few values of every parameter: checkpoints of one training differ, at hardly any cost."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        values = parameter.detach().flatten()
        few = values[:: max(1, values.numel() // 8)][:8]
        digest.update(f"{name}:{tuple(parameter.shape)}:{few.float().tolist()}".encode())
    return digest.hexdigest()[:16]


class Weights:
    """A digest of every value of a model, made anew when something may have changed.

    Args:
        model: whose parameters and buffers.
        files: where they were loaded from, so that the digest can be kept beside a run; empty = not from files here.
    """

    def __init__(self, model: Any, files: Sequence[Path] = ()) -> None:
        self._model = model
        self._files = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
        self._as_loaded = self._changes()
        self._made: tuple[Any, str] | None = None

    def digest(self, few: str, folder: Path | None = None) -> str:
        """Return the digest.

        Args:
            few: `weights_digest` of the model, as it is now.
            folder: a run directory, in which the digest of the files is kept.
        """
        changes = self._changes()
        state = (few, changes)
        if self._made is not None and changes is not None and self._made[0] == state:
            return self._made[1]
        as_loaded = bool(self._files) and changes is not None and changes == self._as_loaded
        about = {"files": self._files, "few": few, "dtypes": self._dtypes()} if as_loaded else None
        made = _read(folder, about) or _digest(self._model)
        if folder is not None and about is not None:
            write_atomically(folder / _KNOWN, json.dumps({**about, "digest": made}, indent=2) + "\n")
        self._made = state, made
        return made

    def _changes(self) -> tuple[int, ...] | None:
        """Return how often each value was changed in place so far; None = torch does not count."""
        try:
            return tuple(tensor._version for _, tensor in _tensors(self._model))
        except RuntimeError:  # of tensors that were made for inference alone
            return None

    def _dtypes(self) -> list[str]:
        return sorted({str(tensor.dtype) for _, tensor in _tensors(self._model)})


class WeightFiles:
    """A digest of files of weights that another process loads, made anew when one has changed by size or time.

    Args:
        files: the files.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._paths = list(files)
        self._made: tuple[Any, str] | None = None

    def few(self) -> str:
        """Return a digest of a few bytes of every file: checkpoints of one training differ, at hardly any cost."""
        digest = hashlib.sha256()
        for file in self._paths:
            size = file.stat().st_size
            digest.update(f"{file.name}:{size}\n".encode())
            with file.open("rb") as opened:
                for start in range(0, size, max(_PLACE, size // _PLACES)):
                    opened.seek(start)
                    digest.update(opened.read(_PLACE))
        return digest.hexdigest()[:16]

    def digest(self, folder: Path | None = None) -> str:
        """Return the digest.

        Args:
            folder: a run directory, in which it is kept.
        """
        about = {"files": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in self._paths]}
        if self._made is not None and self._made[0] == about:
            return self._made[1]
        made = _read(folder, about)
        if made is None:
            whole = hashlib.sha256()
            for file in self._paths:
                with file.open("rb") as opened:
                    whole.update(f"{file.name}:{hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
            made = whole.hexdigest()
        if folder is not None:
            write_atomically(folder / _KNOWN, json.dumps({**about, "digest": made}, indent=2) + "\n")
        self._made = about, made
        return made


def _read(folder: Path | None, about: Mapping[str, Any] | None) -> str | None:
    """Return a digest that is kept beside a run, if it is of the same files."""
    if folder is None or about is None or not (folder / _KNOWN).is_file():
        return None
    try:
        found = json.loads((folder / _KNOWN).read_text(encoding="utf-8"))
        return str(found["digest"]) if {name: found[name] for name in about} == about else None
    except (KeyError, TypeError, ValueError):  # it is made anew
        return None


def _tensors(model: Any) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _digest(model: Any) -> str:
    kept = set(model.state_dict())
    named = [(name, tensor) for name, tensor in _tensors(model) if name in kept]
    # Several at a time: hashing gives the interpreter free.
    with ThreadPoolExecutor(min(_THREADS, torch.get_num_threads())) as pool:
        digests = list(pool.map(lambda entry: _digest_of(entry[1]), named))
    whole = hashlib.sha256()
    for (name, tensor), digest in zip(named, digests, strict=True):
        whole.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}:{digest}\n".encode())
    return whole.hexdigest()


def _digest_of(tensor: Tensor) -> str:
    digest = hashlib.sha256()
    for piece in _pieces(tensor.detach()):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(tensor: Any) -> Iterable[Any]:
    if hasattr(tensor, "full_tensor"):  # spread over several devices
        tensor = tensor.full_tensor()
    if tensor.device.type == "meta":  # its values are elsewhere
        return
    if type(tensor) not in (Tensor, torch.nn.Parameter, torch.nn.Buffer):  # quantised, in a form of its own
        saved = io.BytesIO()
        torch.save(tensor, saved)
        yield saved.getbuffer()
        return
    flat = tensor.contiguous().reshape(-1)
    step = max(1, _PIECE // max(1, flat.element_size()))
    for start in range(0, flat.numel(), step):
        yield flat[start : start + step].view(torch.uint8).cpu().numpy()


def weights_files(folder: str) -> list[Path]:
    """Return the files of weights in a folder; none where a checkpoint came from the hub."""
    path = Path(folder)
    return sorted({file for pattern in _WEIGHTS for file in path.glob(pattern)}) if path.is_dir() else []


def processor_settings(processor: Any) -> dict[str, Any]:
    """Return what decides what a processor makes of images and texts, without its tokenizer and chat template."""
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
    plain: dict[str, Any] = json.loads(json.dumps({**_settled(own), **_settled(parts)}, default=str, sort_keys=True))
    return plain


def _settled(value: Any) -> Any:
    """Leave out what is not set, what is private, and names of classes, which newer libraries change."""
    if not isinstance(value, Mapping):
        return value
    return {
        str(name): _settled(part)
        for name, part in value.items()
        if part is not None and not str(name).startswith("_") and not str(name).endswith(("_type", "_class"))
    }


def config_settings(config: Any) -> dict[str, Any]:
    """Return what a model's configuration decides beside its weights: positions, norms, activations, special tokens.

    Left out are its type of numbers, which stands by itself, and what decides how answers are computed or kept.
    """
    return dict(_deciding(json.loads(json.dumps(config.to_dict(), default=str, sort_keys=True))))


def _deciding(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {
        name: _deciding(part)
        for name, part in value.items()
        if name not in _NOT_DECIDING and not name.startswith(("_", "output_"))
    }


def template_digest(processor: Any) -> str:
    """Return a digest of the chat template."""
    own, tokenizer = getattr(processor, "chat_template", None), getattr(processor, "tokenizer", None)
    template = own or getattr(tokenizer, "chat_template", None)
    return _short(json.dumps(template, sort_keys=True, default=str))


def tokenizer_digest(tokenizer: Any) -> str:
    """Return a digest of a tokenizer: its vocabulary, its added tokens, and how it cuts a text of many kinds."""
    added = [
        [number, token.content, token.special, token.lstrip, token.rstrip, token.normalized]
        for number, token in sorted(tokenizer.added_tokens_decoder.items())
    ]
    cut = [tokenizer(text, add_special_tokens=special)["input_ids"] for text in (_PROBE,) for special in (False, True)]
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    return _short(json.dumps([vocabulary, added, cut]))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


class DeferredModel:
    """The model of a run that is gone on with: the run knows what it is, and loading waits for the first prompt.

    So a run in which all is answered takes no weights.

    Args:
        load: loads it.
        identity: as the run has it.
        special_tokens: finds what is made inert in prompts, without weights; where it cannot, the model is asked.
        check: refuses the loaded model's identity where it is not that of the run.

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
        """Whether something was left to be asked."""
        return self._model is not None

    def identity(self, beside: Path | None = None) -> dict[str, Any]:
        """Return what the run has."""
        return dict(self._identity)

    @property
    def special_tokens(self) -> SpecialTokens | None:
        """What the model makes inert in prompts."""
        try:
            return self._find()
        except (OSError, ValueError):  # it has no processor of its own
            return special_tokens_of(self._loaded())

    def expect(self, prompts: int, style: Style) -> None:
        """Pass on what is about to be asked."""
        self._expected = prompts, style
        if self._model is not None:
            expect(self._model, prompts, style)

    def work(self) -> Mapping[str, Any]:
        """Return what was computed; nothing where nothing was asked."""
        return {} if self._model is None else work_of(self._model)

    def respond(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Load the model, if that was not done, and let it answer.

        Raises:
            RefusedError: it cannot be loaded, or is another one than the run's.
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
                raise RefusedError(str(error)) from error  # not a fault of one prompt
            except RuntimeError as error:
                raise RefusedError(error_text(error)) from error
            self._model = model
            if self._expected is not None:
                expect(model, *self._expected)
        return self._model
