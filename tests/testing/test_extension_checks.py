"""Metrics and perturbations that keep what is promised pass, and each that breaks one thing is told which."""

import math
import random
import re
from itertools import count
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from vlmrobust import Metric, PairedMetric, Perturbation, paper_conditions
from vlmrobust.metrics import default_metrics
from vlmrobust.perturbations import AbstainOption, NotApplicable, WrongCaption, WrongThink
from vlmrobust.testing import check_metric, check_perturbation


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
def test_broken_metrics_get_an_explanation(metric, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_metric(metric)


def spoken(prompt, option, rng):
    return f"Clearly {prompt.sample.options[option]}, I say {rng.integers(9)} times."


GOOD = (
    *paper_conditions(),
    AbstainOption(),
    WrongThink() + AbstainOption(),
    WrongThink(source=spoken, hedge="or not"),
    WrongCaption(source=spoken),
)


class Shouted(Perturbation):
    def perturb(self, prompt, rng):
        return prompt.replace(question=prompt.question.upper())


class Shuffled(Perturbation):
    def perturb(self, prompt, rng):
        order = rng.permutation(len(prompt.options)).tolist()
        options = tuple(prompt.options[place] for place in order)
        return prompt.replace(options=options, order=tuple(prompt.order[place] for place in order))


class Reminded(Perturbation):
    needs_base: ClassVar[bool] = True

    def perturb(self, prompt, rng):
        return prompt.replace(context=f"You said {prompt.base.answer}.")


class ManyOptions(Perturbation):
    def perturb(self, prompt, rng):
        if len(prompt.options) < 5:
            raise NotApplicable("too few options")
        return prompt.replace(question=prompt.question + "?")


def named(perturbation: Perturbation) -> str:
    return re.sub(r" at 0x\w+", "", repr(perturbation))  # the same in every process


@pytest.mark.parametrize("perturbation", [*GOOD, Shouted(), Shuffled(), Reminded(), ManyOptions()], ids=named)
def test_sound_perturbations_pass(perturbation):
    check_perturbation(perturbation)


class UsesGlobalRandom(Perturbation):
    def perturb(self, prompt, rng):
        return prompt.replace(context=f"Number {random.random()}.")


class UsesGlobalNumpy(Perturbation):
    def perturb(self, prompt, rng):
        return prompt.replace(context=f"Number {np.random.random()}.")  # noqa: NPY002


class UsesGlobalTorch(Perturbation):
    def perturb(self, prompt, rng):
        import torch

        return prompt.replace(context=f"Number {torch.rand(1).item()}.")


class Counts(Perturbation):
    counter: ClassVar[Any] = count()

    def perturb(self, prompt, rng):
        return prompt.replace(context=f"Number {next(self.counter)}.")


class Remembers(Perturbation):
    seen: ClassVar[list[str]] = [""]

    def perturb(self, prompt, rng):
        if self.seen[-1] != prompt.sample.id:
            self.seen.append(prompt.sample.id)
        return prompt.replace(context=f"Before that: {self.seen[-2]}.")


class DrawsOn(Perturbation):
    def perturb(self, prompt, rng):
        for image in prompt.images:
            place = int(np.random.default_rng().integers(50))
            ImageDraw.Draw(image).point((place, place), fill=(1, 2, 3))
        return prompt


class OtherSample(Perturbation):
    def perturb(self, prompt, rng):
        return prompt.replace(sample=prompt.sample.replace(question="Something else?"))


class OtherDraw(Perturbation):
    def perturb(self, prompt, rng):
        return prompt.replace(draw=prompt.draw + 1)


class ByDraw(Perturbation):
    def perturb(self, prompt, rng):
        return prompt.replace(context=f"Draw {prompt.draw}.")


class AssertsAnother(Perturbation):
    def perturb(self, prompt, rng):
        other = next(i for i in range(len(prompt.options)) if i not in (prompt.distractor, prompt.sample.answer))
        return prompt.replace(context="It is that one.", asserted=other)


class AssertsSilently(Perturbation):
    def perturb(self, prompt, rng):
        return prompt.replace(asserted=prompt.distractor)


class LosesAdded(Perturbation):
    def perturb(self, prompt, rng):
        return prompt.replace(options=prompt.sample.options, order=tuple(range(len(prompt.sample.options))))


class NeverFits(Perturbation):
    def perturb(self, prompt, rng):
        raise NotApplicable("never")


class FailsInDirectMode(Perturbation):
    def perturb(self, prompt, rng):
        if prompt.style.mode == "direct":
            raise KeyError("think")
        return prompt


class HoldsAnything(Perturbation):
    thing: object = Image

    def perturb(self, prompt, rng):
        return prompt


class TwoOptionsOnly(Perturbation):
    def perturb(self, prompt, rng):
        return prompt.replace(question=prompt.question + str((0, 1)[len(prompt.options) - 2]))


class ReturnsText(Perturbation):
    def perturb(self, prompt, rng):
        return prompt.question


@pytest.mark.parametrize(
    ("perturbation", "sentence"),
    [
        (
            UsesGlobalRandom(),
            "the same prompt in every draw|whatever was asked before, got another; draw from the 'rng'",
        ),
        (
            UsesGlobalNumpy(),
            "the same prompt in every draw|whatever was asked before, got another; draw from the 'rng'",
        ),
        (
            UsesGlobalTorch(),
            "the same prompt in every draw|whatever was asked before, got another; draw from the 'rng'",
        ),
        (Counts(), "expected the same prompt in every draw"),
        (Remembers(), "whatever was asked before, got another; draw from the 'rng'"),
        (DrawsOn(), "expected the prompt and sample it was given to stay as they are, got them changed"),
        (OtherSample(), "sample 'colour': expected the sample itself to stay as it is"),
        (OtherDraw(), "expected draw 0 to be kept, got 1"),
        (ByDraw(), r"expected the same prompt in every draw \(they repeat one prompt\), got another"),
        (AssertsAnother(), r"expected 'asserted' to be the distractor \(\d\) or the answer \(\d\), .* got \d"),
        (AssertsSilently(), "expected a text that asserts option 1, got a prompt that shows nothing new"),
        (LosesAdded(), r"to keep the added option \(None in 'order'\)"),
        (NeverFits(), "expected it to fit one of the samples at least; pass samples that it fits"),
        (FailsInDirectMode(), r"or NotApplicable, under Style\(mode='direct'\), got KeyError: 'think'"),
        (HoldsAnything(), "field 'thing': expected a value that JSON can hold"),
        (TwoOptionsOnly(), "expected a prompt, or NotApplicable, got IndexError"),
        (
            ReturnsText(),
            "expected a prompt, or NotApplicable, got TypeError: .* expected a Prompt from 'perturb', got str",
        ),
        ("not a perturbation", "expected an instance of a Perturbation subclass, got str: 'not a pert"),
        (Shouted, r"expected an instance of a Perturbation subclass, got the class Shouted: write Shouted\(\)$"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Perturbation) else None,
)
def test_broken_perturbations_get_an_explanation(perturbation, sentence, make_sample):
    samples = None
    if isinstance(perturbation, AssertsAnother):
        samples = [make_sample()]
    with pytest.raises(AssertionError, match=sentence):
        check_perturbation(perturbation, samples)


def test_the_global_random_state_is_restored():
    states = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    check_perturbation(Shouted())
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states  # noqa: NPY002
