"""What a study would take, counted before anything is asked."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..data import BENCHMARKS
from ..judges.asking import PROMPT
from ..named_conditions import conditions_named
from ..report.tables import Table, terminal_table
from ..report.typed import table_of
from ..types import Sample
from .asked import Asked, asked
from .cost import Rates, Work, work_of
from .counting import Counts, count
from .entries import BenchmarkEntry, JudgeEntry, ModelEntry, Size
from .holding import free_memory
from .loading import samples_of, style_of
from .study import Study

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Plan", "PlanRow", "plan_of"]

_NEW_TOKENS = 512  # the models' own default
_BATCH_TOKENS = 32_768  # the same


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One model, with all its checkpoints, about one benchmark; or one judge.

    Attributes:
        model, benchmark: names.
        checkpoints: how many the numbers are for, all together.
        samples: of the benchmark.
        prompts: samples × conditions × draws × checkpoints, but for what does not apply.
        texts: those whose answer is decoded; of the others a letter is read.
        prompt_tokens: of all prompts, image tokens among them.
        shared_tokens: the same where what prompts of a sample have in common goes through the model once.
        new_tokens: that are decoded, at most or on average as the study says.
        operations: floating-point operations, with what is shared computed once.
        plain_operations: without.
        weight_bytes: of weights, read in decoding.
        cache_bytes: of keys and values, read in decoding.
        memory: bytes of the weights, and of keys and values of the rows that are decoded together.
        seconds: at the rates that were stated; NaN without.
        stand_ins: what was not at hand, and what stood in for it; empty = all is counted.
    """

    model: str
    benchmark: str
    checkpoints: int
    samples: float
    prompts: float
    texts: float
    prompt_tokens: float
    shared_tokens: float
    new_tokens: float
    operations: float
    plain_operations: float
    weight_bytes: float
    cache_bytes: float
    memory: float
    seconds: float
    stand_ins: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a study would take.

    Attributes:
        rows: model by model.
        rates: what was stated of the machine.
        at_most: how many samples of a benchmark were counted.
    """

    rows: tuple[PlanRow, ...]
    rates: Rates | None
    at_most: int

    @property
    def table(self) -> "pd.DataFrame":
        """One row per model and benchmark, then one per judge; see `PlanRow`."""
        return table_of(PlanRow, self.rows)

    def __str__(self) -> str:
        header = (
            "model, benchmark",
            "samples",
            "prompts",
            "prompt tokens\n(shared prefixes)",
            "new tokens",
            "FLOP\n(without sharing)",
            "read in decoding:\nweights, cache",
            "memory",
            *(["time"] if self.rates else []),
            "stand-in for",
        )
        rows = [self._line(row) for row in (*self.rows, _total(self.rows))]
        return terminal_table(Table(header, tuple(rows), self._notes()))

    def _line(self, row: PlanRow) -> tuple[str, ...]:
        stages = f" × {row.checkpoints}" if row.checkpoints > 1 else ""
        return (
            f"{row.model}{stages}, {row.benchmark}" if row.benchmark else row.model,
            _count(row.samples),
            _count(row.prompts),
            f"{_count(row.prompt_tokens)} ({_count(row.shared_tokens)})",
            _count(row.new_tokens),
            f"{_count(row.operations)} ({_count(row.plain_operations)})",
            f"{_bytes(row.weight_bytes)}, {_bytes(row.cache_bytes)}",
            _bytes(row.memory),
            *([_duration(row.seconds)] if self.rates else []),
            ", ".join(part.partition(":")[0] for part in row.stand_ins.split("; ")) if row.stand_ins else "–",
        )

    def _notes(self) -> tuple[str, ...]:
        notes = [
            f"Counted on at most {self.at_most} samples of a benchmark, evenly spread, and scaled. New tokens: the "
            "limit, unless the study states a mean. FLOP: 2 per multiplication and addition, the attention of language "
            "models among them, that of vision towers not. Nothing was measured.",
        ]
        if self.rates:
            notes.append(
                f"Time at {self.rates.operations / 1e12:g} TFLOP/s and {self.rates.bytes / 1e9:g} GB/s, as stated."
            )
        details = dict.fromkeys(part for row in self.rows for part in row.stand_ins.split("; ") if part)
        return (*notes, *(f"stand-in for {part}" for part in details))


def plan_of(study: Study, rates: Rates | None, at_most: int) -> Plan:
    """Return the plan of a study; see `Study.plan`."""
    data = {entry.name: _data(entry) for entry in study.benchmarks}
    rows = []
    for entry in study.models:
        model = asked(entry, study)
        rows += [
            _row(study, entry, model, benchmark, data[benchmark.name], rates, at_most) for benchmark in study.benchmarks
        ]
        del model
        free_memory()
    rows += [_judge_row(study, judge, rows, rates) for judge in study.judges if judge.name.startswith("hf:")]
    return Plan(tuple(rows), rates, at_most)


@dataclass(frozen=True, slots=True)
class _Data:
    """Samples to count, of how many there are (NaN = not known), and what stands in."""

    samples: Sequence[Sample]
    total: float
    stand_in: str


def _data(entry: BenchmarkEntry) -> _Data:
    """Return the samples of a benchmark whose files are at hand, else one that is made up; nothing is downloaded."""
    if entry.data is not None or entry.source is not None:
        try:
            samples = samples_of(entry)
            return _Data(samples, len(samples), "")
        except Exception as error:  # noqa: BLE001 - a plan says what is missing, whatever it is
            reason = f"{type(error).__name__}: {error}"
    else:
        reason = "a dry run downloads nothing; 'source' names a copy"
    published = BENCHMARKS.get(entry.published)
    rows = entry.rows or (published.rows if published is not None else None)
    total = math.nan if rows is None else float(min(rows, entry.limit or rows))
    what = "its rows as published" if rows is not None else "number not known, give 'rows'"
    stand_in = f"samples: {what}, one made-up question about 640 × 480 pixels ({' '.join(reason.split())})"
    return _Data([_made_up()], total, stand_in.replace("; ", ", "))


def _made_up() -> Sample:
    from PIL import Image

    return Sample(
        id="made up",
        images=[Image.new("RGB", (640, 480))],
        question="Considering the positions of the objects in the image, which of them is closest to the red chair?",
        options=("the brown table", "the window", "the bookshelf", "the lamp"),
        answer=0,
    )


def _row(
    study: Study,
    entry: ModelEntry,
    model: Asked,
    benchmark: BenchmarkEntry,
    data: _Data,
    rates: Rates | None,
    at_most: int,
) -> PlanRow:
    step = max(1, math.ceil(len(data.samples) / at_most))
    some = data.samples[::step]
    stages = len(entry.stages)
    counted = count(
        model.encoder,
        some,
        conditions_named(study.conditions, data.samples),
        style=style_of(entry),
        seed=study.seed,
        draws=study.draws,
    )
    counts = counted.times(data.total / len(some) * stages)
    new_tokens = entry.new_tokens or model.limit or _NEW_TOKENS
    rows = _rows_together(study, entry, counted, new_tokens)
    works = [
        None
        if model.size is None
        else work_of(
            model.size,
            counts,
            shared=shared,
            new_tokens=new_tokens,
            rows=rows,
            bytes_per_value=model.bytes_per_value,
        )
        for shared in (True, False)
    ]
    length = counts.text_context / counts.texts + new_tokens if counts.texts else 0.0
    memory = math.nan if model.size is None else model.bytes_per_value * _values_held(model.size, rows * length)
    return _filled(
        entry.name, benchmark.name, stages, data.total, counts, new_tokens, works, memory, rates,
        "; ".join(filter(None, (*model.stand_ins, data.stand_in))),
    )  # fmt: skip


def _values_held(size: Size, cached: float) -> float:
    """Return how many values lie in memory: the weights, and keys and values of some tokens."""
    weights = size.language + size.experts + size.vision + size.projector
    return weights + 2 * size.layers * size.kv_width * cached


def _rows_together(study: Study, entry: ModelEntry, counted: Counts, new_tokens: int) -> float:
    """Return how many texts are decoded together: those of a batch of samples, as far as the engine's limits allow."""
    if not counted.texts:
        return 1.0
    length = counted.text_context / counted.texts + new_tokens
    limit = float(entry.options.get("batch_tokens", _BATCH_TOKENS)) / length
    asked_together = study.batch_size * len(study.conditions) * study.draws * counted.texts / counted.prompts
    return max(1.0, min(limit, asked_together, float(entry.options.get("batch_size") or math.inf)))


def _filled(
    model: str,
    benchmark: str,
    stages: int,
    samples: float,
    counts: Counts,
    new_tokens: int,
    works: Sequence[Work | None],
    memory: float,
    rates: Rates | None,
    stand_ins: str,
) -> PlanRow:
    shared, plain = works
    return PlanRow(
        model=model,
        benchmark=benchmark,
        checkpoints=stages,
        samples=samples,
        prompts=counts.prompts,
        texts=counts.texts,
        prompt_tokens=counts.plain.tokens,
        shared_tokens=counts.shared.tokens,
        new_tokens=counts.texts * new_tokens,
        operations=math.nan if shared is None else shared.operations,
        plain_operations=math.nan if plain is None else plain.operations,
        weight_bytes=math.nan if shared is None else shared.weight_bytes,
        cache_bytes=math.nan if shared is None else shared.cache_bytes,
        memory=memory,
        seconds=math.nan if shared is None or rates is None else shared.seconds(rates),
        stand_ins=stand_ins,
    )


def _judge_row(study: Study, judge: JudgeEntry, rows: Sequence[PlanRow], rates: Rates | None) -> PlanRow:
    """Return what a judge takes that reads every text once: one forward pass over each, and one letter."""
    known = [row for row in rows if not math.isnan(row.texts)]
    texts = sum(row.texts for row in known)
    length = round(sum(row.new_tokens for row in known) / texts) + len(PROMPT) // 4 if texts else 0
    passes = Counts().plain.then(length)
    counts = Counts(prompts=1, plain=passes, shared=passes).times(texts)
    size = study.sizes.get(judge.size or "")
    work = None if size is None else work_of(size, counts, shared=False, new_tokens=0, rows=1)
    stand_ins = ["thoughts: as long as the new tokens"]
    stand_ins += ["size: of the study's sizes" if size else "size: none, so that no operations are counted"]
    memory = math.nan if size is None else 2 * _values_held(size, 0)
    return _filled(f"judge {judge.name}", "", 1, math.nan, counts, 0, [work, work], memory, rates, "; ".join(stand_ins))


def _total(rows: Sequence[PlanRow]) -> PlanRow:
    def added(field: str) -> float:
        values = [getattr(row, field) for row in rows]
        return math.fsum(value for value in values if not math.isnan(value))

    sums: dict[str, Any] = {
        field: added(field)
        for field in (
            "prompts", "texts", "prompt_tokens", "shared_tokens", "new_tokens", "operations", "plain_operations",
            "weight_bytes", "cache_bytes", "seconds",
        )
    }  # fmt: skip
    stand_ins = "; ".join(_kinds(rows))
    return PlanRow(
        model="all that is known", benchmark="", checkpoints=1, samples=math.nan, memory=math.nan, stand_ins=stand_ins,
        **sums,
    )  # fmt: skip


def _kinds(rows: Sequence[PlanRow]) -> Iterator[str]:
    parts = (part.partition(":")[0] for row in rows for part in row.stand_ins.split("; ") if part)
    yield from dict.fromkeys(parts)


def _count(value: float) -> str:
    """Return a number with three digits and a letter for its size."""
    if math.isnan(value):
        return "?"
    for power, letter in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if value >= 10**power:
            return f"{value / 10**power:.3g} {letter}"
    return f"{value:.3g}"


def _bytes(value: float) -> str:
    text = _count(value)
    return text if text == "?" else f"{text}B" if text[-1].isalpha() else f"{text} B"


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return "?"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 3600:.3g} h" if seconds >= 7200 else f"{seconds / 60:.3g} min"
