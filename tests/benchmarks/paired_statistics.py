"""`Report.summary` of a million responses: seconds and peak memory; and against a bootstrap column by column.

Samples come in groups (questions about one image), so that no interval has a closed form and every paired difference
and every mean is bootstrapped. Values are simulated; memory is the process's peak resident size beyond what the report
itself took. The plain bootstrap sums every column by group once as well, but draws anew for each; both take their turn
in this process, in seconds of CPU. Not a test: timings depend on the machine.

    OMP_NUM_THREADS=1 python tests/benchmarks/paired_statistics.py --samples 125000 --group-size 5
"""

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vlmrobust import Prompt, Report, Response, Sample, paper_conditions
from vlmrobust.functional import paired_bootstraps
from vlmrobust.metrics import PairedMetric, default_metrics
from vlmrobust.report import Column
from vlmrobust.types import Responses

CONDITIONS = [perturbation.condition for perturbation in paper_conditions()]
NUMBERS = {"token_entropy", "thought_length"}

Floats = NDArray[np.float64]


def simulated(samples: int, group_size: int) -> Report:
    """Return a report with the default metrics' columns, one in ten values undefined where a metric may be."""
    n = samples * len(CONDITIONS)
    rng = np.random.default_rng(0)
    sample = Sample(
        id="0", images=(b"not decoded",), question="Which?", options=("red", "blue", "green", "grey"), answer=0
    )
    prompt = Prompt.of(sample).replace(condition="base")
    response = Response(sample_id="0", condition="base", status="answered", answer=0, readout="own_thought")
    responses = replace(
        Responses.of([prompt], [response]).select([0] * n),
        sample_id=tuple(f"sample {number}" for number in range(samples) for _ in CONDITIONS),
        condition=tuple(CONDITIONS) * samples,
        group=tuple(f"image {number // group_size}" for number in range(samples) for _ in CONDITIONS),
    )
    columns = []
    for metric in default_metrics():
        scores = rng.random(n)
        if not (metric.reads_letters or metric.column in NUMBERS):
            scores = (scores < 0.7).astype(np.float64)
        if "consistency" in metric.column:
            scores[rng.random(n) < 0.1] = np.nan
        if isinstance(metric, PairedMetric):
            scores[:: len(CONDITIONS)] = np.nan  # under base there is nothing to pair base with
        columns.append(
            Column(
                name=metric.column,
                scores=scores,
                higher_is_better=metric.higher_is_better,
                is_paired=isinstance(metric, PairedMetric),
                reads_letters=metric.reads_letters,
                is_mean=metric.is_mean,
                metric=metric,
                outcome="rate" if metric.is_rate else "mean",
            )
        )
    return Report(responses, columns)


def column_by_column(pairs: list[tuple[Floats, Floats]], groups: NDArray[np.int64], replicates: int) -> list[Floats]:
    """Return the interval of each difference, from resamples of its own and without sharing anything."""
    found = []
    for number, (base, condition) in enumerate(pairs):
        rng = np.random.default_rng(number)
        sums = np.bincount(groups, weights=condition - base)
        sizes = np.bincount(groups)
        means = []
        for _ in range(replicates):
            drawn = rng.integers(len(sums), size=len(sums))
            means.append(sums[drawn].sum() / sizes[drawn].sum())
        found.append(np.quantile(means, [0.025, 0.975]))
    return found


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return how long a call keeps one core busy, whatever else the machine does."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=125_000, help="of the summary, each under eight conditions")
    parser.add_argument("--group-size", type=int, default=5, help="samples per group; 1 = no groups")
    parser.add_argument("--columns", type=int, default=100, help="of the bootstraps compared")
    parser.add_argument("--pairs", type=int, default=5_000, help="of the bootstraps compared")
    parser.add_argument("--replicates", type=int, default=10_000, help="of the bootstraps compared")
    arguments = parser.parse_args()

    report = simulated(arguments.samples, arguments.group_size)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    busy = cpu_seconds(lambda: report.summary)
    taken = time.perf_counter() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    compared = int(report.summary["difference"].notna().sum())
    print(
        f"summary: {len(report):,} responses, {len(report.metrics)} metrics, {compared} paired differences, 10,000 "
        f"replicates, groups of {arguments.group_size}: {taken:.1f} s ({busy:.1f} s of CPU), {peak:.0f} MiB beyond the "
        "report",
        flush=True,
    )

    generator = np.random.default_rng(0)
    pairs = [tuple(generator.random((2, arguments.pairs))) for _ in range(arguments.columns)]
    groups = np.arange(arguments.pairs) // arguments.group_size
    settings = {"groups": groups, "replicates": arguments.replicates}
    for turn in range(2):
        shared = cpu_seconds(lambda: paired_bootstraps(pairs, rng=np.random.default_rng(0), **settings))
        alone = cpu_seconds(lambda: column_by_column(pairs, **settings))
        print(
            f"turn {turn}: {arguments.columns} columns of {arguments.pairs:,} pairs, {arguments.replicates:,} "
            f"replicates: column by column {alone:.1f} s of CPU, shared {shared:.2f} s: {alone / shared:.0f}x",
            flush=True,
        )


if __name__ == "__main__":
    main()
