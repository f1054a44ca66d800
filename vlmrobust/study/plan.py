"""Hold and show the plan of a study: the cost of each model, benchmark and judge."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..report.formats import Table, terminal_table
from ..report.metric_columns import table_of
from .cost import Rates

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Plan", "PlanRow"]


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One model, with all its checkpoints, on one benchmark; or one judge.

    Attributes:
        model, benchmark: names.
        checkpoints: number of checkpoints that the numbers cover.
        samples: number of samples of the benchmark.
        prompts: samples × conditions × draws × checkpoints, without those not applicable.
        texts: number of prompts whose response is decoded; from the others only a letter is read.
        prompt_tokens: tokens of all prompts, including image tokens.
        shared_tokens: the same with the common prefix of a sample's prompts counted once.
        new_tokens: decoded tokens, the maximum or the average that the study states.
        operations: floating-point operations, with shared prefixes computed once.
        plain_operations: floating-point operations without sharing.
        weight_bytes: bytes of weights read in decoding.
        cache_bytes: bytes of keys and values read in decoding.
        memory: bytes of the weights and of the keys and values of one decoding batch.
        seconds: duration at the stated rates; NaN without rates.
        stand_ins: what was not available, and its stand-in; empty = everything was counted.
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
    """The cost of a study.

    Attributes:
        rows: rows by model, then judges.
        rates: the stated speed of the machine.
        at_most: maximum number of samples counted per benchmark.
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
        numbers = (
            _count(row.samples),
            _count(row.prompts),
            f"{_count(row.prompt_tokens)} ({_count(row.shared_tokens)})",
            _count(row.new_tokens),
            f"{_count(row.operations)} ({_count(row.plain_operations)})",
            f"{_bytes(row.weight_bytes)}, {_bytes(row.cache_bytes)}",
            _bytes(row.memory),
            *([_duration(row.seconds)] if self.rates else []),
        )
        kinds = ", ".join(part.partition(":")[0] for part in row.stand_ins.split("; "))
        name = f"{row.model}{stages}, {row.benchmark}" if row.benchmark else row.model
        return name, *(_marked(text) if kinds else text for text in numbers), kinds or "–"

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
        if any(row.stand_ins for row in self.rows):
            notes.append("≈ is made with a stand-in, for what the last column names:")
        details = dict.fromkeys(part for row in self.rows for part in row.stand_ins.split("; ") if part)
        return (*notes, *(f"stand-in for {part}" for part in details))


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


def _marked(text: str) -> str:
    return text if text.startswith("?") else f"≈{text}"


def _count(value: float) -> str:
    """Format a number with three digits and an SI prefix."""
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
