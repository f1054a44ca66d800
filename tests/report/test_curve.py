"""Test the share of samples right under at least k of K conditions against a direct count."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom

from vlmrobust import Prompt, Report, Response, Sample, expand
from vlmrobust.functional import wilson_interval
from vlmrobust.metrics import Accuracy
from vlmrobust.perturbations import AbstainOption, Casing, Spacing, WrongCaption

Make = Callable[..., Sample]
CONDITIONS = (Casing(to="upper"), Spacing(), WrongCaption())
NAMES = ["base", "casing", "spacing", "wrong_caption"]


def prompts_of(make: Make, count: int, *, draws: int = 1, **fields: object) -> list[Prompt]:
    samples = [make(f"q{number}", images=(b"x",), answer=number % 4, **fields) for number in range(count)]
    return list(expand(samples, CONDITIONS, draws=draws))


def report_of(prompts: list[Prompt], is_right: Callable[[Prompt], bool]) -> Report:
    responses = []
    for prompt in prompts:
        place = prompt.order.index((prompt.sample.answer + (not is_right(prompt))) % 4)
        responses.append(Response.parse(prompt, f"<think>.</think><answer>{'ABCDE'[place]}</answer>"))
    return Report.from_responses(prompts, responses, [Accuracy()])


def random_correctness(seed: int) -> Callable[[Prompt], bool]:
    def is_right(prompt: Prompt) -> bool:
        number = int(prompt.sample.id.removeprefix("q"))
        key = (seed, number, NAMES.index(prompt.condition), prompt.draw)
        # Samples differ in robustness.
        return bool(np.random.default_rng(key).random() < (0.9 if number % 2 else 0.4))

    return is_right


@pytest.mark.parametrize("draws", [1, 3])
def test_curve_equals_a_direct_count(make_sample: Make, draws: int) -> None:
    prompts = prompts_of(make_sample, 40, draws=draws)
    is_right = random_correctness(3)
    table = report_of(prompts, is_right).robustness_curve()
    assert table["k"].tolist() == [0, 1, 2, 3, 4]
    assert set(table["conditions"]) == {4}
    assert set(table["n"]) == {40}
    counts: dict[tuple[str, int], int] = {}
    for prompt in prompts:
        key = prompt.sample.id, prompt.draw
        counts[key] = counts.get(key, 0) + is_right(prompt)
    for k, value in enumerate(table["value"]):
        assert value == pytest.approx(np.mean([count >= k for count in counts.values()]))
    assert (table["low"][1:] < table["value"][1:]).all()
    assert (table["high"][1:] > table["value"][1:]).all()
    assert table.loc[0, ["value", "low", "high"]].tolist() == [1, 1, 1]
    if draws == 1:
        for _, row in table[1:].iterrows():
            assert (row["low"], row["high"]) == pytest.approx(wilson_interval(row["value"] * 40, 40))


def test_curve_ends_at_robust_accuracy(make_sample: Make) -> None:
    report = report_of(prompts_of(make_sample, 30, draws=2), random_correctness(5))
    assert report.robustness_curve()["value"].iloc[-1] == pytest.approx(report.robust_accuracy()["value"].item())
    alone = report.robustness_curve(["casing", "casing"])
    accuracy = report.summary.set_index(["condition", "metric"]).loc[("casing", "accuracy"), "value"]
    assert alone["value"].tolist() == pytest.approx([1.0, accuracy])
    assert alone["independent"].tolist() == pytest.approx([1.0, accuracy])


def test_chance_is_the_binomial_tail_of_the_options_shown(make_sample: Make) -> None:
    prompts = prompts_of(make_sample, 12)
    table = report_of(prompts, random_correctness(1)).robustness_curve()
    assert table["chance"].tolist() == pytest.approx(binom.sf(np.arange(5) - 1, 4, 1 / 4).tolist())
    samples = list({prompt.sample.id: prompt.sample for prompt in prompts}.values())
    more = list(expand(samples, [AbstainOption()]))
    responses = [Response.parse(prompt, "<think>.</think><answer>A</answer>") for prompt in more]
    added = Report.from_responses(more, responses, [Accuracy()]).robustness_curve()
    assert added["chance"].tolist() == pytest.approx([1, 1 - 3 / 4 * 4 / 5, 1 / 4 * 1 / 5])


def test_independent_equals_the_curve_of_independent_errors(make_sample: Make) -> None:
    # All combinations of right and wrong are equally frequent, so conditions are independent.
    combinations = list(itertools.product((True, False), repeat=4))

    def is_right(prompt: Prompt) -> bool:
        return combinations[int(prompt.sample.id.removeprefix("q"))][NAMES.index(prompt.condition)]

    table = report_of(prompts_of(make_sample, 16), is_right).robustness_curve()
    assert table["value"].tolist() == pytest.approx(table["independent"].tolist())
    assert table["value"].tolist() == pytest.approx(binom.sf(np.arange(5) - 1, 4, 1 / 2).tolist())
    # The same accuracies if a sample survives all conditions or none.
    table = report_of(prompts_of(make_sample, 16), lambda prompt: int(prompt.sample.id[1:]) % 2 == 0).robustness_curve()
    assert table["value"].tolist() == [1, 0.5, 0.5, 0.5, 0.5]
    assert table["independent"].tolist() == pytest.approx(binom.sf(np.arange(5) - 1, 4, 1 / 2).tolist())


def test_samples_not_scored_under_all_are_left_out_and_counted(make_sample: Make) -> None:
    prompts = prompts_of(make_sample, 10)
    responses = [Response.parse(prompt, "<think>.</think><answer>A</answer>") for prompt in prompts]
    responses[2] = Response.failed(prompts[2], "planted")  # q0
    responses[7] = Response.failed(prompts[7], "planted", "not_applicable")  # q1
    report = Report.from_responses(prompts[:-1], responses[:-1], [Accuracy()])  # q9
    table = report.robustness_curve()
    assert set(table["n"]) == {7}
    assert set(table["note"]) == {"3 samples left out: a condition was not asked, failed or does not fit"}
    assert set(report.robustness_curve(["base", "casing"])["n"]) == {10}
    few = Report.from_responses(prompts[:12], responses[:12], [Accuracy()]).robustness_curve(["base"])
    assert few["note"].iloc[0] == "too few for an interval: 3 samples"
    assert math.isnan(few["low"].iloc[1])


def test_groups_are_resampled_as_a_whole(make_sample: Make) -> None:
    alone = report_of(prompts_of(make_sample, 40), random_correctness(7)).robustness_curve()
    samples = [make_sample(f"q{number}", answer=number % 4, group=f"g{number // 5}") for number in range(40)]
    grouped = report_of(list(expand(samples, CONDITIONS)), random_correctness(7)).robustness_curve()
    assert grouped["value"].equals(alone["value"])
    assert not grouped["low"][1:].equals(alone["low"][1:])


def test_invalid_conditions_are_refused(make_sample: Make) -> None:
    prompts = prompts_of(make_sample, 2)
    report = report_of(prompts, random_correctness(1))
    with pytest.raises(KeyError, match="expected one of the conditions base, casing, spacing, wrong_caption; got 'no'"):
        report.robustness_curve(["no"])
    with pytest.raises(ValueError, match="expected conditions that were scored, got none"):
        Report.from_responses([], [], [Accuracy()]).robustness_curve()
    failed = Report.from_responses(prompts, [Response.failed(prompt, "planted") for prompt in prompts], [Accuracy()])
    with pytest.raises(ValueError, match="expected samples that are scored under all of base, got none"):
        failed.robustness_curve(["base"])
