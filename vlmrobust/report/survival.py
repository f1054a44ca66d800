"""Does what was seen under base tell which answers hold: AUROC of confidence and of thought length, per condition."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .. import functional
from ..functional.intervals import FEWEST_GROUPS
from ..functional.resampling import group_codes, resample_counts
from ..keyed import generator
from ..metrics import Accuracy, ThoughtLength
from ..types import Responses
from .pairing import Integers, SampleIndex, Unit, units_of

__all__ = ["SurvivalRow", "survival"]

# Rank statistics sort for each replicate.
_REPLICATES = 1000
_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class SurvivalRow:
    """One condition × predictor × population.

    Attributes:
        condition: its name.
        predictor: what is read off the base response: `correct_probability` (ranked by its log-odds),
            `negative_letter_entropy`, or `thought_length` in words, the trivial baseline.
        population: `all` samples, or `survival`: only those that are right under base.
        auroc: how well it ranks samples that are right under the condition above those that are not; 0.5 = not at all.
        low, high: 95 % interval.
        n: number of pairs of responses, `positives` + `negatives`.
        positives: those that are right under the condition.
        negatives: the others.
        carrier: how the condition was carried; None without a scored response.
        note: why something is undefined.
        base_auroc: how well it ranks samples that are right when base is asked again, above those that are not: what is
            no larger than this says that a sample is hard, not that it is brittle. From each sample's next draw; NaN
            with one draw, and where all draws are alike.
    """

    condition: str
    predictor: str
    population: str
    auroc: float
    low: float
    high: float
    n: int
    positives: int
    negatives: int
    carrier: str | None
    note: str
    base_auroc: float


def survival(responses: Responses, seed: int) -> list[SurvivalRow]:
    """Return a row for every condition but base, every predictor, and both populations.

    Args:
        responses: all of them.
        seed: keys the bootstrap, which is for responses that share a group.
    """
    samples = SampleIndex.of(responses)
    keys = list(zip(responses.sample_id, responses.draw.tolist(), strict=True))
    base = {key: row for row, key in enumerate(keys) if responses.condition[row] == "base"}
    predictors = _predictors(responses)
    right = Accuracy()(responses)
    following = _next_draws(base, right)
    rows = []
    for unit in units_of(responses):
        if unit.condition == "base":
            continue
        after = np.array([row for row in unit.rows.tolist() if keys[row] in base], dtype=np.int64)
        before = np.array([base[keys[row]] for row in after.tolist()], dtype=np.int64)
        compared = _Compared(right, samples.group[samples.code], unit, before, after, seed, following)
        rows += compared.rows(predictors, [responses.readout[row] for row in before.tolist()])
    return rows


def _next_draws(base: Mapping[tuple[str, int], int], right: Tensor) -> dict[int, int]:
    """Return each base response's position with that of its sample's next draw; none with one draw."""
    of_sample: dict[str, list[int]] = {}
    for (sample, _), row in sorted(base.items()):
        if not right[row].isnan():
            of_sample.setdefault(sample, []).append(row)
    return {
        row: rows[(place + 1) % len(rows)]
        for rows in of_sample.values()
        if len(rows) > 1
        for place, row in enumerate(rows)
    }


def _predictors(responses: Responses) -> dict[str, Tensor]:
    """Return what may tell which answers hold, for all responses; NaN where it is not defined."""
    letters, target = responses.option_logprobs.double(), responses.target
    read = responses.has_status("answered", "abstained")
    return {
        # Log-odds rank like probabilities, which saturate at 1 in float32 and tie.
        "correct_probability": torch.where(read, functional.correct_log_odds(letters, target), math.nan),
        "negative_letter_entropy": torch.where(read, -functional.letter_entropy(letters), math.nan),
        "thought_length": ThoughtLength()(responses).double(),
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Compared:
    """The pairs of one unit's responses with those to the same samples and draws under base.

    Attributes:
        right: `(N,)`, accuracy of all responses.
        group: `(N,)`, the number of each response's group.
        unit: the condition.
        before: positions of the base responses.
        after: positions of the unit's responses.
        seed: keys the bootstrap.
        next_draw: by position, that of the same sample's next draw under base, the first following the last.
    """

    right: Tensor
    group: Integers
    unit: Unit
    before: Integers
    after: Integers
    seed: int
    next_draw: Mapping[int, int]

    def rows(self, predictors: Mapping[str, Tensor], readouts: list[str | None]) -> list[SurvivalRow]:
        scores = {name: values[self.before] for name, values in predictors.items()}
        right_before, right_after = self.right[self.before], self.right[self.after]
        with_letters = ~scores["correct_probability"].isnan()
        if with_letters.any():
            # All predictors on the same pairs: otherwise the baseline is measured on other samples.
            scores = {name: torch.where(with_letters, values, math.nan) for name, values in scores.items()}
        places = sorted({str(place) for place, read in zip(readouts, with_letters.tolist(), strict=True) if read})
        mixed = f"base letters were read at different places ({' or '.join(places)})" if len(places) > 1 else ""
        rows = []
        for name, values in scores.items():
            note = "" if name == "thought_length" else mixed
            for population, chosen in (("all", ~right_before.isnan()), ("survival", right_before == 1)):
                defined = torch.nonzero(chosen & ~values.isnan() & ~right_after.isnan()).flatten()
                rows.append(self._row(name, population, values[defined], defined, note))
        return rows

    def _row(self, predictor: str, population: str, scores: Tensor, defined: Tensor, note: str) -> SurvivalRow:
        chosen = self.after[defined.numpy()]
        positive = self.right[chosen].double()
        positives = int(positive.sum())
        row = SurvivalRow(
            condition=self.unit.condition,
            predictor=predictor,
            population=population,
            auroc=math.nan,
            low=math.nan,
            high=math.nan,
            n=len(positive),
            positives=positives,
            negatives=len(positive) - positives,
            carrier=self.unit.carrier,
            note=note,
            base_auroc=math.nan,
        )
        if note or not 0 < positives < len(positive):
            return replace(row, note=note or _missing_class(row))
        area = float(functional.auroc(scores, positive))
        low, high = self._interval(area, scores, positive, self.group[chosen], row)
        again, why = self._again(scores, self.before[defined.numpy()])
        if math.isnan(low):
            why = "; ".join(filter(None, ("too few samples, or groups of them, for an interval", why)))
        return replace(row, auroc=area, low=low, high=high, base_auroc=again, note=why)

    def _again(self, scores: Tensor, before: Integers) -> tuple[float, str]:
        """Return how well the scores rank the same samples by their next draw under base, and why that is unknown."""
        following = [self.next_draw.get(row) for row in before.tolist()]
        known = [place for place, row in enumerate(following) if row is not None]
        right = self.right[[following[place] for place in known]].double()
        if not known:
            return math.nan, "base_auroc needs a second draw of base"
        if bool((right == self.right[before[known]]).all()):
            return math.nan, "base_auroc: all draws of base are alike"
        left_out = len(before) - len(known)
        note = f"base_auroc is of the {len(known)} responses whose sample has a second draw of base" if left_out else ""
        return float(functional.auroc(scores[known], right)), note

    def _interval(
        self, area: float, scores: Tensor, positive: Tensor, groups: Integers, row: SurvivalRow
    ) -> tuple[float, float]:
        """Return the closed form's interval for pairs that are independent, else Student's on the scale of log-odds.

        The standard error is that of resampled groups. Percentiles of the resampled areas cover less with few groups.
        """
        codes = group_codes(groups, len(groups))
        count = int(codes.max()) + 1
        share = count / len(codes)
        if count < FEWEST_GROUPS:
            return math.nan, math.nan
        if share < 1 and 0 < area < 1:
            rng = generator(self.seed, "bootstrap", row.predictor, row.population, row.condition)
            replicates = [
                functional.auroc(scores, positive, torch.from_numpy(counts[:, codes])).numpy()
                for counts in resample_counts(count, _REPLICATES, rng)
            ]
            error = float(np.nanstd(np.concatenate(replicates))) * math.sqrt(count / (count - 1))
            if error > 0:
                return _by_log_odds(area, error, count)
        # Separated classes: one observation per group.
        return functional.auroc_interval(area, row.positives * share, row.negatives * share, _LEVEL)


def _by_log_odds(area: float, error: float, groups: int) -> tuple[float, float]:
    from scipy.special import expit, logit, stdtrit

    reach = float(stdtrit(groups - 1, (1 + _LEVEL) / 2)) * error / (area * (1 - area))
    low, high = (float(expit(logit(area) + side * reach)) for side in (-1, 1))
    return low, high


def _missing_class(row: SurvivalRow) -> str:
    if not row.n:
        return "defined for no pair"
    return f"all {row.n} are {'right' if row.positives else 'wrong'} under {row.condition}"
