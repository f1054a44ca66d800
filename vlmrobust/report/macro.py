"""The average over categories that all weigh the same, from each category's own summary."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..functional.statistics import average_interval
from .summary import SummaryRow

__all__ = ["Category", "MacroRow", "macro_rows"]


@dataclass(frozen=True, slots=True)
class MacroRow:
    """One condition × metric, averaged over categories that all weigh the same.

    Attributes:
        condition, metric: names.
        value, base_value, difference: the plain averages of the categories' own.
        low, high: 95 % interval of the difference, from the categories' own by `functional.average_interval`.
        n: number of samples in the categories that are averaged.
        value_low, value_high: 95 % interval of the value.
        categories: how many are averaged.
        weights: what is weighted, in words: each category's share, and its n.
        micro_value, micro_difference: the same over all samples, each of which weighs the same.
        carrier: how the condition was carried.
        note: which categories and samples are left out, and what the interval allows for.
        paired_value, n_value: as in the summary: the value on the samples of the difference, and how many samples
            `value` is on.
    """

    condition: str
    metric: str
    value: float
    base_value: float
    difference: float
    low: float
    high: float
    n: int
    value_low: float
    value_high: float
    categories: int
    weights: str
    micro_value: float
    micro_difference: float
    carrier: str | None
    note: str
    paired_value: float
    n_value: int


@dataclass(frozen=True, slots=True, eq=False)
class Category:
    """The samples that are averaged first.

    Attributes:
        name: their value in the metadata.
        groups: the labels of their groups.
        rows: their summary.
    """

    name: str
    groups: frozenset[str]
    rows: Sequence[SummaryRow]


Key = tuple[str, str | None, str]


def macro_rows(categories: Sequence[Category], overall: Sequence[SummaryRow], left_out: str) -> list[MacroRow]:
    """Return a row for each one of `overall`, the summary of all samples.

    Args:
        categories: what is averaged; categories that share a group are taken to depend on each other.
        overall: gives the rows' order, and what weighing each sample the same would say.
        left_out: what there is to say of samples without a category.
    """
    block_of = _blocks(categories)
    tables: list[tuple[Category, Mapping[Key, SummaryRow]]] = [
        (category, {_key(row): row for row in category.rows}) for category in categories
    ]
    found = []
    for micro in overall:
        cells = [(category, rows[_key(micro)]) for category, rows in tables if _key(micro) in rows]
        compared = [(category, row) for category, row in cells if not math.isnan(row.difference)]
        averaged = compared or [(category, row) for category, row in cells if not math.isnan(row.value)]
        names = [category.name for category, _ in averaged]
        missing = [category.name for category in categories if category.name not in names]
        notes = [left_out, f"undefined in {', '.join(missing)}, left out" if missing else ""]
        found.append(_averaged(micro, averaged, [block_of[name] for name in names], notes))
    return found


def _averaged(
    micro: SummaryRow, averaged: Sequence[tuple[Category, SummaryRow]], blocks: Sequence[int], notes: list[str]
) -> MacroRow:
    rows = [row for _, row in averaged]
    value_low, value_high = average_interval(
        [row.value for row in rows], [row.value_low for row in rows], [row.value_high for row in rows], blocks
    )
    low, high = average_interval(
        [row.difference for row in rows], [row.low for row in rows], [row.high for row in rows], blocks
    )
    if len(set(blocks)) < len(blocks):
        notes.append("categories share groups of samples: the interval allows for any dependence between them")
    if alone := [
        category.name
        for category, row in averaged
        if math.isnan(row.value_low) or (math.isnan(row.low) and not math.isnan(row.difference))
    ]:
        notes.append(f"no interval in {', '.join(alone)}")
    sizes = ", ".join(f"{category.name} (n = {row.n})" for category, row in averaged)
    return MacroRow(
        condition=micro.condition,
        metric=micro.metric,
        value=_mean([row.value for row in rows]),
        base_value=_mean([row.base_value for row in rows]),
        difference=_mean([row.difference for row in rows]),
        low=low,
        high=high,
        n=sum(row.n for row in rows),
        value_low=value_low,
        value_high=value_high,
        categories=len(rows),
        weights=f"1/{len(rows)} each: {sizes}" if rows else "",
        micro_value=micro.value,
        micro_difference=micro.difference,
        carrier=micro.carrier,
        note="; ".join(filter(None, notes)),
        paired_value=_mean([row.paired_value for row in rows]),
        n_value=sum(row.n_value for row in rows),
    )


def _key(row: SummaryRow) -> Key:
    return row.condition, row.carrier, row.metric


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _blocks(categories: Sequence[Category]) -> dict[str, int]:
    """Return for each category the number of its block: categories are in one if groups lead from one to the other."""
    blocks: list[tuple[set[str], set[str]]] = []
    for category in categories:
        names, groups = {category.name}, set(category.groups)
        apart = []
        for block in blocks:
            if block[1] & groups:
                names |= block[0]
                groups |= block[1]
            else:
                apart.append(block)
        blocks = [*apart, (names, groups)]
    return {name: number for number, (names, _) in enumerate(blocks) for name in names}
