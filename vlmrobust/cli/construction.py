"""Turn the flags of `vlmrobust run` into objects: the one table of what a flag becomes."""

import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..catalogue import secret
from ..metrics import Metric, PairedMetric
from ..metrics.catalogue import metrics_named
from ..naming import unknown_name
from ..report import Report
from ..types import Prompt
from .options import pairs

if TYPE_CHECKING:
    from ..data import AnswerAs, Samples
    from ..models import Model
    from ..models.encoding import Encoder
    from ..study.counting import StandInEncoder

__all__ = [
    "check_flags",
    "direction_of",
    "encoder_of",
    "engine_options",
    "is_paired",
    "measured",
    "model_of",
    "renderer_of",
    "samples_of",
    "with_metrics",
]


def with_metrics(report: Report, names: Sequence[str]) -> tuple[Report, list[str]]:
    """Return a report that has all of some metrics, and the columns of these, in their order.

    What the report lacks is measured on its responses, and so is what a class of one's own measures.

    Raises:
        ValueError: a name is not known; the message has the nearest, and lists all.
    """
    named = [name if name in report.metrics else metrics_named([name], others=report.metrics)[0] for name in names]
    missing = {metric.column: metric for metric in named if not isinstance(metric, str)}
    columns = [metric if isinstance(metric, str) else metric.column for metric in named]
    return measured(report, list(missing.values())) if missing else report, columns


def measured(report: Report, metrics: Sequence[Metric | PairedMetric], verdicts: Path | None = None) -> Report:
    """Return a report in which these metrics are measured anew, or added, and all others are as they were.

    Args:
        report: on the responses.
        metrics: what is measured.
        verdicts: as in `Report.score`.
    """
    new = report.score(metrics, verdicts=verdicts)
    columns = {column.name: column for column in (*report._columns, *new._columns)}
    rows = {((row.condition, row.carrier), row.metric): row for row in (*report._rows, *new._rows)}
    units = dict.fromkeys(unit for unit, _ in rows)
    summary = [rows[unit, name] for unit in units for name in columns]
    return Report(report.responses, list(columns.values()), seed=report.seed, manifest=report.manifest, summary=summary)


def direction_of(report: Report, metric: str) -> int:
    """Return 1 for a metric of which more is better, -1 for one of which less is.

    Raises:
        ValueError: the report does not have it, or it is neither.
    """
    found = {column.name: column.higher_is_better for column in report._columns}
    if metric not in found:
        raise ValueError(f"expected a metric of the report, {unknown_name(metric, found)}")
    better = found[metric]
    if better is None:
        raise ValueError(f"metric {metric!r}: expected one of which more, or less, is better; of this one neither is")
    return 1 if better else -1


def is_paired(report: Report, metric: str) -> bool:
    """Return whether a metric of the report is itself a comparison with base."""
    return any(column.name == metric and column.is_paired for column in report._columns)


def samples_of(
    *,
    data: str | None,
    benchmark: str | None,
    split: str | None,
    columns: Sequence[str] | None,
    answer_as: "AnswerAs",
    limit: int | None,
    check_images: bool,
    download_urls: bool,
    skip_bad_rows: bool,
) -> "Samples":
    """Return the samples of a file, a folder or a dataset, or those of a published benchmark.

    Raises:
        ValueError: there is neither, or a flag that does not go with the one there is.
    """
    from ..data import load_benchmark, read_rows

    shared: dict[str, Any] = {
        "split": split,
        "limit": limit,
        "on_error": "record" if skip_bad_rows else "raise",
        "check_images": check_images,
    }
    if benchmark is not None:
        _refuse_beside("--benchmark", {"--columns": bool(columns), "--answer-as": answer_as != "any"})
        return load_benchmark(benchmark, source=data, download_urls=download_urls, **shared)
    _refuse_beside("--data", {"--download-urls": download_urls})
    if data is None:
        raise ValueError("expected --data, or --benchmark with the name of a published one")
    fields = pairs("--columns", "field=column", columns)
    places = {field: column.split(",") if "," in column else column for field, column in fields.items()}
    return read_rows(data, places, answer_as=answer_as, **shared)


def model_of(
    *,
    model: str,
    engine: Literal["transformers", "vllm"],
    engine_option: Sequence[str] | None,
    base_url: str | None,
    api_key_env: str | None,
    dtype: str,
    device: str | None,
    trust_remote_code: bool,
    batch_size: int | None,
    max_new_tokens: int,
    force_answer: bool,
    temperature: float | None,
    seed: int,
) -> "Model":
    """Return a checkpoint on one of the engines, or with an address or a key the model of a server.

    Raises:
        ValueError: the key is not there.
    """
    from ..models import HFModel, OpenAIModel, VLLMModel

    if base_url is None and api_key_env is None:
        sampling = {"do_sample": True, "temperature": temperature, "seed": seed} if temperature else {}
        if engine == "vllm":
            trusted = {"trust_remote_code": True} if trust_remote_code else {}
            return VLLMModel(
                model,
                {"max_new_tokens": max_new_tokens} | sampling,
                dtype=dtype,
                force_answer=force_answer,
                **trusted | engine_options(engine_option),
            )
        return HFModel.from_pretrained(
            model,
            dtype=dtype,
            device=device or _own_card(),
            generation={"max_new_tokens": max_new_tokens} | sampling,
            force_answer=force_answer,
            batch_size=batch_size,
            trust_remote_code=trust_remote_code,
        )
    generation = {"max_tokens": max_new_tokens, "temperature": temperature or 0, "seed": seed}
    return OpenAIModel(model, base_url, secret(api_key_env, "--api-key-env"), generation=generation)


def check_flags(given: Mapping[str, Any]) -> None:
    """Refuse flags of a model that do not go together, before anything is read or made.

    Args:
        given: the options of a call by name.

    Raises:
        ValueError: a flag for checkpoints stands beside those of a server, or one for another engine, or an engine's
            option has not the form of one.
    """
    of_engine = {"--engine-option": bool(given["engine_option"])}
    of_checkpoint = {"--device": given["device"] is not None, "--batch-size": given["batch_size"] is not None}
    if given["base_url"] is not None or given["api_key_env"] is not None:
        others = {
            "--engine": given["engine"] != "transformers",
            "--dtype": given["dtype"] != "auto",
            "--trust-remote-code": given["trust_remote_code"],
            "--force-answer": given["force_answer"],
        }
        _refuse_beside("--base-url", others | of_engine | of_checkpoint)
    elif given["engine"] == "vllm":
        _refuse_beside("--engine vllm", of_checkpoint)
        engine_options(given["engine_option"])
    else:
        _refuse_beside("--engine transformers", of_engine)


def renderer_of(*, model: str, is_served: bool, trust_remote_code: bool) -> Callable[[Prompt], str]:
    """Return what shows a prompt as the model sees it: a checkpoint's chat template, without its weights, or turns."""
    if is_served:
        return Prompt.transcript
    processor = _processor(model, trust_remote_code)
    return lambda prompt: prompt.render(processor)


def encoder_of(*, model: str, is_served: bool, trust_remote_code: bool) -> "Encoder | StandInEncoder":
    """Return what counts a prompt's tokens: a checkpoint's processor, or what stands in for one that is not at hand."""
    from ..models.encoding import Encoder
    from ..study.counting import StandInEncoder

    if is_served:
        return StandInEncoder()
    try:
        return Encoder(_processor(model, trust_remote_code))
    except (OSError, ValueError, ImportError):
        return StandInEncoder()


@lru_cache(maxsize=1)
def _processor(model: str, trust_remote_code: bool) -> Any:
    from ..models.loading import load_processor

    return load_processor(model, {}, {"trust_remote_code": trust_remote_code})


def engine_options(values: Sequence[str] | None) -> dict[str, Any]:
    """Return options of an engine, whose values are read as TOML has them; what is no value there is a text."""
    found: dict[str, Any] = {}
    for name, value in pairs("--engine-option", "name=value", values).items():
        try:
            found[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[name] = value
    return found


def _refuse_beside(flag: str, given: dict[str, bool]) -> None:
    if wrong := [name for name, is_given in given.items() if is_given]:
        raise ValueError(f"{' and '.join(wrong)}: not to be had with {flag}")


def _own_card() -> str | None:
    """Return the card of this process where torchrun has started several on a machine; None = the model's choice."""
    import torch

    rank = os.environ.get("LOCAL_RANK")
    return f"cuda:{rank}" if rank is not None and torch.cuda.is_available() else None
