"""Make the plan of a study: create and count its prompts without running models or downloading anything.

Processors and sizes come from what is available on this machine; no weights are loaded.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data import BENCHMARKS
from ..judges.letter_judge import PROMPT
from ..models import HFModel
from ..models.encoding import Encoder
from ..perturbations.catalogue import conditions_named
from ..secrecy import error_text
from ..types import Sample
from .construction import free_memory, model_of, samples_of, style_of
from .cost import Cost, Counts, Passes, Rates, StandInEncoder, cost_of, count, size_of
from .definition import StudyDefinition
from .entries import BenchmarkEntry, JudgeEntry, ModelEntry, Size, secrets_of
from .plan import Plan, PlanRow

__all__ = ["PlannedModel", "one_line", "plan_of", "planned_model"]

_NEW_TOKENS = 512  # default of the models
_BATCH_TOKENS = 32_768  # default of the models


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """The properties of a model that a plan needs.

    Attributes:
        encoder: counts its tokens.
        size: its size; None = unknown, as for a server.
        limit: maximum number of new tokens; None = unknown.
        bytes_per_value: bytes per value of weights and cache.
        stand_ins: what was not available, as `what: its stand-in`.
    """

    encoder: Any
    size: Size | None
    limit: int | None
    bytes_per_value: int
    stand_ins: tuple[str, ...]


def plan_of(study: StudyDefinition, rates: Rates | None, at_most: int) -> Plan:
    """Return the plan of a study; see `Study.plan`."""
    data = {entry.name: _data(entry, study.seed) for entry in study.benchmarks}
    rows = []
    for entry in study.models:
        model = planned_model(entry, study)
        rows += [
            _row(study, entry, model, benchmark, data[benchmark.name], rates, at_most) for benchmark in study.benchmarks
        ]
        del model
        free_memory()
    rows += [_judge_row(study, judge, rows, rates) for judge in study.judges if judge.name.startswith(("hf:", "vllm:"))]
    return Plan(tuple(rows), rates, at_most)


@dataclass(frozen=True, slots=True)
class _Data:
    """Samples to count, samples that provide swapped images, the total number (NaN = unknown), and the stand-in."""

    samples: Sequence[Sample]
    pool: Sequence[Sample]
    total: float
    stand_in: str


def _data(entry: BenchmarkEntry, seed: int) -> _Data:
    """Read the samples of a benchmark if its files are available, else make one up; nothing is downloaded."""
    place = entry.data or entry.source
    reason = "a dry run downloads nothing, 'source' names a copy"
    if place is not None and not Path(place).exists():
        reason = f"nothing at {place}"
    elif place is not None:
        try:
            samples = samples_of(entry.replace(download_urls=False), seed)
            return _Data(samples, samples, len(samples), "")
        except Exception as error:  # noqa: BLE001 - the plan states the reason
            reason = one_line(error)
    published = BENCHMARKS.get(entry.published)
    rows = entry.rows or (published.rows if published is not None else None)
    total = math.nan if rows is None else float(min(rows, entry.limit or entry.drawn or rows))
    what = "its rows as published" if rows is not None else "number not known, give 'rows'"
    stand_in = f"samples: {what}, one made-up question about 640 × 480 pixels ({reason})"
    made_up = [_made_up(colour) for colour in ("black", "white")]
    return _Data(made_up[:1], made_up, total, stand_in)


def _made_up(colour: str) -> Sample:
    from PIL import Image

    return Sample(
        id=f"made up, {colour}",
        images=[Image.new("RGB", (640, 480), colour)],
        question="Considering the positions of the objects in the image, which of them is closest to the red chair?",
        options=("the brown table", "the window", "the bookshelf", "the lamp"),
        answer=0,
    )


def _row(
    study: StudyDefinition,
    entry: ModelEntry,
    planned: PlannedModel,
    benchmark: BenchmarkEntry,
    data: _Data,
    rates: Rates | None,
    at_most: int,
) -> PlanRow:
    step = max(1, math.ceil(len(data.samples) / at_most))
    subset = data.samples[::step]
    stages = len(entry.stages)
    counted = count(
        planned.encoder,
        subset,
        conditions_named(study.conditions, data.pool),
        style=style_of(entry),
        seed=study.seed,
        draws=study.draws,
    )
    new_tokens = entry.new_tokens or planned.limit or _NEW_TOKENS
    return _plan_row(
        planned,
        counted.times(data.total / len(subset) * stages),
        new_tokens,
        _rows_together(study, entry, counted, new_tokens),
        rates,
        model=entry.name,
        benchmark=benchmark.name,
        checkpoints=stages,
        samples=data.total,
        stand_ins="; ".join(filter(None, (*planned.stand_ins, data.stand_in))),
    )


def _rows_together(study: StudyDefinition, entry: ModelEntry, counted: Counts, new_tokens: int) -> float:
    """Return the batch size of decoding: the texts of a batch of samples, within the engine's limits."""
    if not counted.texts:
        return 1.0
    length = counted.text_context / counted.texts + new_tokens
    limit = float(entry.options.get("batch_tokens", _BATCH_TOKENS)) / length
    per_call = study.batch_size * len(study.conditions) * study.draws * counted.texts / counted.prompts
    return max(1.0, min(limit, per_call, float(entry.options.get("batch_size") or math.inf)))


def _plan_row(
    planned: PlannedModel, counts: Counts, new_tokens: int, rows: float, rates: Rates | None, **names: Any
) -> PlanRow:
    """Return the cost of prompts whose texts are decoded in batches of `rows`; NaN for a model of unknown size.

    `names` are the other fields of the row.
    """
    size, width = planned.size, planned.bytes_per_value
    shared = plain = Cost(math.nan, math.nan, math.nan, math.nan)
    memory = math.nan
    if size is not None:
        shared, plain = (
            cost_of(size, counts, shared=is_shared, new_tokens=new_tokens, rows=rows, bytes_per_value=width)
            for is_shared in (True, False)
        )
        weights = size.language + size.experts + size.vision + size.projector
        length = counts.text_context / counts.texts + new_tokens if counts.texts else 0.0
        memory = width * (weights + 2 * size.layers * size.kv_width * (rows * length))
    return PlanRow(
        prompts=counts.prompts,
        texts=counts.texts,
        prompt_tokens=counts.plain.tokens,
        shared_tokens=counts.shared.tokens,
        new_tokens=counts.texts * new_tokens,
        operations=shared.operations,
        plain_operations=plain.operations,
        weight_bytes=shared.weight_bytes,
        cache_bytes=shared.cache_bytes,
        memory=memory,
        seconds=math.nan if rates is None else shared.seconds(rates),
        **names,
    )


def _judge_row(study: StudyDefinition, judge: JudgeEntry, rows: Sequence[PlanRow], rates: Rates | None) -> PlanRow:
    """Return the cost of a judge that reads every text once: one forward pass over each, and one letter."""
    known = [row for row in rows if not math.isnan(row.texts)]
    texts = sum(row.texts for row in known)
    length = round(sum(row.new_tokens for row in known) / texts) + len(PROMPT) // 4 if texts else 0
    passes = Passes().then(length)
    counts = Counts(prompts=1, plain=passes, shared=passes).times(texts)
    size = study.sizes.get(judge.size or "")
    stand_ins = (
        "thoughts: as long as the new tokens",
        "size: of the study's sizes" if size else "size: none, so that no operations are counted",
    )
    return _plan_row(
        PlannedModel(encoder=None, size=size, limit=0, bytes_per_value=2, stand_ins=stand_ins),
        counts,
        0,
        1,
        rates,
        model=f"judge {judge.name}",
        benchmark="",
        checkpoints=1,
        samples=math.nan,
        stand_ins="; ".join(stand_ins),
    )


def planned_model(entry: ModelEntry, study: StudyDefinition) -> PlannedModel:
    """Return the properties of a model without downloading or loading a checkpoint's weights.

    A factory is called, since its model has the tokenizer.
    """
    stated = study.sizes.get(entry.size or "")
    names = ("max_new_tokens", "max_tokens", "max_completion_tokens")
    limit = next((int(entry.generation[name]) for name in names if name in entry.generation), None)
    stand_ins = []
    width = 4 if entry.dtype == "float32" else 2
    encoder: Any = None
    size: Size | None = None
    if entry.factory is not None:
        try:
            with secrets_of(entry).held():
                model: Any = model_of(entry, entry.stages[0], study.seed)
        except Exception as error:  # noqa: BLE001 - the plan states the reason
            model = None
            stand_ins.append(f"model: none, its factory failed ({secrets_of(entry).hidden(one_line(error))})")
        if isinstance(model, HFModel):
            encoder, size = Encoder(model.processor), size_of(model.model)
            width = model.model.dtype.itemsize
            limit = limit or model.identity()["generation"]["max_new_tokens"]
    elif not entry.is_served:
        name = str(entry.stages[0].checkpoint or entry.checkpoint)
        encoder, size = _processor(name, entry), _size(name, entry)
    if encoder is None:
        rule = (
            "InternVL's tiles" if stated is not None and stated.image == "internvl" else "Qwen2.5-VL's 28 × 28 pixels"
        )
        stand_ins.append(f"tokenizer: 4 characters a token, images by {rule} a token")
        encoder = StandInEncoder("qwen2_5_vl" if stated is None else stated.image)
    if size is None and stated is not None:
        size = stated
        stand_ins.append("size: of the study's sizes")
    elif size is None:
        whose = "a server's own" if entry.is_served else "none, give 'size'"
        stand_ins.append(f"size: {whose}, so that no operations are counted")
    return PlannedModel(encoder, size, limit, width, tuple(stand_ins))


def one_line(error: Exception) -> str:
    r"""Return an error as one item of a line whose items are separated by semicolons.

    Example:
        >>> one_line(ValueError("first;\nsecond"))
        'ValueError: first, second'
    """
    return " ".join(error_text(error).replace(";", ",").split())


def _processor(name: str, entry: ModelEntry) -> Encoder | None:
    from transformers import AutoProcessor

    trusted = bool(entry.options.get("trust_remote_code", False))
    try:
        return Encoder(AutoProcessor.from_pretrained(name, local_files_only=True, trust_remote_code=trusted))
    except Exception:  # noqa: BLE001 - the plan names a stand-in instead
        return None


def _size(name: str, entry: ModelEntry) -> Size | None:
    """Return the size of a checkpoint with an available configuration, from a model on the meta device."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    trusted = bool(entry.options.get("trust_remote_code", False))
    try:
        config = AutoConfig.from_pretrained(name, local_files_only=True, trust_remote_code=trusted)
        with torch.device("meta"):
            return size_of(AutoModelForImageTextToText.from_config(config, trust_remote_code=trusted))
    except Exception:  # noqa: BLE001 - the plan names a stand-in instead
        return None
