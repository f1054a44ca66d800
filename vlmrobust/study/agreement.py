"""Compute the agreement of several judges on a run, with confidence intervals over its samples."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from ..functional import fleiss_kappa, mean_intervals, strict_agreement
from ..functional.bootstrap import percentile_limits
from ..functional.resampling import columns_by_group, replicate_means
from ..report import Report
from ..seeding import generator

__all__ = ["agreement"]

_REPLICATES = 10_000
_LEVEL = 0.95


def agreement(judged: Sequence[Report], seed: int) -> dict[str, float | int | str]:
    """Return strict agreement and Fleiss' κ of judges on one run's responses, all conditions together.

    Args:
        judged: the run's report by each judge, at least two.
        seed: seed of the bootstrap over groups of samples.

    Returns:
        The numbers of an `AgreementRow`.

    Source:
        Zhao et al., arXiv:2602.12506, Table 3: strict three-way agreement and Fleiss' κ of three judges.
    """
    ratings = np.stack([report.frame["consistency"].to_numpy(dtype=np.float64) for report in judged], axis=1)
    complete = ~np.isnan(ratings).any(axis=1)
    found = torch.from_numpy(ratings)
    numbers: dict[str, float | int | str] = {
        "n": int(complete.sum()),
        "strict": strict_agreement(found),
        "kappa": fleiss_kappa(found),
    }
    strict_limits = kappa_limits = (math.nan, math.nan)
    note = ""
    if complete.any():
        groups = [group for group, kept in zip(judged[0].responses.group, complete.tolist(), strict=True) if kept]
        strict_limits, kappa_limits = _limits(ratings[complete], groups, seed)
    if math.isnan(float(numbers["kappa"])):
        note = _reason_undefined(numbers["n"])
    elif math.isnan(kappa_limits[0]):
        note = "κ has no interval: no two verdicts differ"
    limits = ("strict_low", "strict_high", "low", "high")
    return numbers | dict(zip(limits, (*strict_limits, *kappa_limits), strict=True)) | {"note": note}


def _limits(
    ratings: "np.ndarray[tuple[int, int], np.dtype[np.float64]]", groups: Sequence[str], seed: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the intervals of strict agreement and of κ, a function of means over responses.

    The interval of κ is NaN if all replicates are equal: a bootstrap cannot estimate unobserved disagreement.
    """
    raters = ratings.shape[1]
    ones = ratings.sum(axis=1)
    others = raters - ones
    pairs = (ones * (ones - 1) + others * (others - 1)) / (raters * (raters - 1))
    same = ((ones == 0) | (others == 0)).astype(np.float64)
    key = generator(seed, "bootstrap", "strict agreement")
    [strict] = mean_intervals([same], groups, outcomes=["rate"], rng=key, level=_LEVEL)
    rng = generator(seed, "bootstrap", "agreement")
    columns = columns_by_group([pairs, ones / raters], groups, rng)
    observed, share = replicate_means(columns, _REPLICATES, rng)
    chance = share**2 + (1 - share) ** 2
    kappa = np.divide(observed - chance, 1 - chance, out=np.full(len(chance), math.nan), where=chance < 1)
    low, high = percentile_limits(kappa, columns[0].groups, _LEVEL)
    return (strict.low, strict.high), (low, high) if low < high else (math.nan, math.nan)


def _reason_undefined(n: object) -> str:
    return (
        f"all {n} verdicts are the same: chance alone would agree" if n else "no response has a verdict of all judges"
    )
