"""Build samples, models, prompt renderers and token encoders from flags, and add metrics to a report by name.

Before anything is loaded, `check_flags` refuses flags that conflict. `encoder_of` returns the encoder that counts a
prompt's tokens in previews and plans.
"""

import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..catalogue import secret
from ..metrics import Metric, PairedMetric
from ..metrics.catalogue import metrics_named
from ..report import Report
from ..types import Prompt
from .options import pairs

if TYPE_CHECKING:
    from ..data import Samples
    from ..models import Model
    from ..models.encoding import Encoder
    from ..study.cost import StandInEncoder

__all__ = [
    "check_flags",
    "encoder_of",
    "engine_options",
    "is_served",
    "measured",
    "model_of",
    "renderer_of",
    "samples_of",
    "with_metrics",
]


def with_metrics(report: Report, names: Sequence[str]) -> tuple[Report, list[str]]:
    """Return a report that has some metrics, and the columns of these metrics in order.

    Metrics that the report lacks, and the user's own classes, are computed from its responses.

    Raises:
        ValueError: a name is unknown; the message suggests the nearest and lists all.
    """
    named = [name if name in report.metrics else metrics_named([name], others=report.metrics)[0] for name in names]
    missing = {metric.column: metric for metric in named if not isinstance(metric, str)}
    columns = [metric if isinstance(metric, str) else metric.column for metric in named]
    return measured(report, list(missing.values())) if missing else report, columns


def measured(report: Report, metrics: Sequence[Metric | PairedMetric], verdicts: Path | None = None) -> Report:
    """Return a report with some metrics computed anew or added, and all others unchanged.

    Args:
        report: the report of the responses.
        metrics: the metrics to compute.
        verdicts: as in `Report.score`.
    """
    new = report.score(metrics, verdicts=verdicts)
    columns = {column.name: column for column in (*report._columns, *new._columns)}
    rows = {((row.condition, row.carrier), row.metric): row for row in (*report._rows, *new._rows)}
    units = dict.fromkeys(unit for unit, _ in rows)
    summary = [rows[unit, name] for unit in units for name in columns]
    return Report(report.responses, list(columns.values()), seed=report.seed, manifest=report.manifest, summary=summary)


def samples_of(options: Mapping[str, Any]) -> "Samples":
    """Read the samples of a file, a folder, a dataset, or a published benchmark.

    Args:
        options: the options of a call by name; those that are missing have their default value.

    Raises:
        ValueError: neither data nor benchmark is given, or another flag does not apply to it.
    """
    from ..data import load_benchmark, read_rows

    data, benchmark, columns = options.get("data"), options.get("benchmark"), options.get("columns")
    answer_as, download_urls = options.get("answer_as", "any"), options.get("download_urls", False)
    shared: dict[str, Any] = {
        "split": options.get("split"),
        "limit": options.get("limit"),
        "on_error": "record" if options.get("skip_bad_rows") else "raise",
        "check_images": options.get("check_images", True),
    }
    if benchmark is not None:
        _refuse_with("--benchmark", {"--columns": bool(columns), "--answer-as": answer_as != "any"})
        return load_benchmark(benchmark, source=data, download_urls=download_urls, **shared)
    _refuse_with("--data", {"--download-urls": download_urls})
    if data is None:
        raise ValueError("expected --data, or --benchmark with the name of a published benchmark, got neither")
    fields = pairs("--columns", "field=column", columns)
    places = {field: column.split(",") if "," in column else column for field, column in fields.items()}
    return read_rows(data, places, answer_as=answer_as, **shared)


def model_of(options: Mapping[str, Any]) -> "Model":
    """Load a checkpoint on one of the engines or, given an address or a key, connect to a server's model.

    Args:
        options: the options of the call by name.

    Raises:
        ValueError: the environment variable of the key is not set.
    """
    from ..models import HFModel, OpenAIModel, VLLMModel

    name, max_new_tokens = options["model"], options["max_new_tokens"]
    temperature, seed = options["temperature"], options["seed"]
    if is_served(options):
        key = secret(options["api_key_env"], "--api-key-env")
        generation = {"max_tokens": max_new_tokens, "temperature": temperature or 0, "seed": seed}
        return OpenAIModel(name, options["base_url"], key, generation=generation)
    sampling = {"do_sample": True, "temperature": temperature, "seed": seed} if temperature else {}
    shared: dict[str, Any] = {"dtype": options["dtype"], "force_answer": options["force_answer"]}
    generation = {"max_new_tokens": max_new_tokens} | sampling
    if options["engine"] == "vllm":
        trusted = {"trust_remote_code": True} if options["trust_remote_code"] else {}
        return VLLMModel(name, generation, **shared, **trusted | engine_options(options["engine_option"]))
    return HFModel.from_pretrained(
        name,
        device=options["device"] or _device_of_rank(),
        generation=generation,
        batch_size=options["batch_size"],
        trust_remote_code=options["trust_remote_code"],
        **shared,
    )


def is_served(options: Mapping[str, Any]) -> bool:
    """Return whether the options of a call name a server's model."""
    return options["base_url"] is not None or options["api_key_env"] is not None


def check_flags(options: Mapping[str, Any]) -> None:
    """Refuse conflicting flags of a model before anything is read or loaded.

    Args:
        options: the options of the call by name.

    Raises:
        ValueError: a flag for checkpoints is combined with those of a server or of another engine, or an engine option
            is malformed.
    """
    of_engine = {"--engine-option": bool(options["engine_option"])}
    of_checkpoint = {"--device": options["device"] is not None, "--batch-size": options["batch_size"] is not None}
    if is_served(options):
        others = {
            "--engine": options["engine"] != "transformers",
            "--dtype": options["dtype"] != "auto",
            "--trust-remote-code": options["trust_remote_code"],
            "--force-answer": options["force_answer"],
        }
        _refuse_with("--base-url", others | of_engine | of_checkpoint)
    elif options["engine"] == "vllm":
        _refuse_with("--engine vllm", of_checkpoint)
        engine_options(options["engine_option"])
    else:
        _refuse_with("--engine transformers", of_engine)


def renderer_of(options: Mapping[str, Any]) -> Callable[[Prompt], str]:
    """Return a function that renders a prompt: with the checkpoint's chat template, for a server as a transcript."""
    if is_served(options):
        return Prompt.transcript
    processor = _processor(options["model"], options["trust_remote_code"])
    return lambda prompt: prompt.render(processor)


def encoder_of(options: Mapping[str, Any]) -> "Encoder | StandInEncoder":
    """Return the encoder that counts a prompt's tokens: the checkpoint's, or a stand-in if that is not available."""
    from ..models.encoding import Encoder
    from ..study.cost import StandInEncoder

    if is_served(options):
        return StandInEncoder()
    try:
        return Encoder(_processor(options["model"], options["trust_remote_code"]))
    except (OSError, ValueError, ImportError):
        return StandInEncoder()


@lru_cache(maxsize=1)
def _processor(model: str, trust_remote_code: bool) -> Any:
    from ..models.loading import load_processor

    return load_processor(model, {}, {"trust_remote_code": trust_remote_code})


def engine_options(values: Sequence[str] | None) -> dict[str, Any]:
    """Parse the options of an engine: values are TOML, or text if they are not valid TOML."""
    parsed: dict[str, Any] = {}
    for name, value in pairs("--engine-option", "name=value", values).items():
        try:
            parsed[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed[name] = value
    return parsed


def _refuse_with(flag: str, others: dict[str, bool]) -> None:
    if wrong := [name for name, is_given in others.items() if is_given]:
        raise ValueError(f"{' and '.join(wrong)}: cannot be combined with {flag}")


def _device_of_rank() -> str | None:
    """Return the GPU of this rank if torchrun started several on the machine; None = let the model choose."""
    import torch

    rank = os.environ.get("LOCAL_RANK")
    return f"cuda:{rank}" if rank is not None and torch.cuda.is_available() else None
