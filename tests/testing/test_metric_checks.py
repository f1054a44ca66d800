import math

import pytest
import torch

from vlmrobust import Metric, PairedMetric
from vlmrobust.metrics import default_metrics
from vlmrobust.testing import check_metric


class AnswerFlip(PairedMetric):
    def per_pair(self, base, responses):
        return base.choice != responses.choice


class Spread(Metric):
    """An aggregate that is no mean."""

    def per_sample(self, responses):
        return responses.token_entropy

    def aggregate(self, values, responses, weights=None):
        weights = torch.ones_like(values) if weights is None else weights.to(values)
        mean = (values * weights).sum() / weights.sum()
        return float(((values - mean) ** 2 * weights).sum() / weights.sum())


@pytest.mark.parametrize("metric", [*default_metrics(), AnswerFlip(), Spread()], ids=repr)
def test_sound_metrics_pass(metric):
    check_metric(metric)


class Centred(Metric):
    def per_sample(self, responses):
        return responses.token_entropy - responses.token_entropy.nanmean()


class Rank(Metric):
    def per_sample(self, responses):
        return torch.arange(len(responses)).float()


class Padded(Metric):
    """Counts the padding as options."""

    def per_sample(self, responses):
        return torch.full((len(responses),), float(responses.option_logprobs.shape[1]))


class Infinite(Metric):
    def per_sample(self, responses):
        return torch.full((len(responses),), math.inf)


class Nothing(Metric):
    def per_sample(self, responses):
        return torch.full((len(responses),), math.nan)


class Short(Metric):
    def per_sample(self, responses):
        return torch.zeros(3)


class NeedsOne(Metric):
    def per_sample(self, responses):
        return torch.zeros(len(responses)) + responses.draw[0] * 0


class Writes(Metric):
    def per_sample(self, responses):
        responses.token_entropy.clamp_(max=0.1)
        return responses.token_entropy


class Forgets(Metric):
    calls: list[int] = []  # noqa: RUF012 - the state that a metric must not have

    def per_sample(self, responses):
        self.calls.append(1)
        return torch.full((len(responses),), float(len(self.calls)))


class IgnoresWeights(Spread):
    def aggregate(self, values, responses, weights=None):
        return float(values.mean())


class NormalisesWeights(Spread):
    def aggregate(self, values, responses, weights=None):
        return float(values.sum()) if weights is None else float((values * weights).sum() / weights.sum())


class Breaks(Spread):
    def aggregate(self, values, responses, weights=None):
        raise ZeroDivisionError("no bins")


class UnscoredAsZero(Metric):
    """Goes around the base class, which would put NaN there."""

    def _checked(self, values, hook, failed):
        return torch.zeros(len(failed))

    def per_sample(self, responses):
        return torch.zeros(len(responses))


@pytest.mark.parametrize(
    ("metric", "sentence"),
    [
        (
            Centred(),
            "metric 'centred': expected the same values whatever responses are scored together, got others in two",
        ),
        (Rank(), "metric 'rank': expected each response to keep its value in another order"),
        (Padded(), "metric 'padded': expected the same values whatever responses are scored together"),
        (Infinite(), "metric 'infinite': expected finite values, or NaN where it is undefined, got an infinity"),
        (Nothing(), "metric 'nothing': expected a value for one response at least, got NaN for all"),
        (Short(), "metric 'short': expected a value per response, .* got ValueError: .* got shape"),
        (NeedsOne(), "metric 'needs_one': expected a value per response, .* got IndexError"),
        (Writes(), "metric 'writes': expected the responses to stay as they are, got them changed"),
        (Forgets(), "metric 'forgets': expected each response to keep its value in another order"),
        (IgnoresWeights(), "'aggregate' with a weight of k to count a response k times"),
        (NormalisesWeights(), "'aggregate' to be the same without weights and with weights of 1"),
        (Breaks(), "metric 'breaks': expected a number from 'aggregate', got ZeroDivisionError: no bins"),
        (UnscoredAsZero(), "expected NaN for responses of status 'error' or 'not_applicable'"),
        (Spread(name=" padded "), "expected a column name, got ' padded '"),
        (len, "expected an instance of a Metric or PairedMetric subclass, got builtin_function_or_method"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Metric) else None,
)
def test_broken_metrics_are_told_what_is_wrong(metric, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_metric(metric)
