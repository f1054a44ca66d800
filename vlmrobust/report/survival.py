"""Measure which answers survive conditions: the robustness curve, and the AUROC of predictors under base."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .. import functional
from ..functional import poisson_binomial_tail
from ..functional.intervals import FEWEST_GROUPS, Outcome, mean_intervals
from ..functional.resampling import group_codes, resample_counts
from ..metrics import Accuracy, ThoughtLength
from ..seeding import generator
from ..types import Responses
from .metric_columns import base_rows, draws_by_sample
from .pairing import Floats, Integers, SampleIndex, Unit, units_of
from .robustness import chosen_conditions, condition_notes
from .summary import too_few

__all__ = ["CurveRow", "SurvivalRow", "robustness_curve", "survival"]


# Fewer than elsewhere: rank statistics sort in each replicate.
_REPLICATES = 1000
_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class SurvivalRow:
    """One condition × predictor × population.

    Attributes:
        condition: its name.
        predictor: of the base response: `correct_probability` (ranked by its log-odds), `negative_letter_entropy`, or
            `thought_length` in words, the trivial baseline.
        population: `all` samples, or `survival`: only those that are right under base.
        auroc: how well the predictor ranks samples that are right under the condition above the others; 0.5 = chance.
        low, high: 95 % interval.
        n: number of pairs of responses, `positives` + `negatives`.
        positives: number of pairs that are right under the condition.
        negatives: number of the others.
        carrier: how the condition was carried; None without a scored response.
        note: why something is undefined.
        base_auroc: the same for the next draw of base in place of the condition: an `auroc` no larger than this says
            that samples are hard, not that they are brittle. NaN with one draw, and if all draws are equal.
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
    """Return the rows of `Report.survival`; the seed keys the bootstrap for responses that share a group."""
    samples = SampleIndex.of(responses)
    keys = list(zip(responses.sample_id, responses.draw.tolist(), strict=True))
    base = base_rows(responses)
    predictors = _predictors(responses)
    right = Accuracy()(responses)
    next_draw = _next_draws(base, right)
    rows = []
    for unit in units_of(responses):
        if unit.condition == "base":
            continue
        after = np.array([row for row in unit.rows.tolist() if keys[row] in base], dtype=np.int64)
        before = np.array([base[keys[row]] for row in after.tolist()], dtype=np.int64)
        compared = _PairedResponses(right, samples.group[samples.code], unit, before, after, seed, next_draw)
        rows += compared.rows(predictors, [responses.readout[row] for row in before.tolist()])
    return rows


def _next_draws(base: Mapping[tuple[str, int], int], right: Tensor) -> dict[int, int]:
    """Map each base response to its sample's next draw; empty with one draw."""
    scored = {key: row for key, row in base.items() if not right[row].isnan()}
    return {
        row: rows[(place + 1) % len(rows)]
        for rows in draws_by_sample(scored)
        if len(rows) > 1
        for place, row in enumerate(rows)
    }


def _predictors(responses: Responses) -> dict[str, Tensor]:
    """Return the predictors for all responses, NaN where undefined."""
    letters, target = responses.option_logprobs.double(), responses.target
    read = responses.has_status("answered", "abstained")
    return {
        # Log-odds rank like probabilities, which saturate at 1 in float32 and tie.
        "correct_probability": torch.where(read, functional.correct_log_odds(letters, target), math.nan),
        "negative_letter_entropy": torch.where(read, -functional.letter_entropy(letters), math.nan),
        "thought_length": ThoughtLength()(responses).double(),
    }


@dataclass(frozen=True, slots=True, eq=False)
class _PairedResponses:
    """A unit's responses (`after`), paired with the base responses (`before`) to the same samples and draws.

    `right` is the accuracy, and `group` the number of the group, of each of all responses; `next_draw` maps each base
    response to its sample's next draw, where the first follows the last.
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
            # Use the same pairs for all predictors, so that the baseline is comparable.
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
        base_area, why = self._base_area(scores, self.before[defined.numpy()])
        if math.isnan(low):
            why = "; ".join(filter(None, ("too few samples, or groups of them, for an interval", why)))
        return replace(row, auroc=area, low=low, high=high, base_auroc=base_area, note=why)

    def _base_area(self, scores: Tensor, before: Integers) -> tuple[float, str]:
        """Return the AUROC of the scores for the next draw under base, and a note if it is unknown or partial."""
        next_draw = [self.next_draw.get(row) for row in before.tolist()]
        known = [place for place, row in enumerate(next_draw) if row is not None]
        right = self.right[[next_draw[place] for place in known]].double()
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
        """Return the closed-form interval if pairs are independent, else Student's t interval of the log-odds.

        The standard error is from resampled groups. A percentile interval would have lower coverage with few groups.
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
                return _logit_interval(area, error, count)
        # For separated classes, count one observation per group.
        return functional.auroc_interval(area, row.positives * share, row.negatives * share, _LEVEL)


def _logit_interval(area: float, error: float, groups: int) -> tuple[float, float]:
    from scipy.special import expit, logit, stdtrit

    reach = float(stdtrit(groups - 1, (1 + _LEVEL) / 2)) * error / (area * (1 - area))
    low, high = (float(expit(logit(area) + side * reach)) for side in (-1, 1))
    return low, high


def _missing_class(row: SurvivalRow) -> str:
    if not row.n:
        return "defined for no pair"
    return f"all {row.n} are {'right' if row.positives else 'wrong'} under {row.condition}"


@dataclass(frozen=True, slots=True)
class CurveRow:
    """The share of samples that are right under at least k of K conditions.

    Attributes:
        k: the minimum number of conditions, 0 to K; for 0, the share is 1 by definition.
        value: the share, draws averaged within a sample.
        low, high: its 95 % interval, for this k alone.
        chance: the share for guessing: each answer drawn at random from the options shown, anew per condition.
        independent: the share for the same accuracies if correctness were independent between conditions.
        n: number of samples that are scored under all K.
        conditions: K.
        note: what is left out, and why there is no interval.
    """

    k: int
    value: float
    low: float
    high: float
    chance: float
    independent: float
    n: int
    conditions: int
    note: str


def robustness_curve(responses: Responses, conditions: Sequence[str] | None, seed: int) -> list[CurveRow]:
    """Return the rows of `Report.robustness_curve`."""
    scores = Accuracy()(responses).double().numpy()
    names = chosen_conditions(responses, conditions, scores)
    if not names:
        raise ValueError("expected conditions that were scored, got none")
    samples = SampleIndex.of(responses)
    rows = _complete_rows(responses, names, scores)
    if not len(rows):
        raise ValueError(f"expected samples that are scored under all of {', '.join(names)}, got none")
    right = torch.from_numpy(scores)[rows]
    known_samples = {responses.sample_id[row] for row, name in enumerate(responses.condition) if name in names}
    first: Integers = rows[:, 0].numpy()
    counted = len(np.unique(samples.code[first]))

    def averaged(values: Tensor) -> Floats:
        """Return `(S, …)`, each sample's mean over its draws, NaN for samples left out."""
        return np.stack([samples.row_means(column, first) for column in values.numpy().T], axis=1)

    chance = averaged(poisson_binomial_tail(_guess_chances(responses)[rows]))
    independent = poisson_binomial_tail(torch.from_numpy(np.nanmean(averaged(right), axis=0)))
    at_least = right.sum(1, keepdim=True) >= torch.arange(len(names) + 1)
    shares = averaged(at_least.double())
    outcome: Outcome = "share" if len(first) > counted else "rate"
    found = mean_intervals(
        shares[:, 1:].T,
        samples.group,
        outcomes=[outcome] * len(names),
        rng=generator(seed, "bootstrap", "robustness curve"),
    )
    groups = samples.group_count(~np.isnan(shares[:, 0]))
    few = too_few(groups, is_of_samples=groups == counted)
    note = "; ".join(filter(None, [*condition_notes(responses, names, len(known_samples) - counted), few]))
    limits = [(1.0, 1.0, 1.0), *((one.value, one.low, one.high) for one in found)]
    return [
        CurveRow(
            k=k,
            value=value,
            low=low if low < high or k == 0 else math.nan,
            high=high if low < high or k == 0 else math.nan,
            chance=float(np.nanmean(chance[:, k])),
            independent=float(independent[k]),
            n=counted,
            conditions=len(names),
            note=note,
        )
        for k, (value, low, high) in enumerate(limits)
    ]


def _complete_rows(responses: Responses, names: Sequence[str], scores: Floats) -> Tensor:
    """Return `(M, K)`, the positions of the responses by sample and draw, where all conditions have a score."""
    places = {name: place for place, name in enumerate(names)}
    found: dict[tuple[str, int], dict[int, int]] = {}
    for row, (sample, draw) in enumerate(zip(responses.sample_id, responses.draw.tolist(), strict=True)):
        place = places.get(responses.condition[row])
        if place is not None and not math.isnan(scores[row]):
            found.setdefault((sample, draw), {})[place] = row
    whole = [[rows[place] for place in range(len(names))] for rows in found.values() if len(rows) == len(names)]
    return torch.tensor(whole, dtype=torch.long).reshape(len(whole), len(names))


def _guess_chances(responses: Responses) -> Tensor:
    """Return `(N,)` float64, the chance that a guess among the options shown is right."""
    chances = [
        (target in order) / len(order) for target, order in zip(responses.target.tolist(), responses.order, strict=True)
    ]
    return torch.tensor(chances, dtype=torch.float64)
