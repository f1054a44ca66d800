"""Test circular accuracy against a direct count."""

import itertools
import math
import random
from collections.abc import Callable

import pytest

from vlmrobust import Prompt, Report, Response, Sample, expand
from vlmrobust.metrics import Accuracy
from vlmrobust.perturbations import AbstainOption, RotatedOptions, WrongCaption, rotations
from vlmrobust.testing import FakeModel

Make = Callable[..., Sample]


def answer_with(prompt: Prompt, letter: str) -> Response:
    return Response.parse(prompt, f"<think>.</think><answer>{letter}</answer>")


def make_samples(make: Make, counts: list[int]) -> list[Sample]:
    return [
        make(f"q{number}", images=(b"x",), options=tuple(f"option {i}" for i in range(count)), answer=number % count)
        for number, count in enumerate(counts)
    ]


def test_a_model_that_always_answers_a_has_circular_accuracy_zero(make_sample: Make) -> None:
    prompts = expand(make_samples(make_sample, [2, 3, 4, 4, 5] * 4), rotations(5))
    report = Report.from_responses(prompts, [answer_with(prompt, "A") for prompt in prompts], [Accuracy()])
    [row] = report.circular(greedy=True).to_dict("records")
    right = [prompt.sample.answer == 0 for prompt in prompts if prompt.condition == "base"]
    assert (row["condition"], row["metric"], row["n"]) == ("circular", "accuracy", 20)
    assert (row["value"], row["base_value"]) == (0.0, pytest.approx(sum(right) / 20))
    assert row["difference"] == row["value"] - row["base_value"]
    assert row["low"] <= row["difference"] <= row["high"]


@pytest.mark.parametrize("draws", [1, 3])
def test_circular_accuracy_is_the_share_right_under_all_rotations(make_sample: Make, draws: int) -> None:
    rng = random.Random(5)
    prompts = list(expand(make_samples(make_sample, [2, 3, 4] * 10), [WrongCaption(), *rotations(4)], draws=draws))
    responses = [
        answer_with(prompt, "ABCD"[prompt.order.index(prompt.sample.answer) if rng.random() < 0.8 else 0])
        for prompt in prompts
    ]
    share = []
    for name in dict.fromkeys(prompt.sample.id for prompt in prompts):
        per_draw = [
            all(
                response.answer == prompt.sample.answer
                for prompt, response in zip(prompts, responses, strict=True)
                if (prompt.sample.id, prompt.draw) == (name, draw) and prompt.condition != "wrong_caption"
            )
            for draw in range(draws)
        ]
        share.append(sum(per_draw) / draws)
    expected = sum(share) / len(share)
    assert 0 < expected < 1
    pairs = list(zip(prompts, responses, strict=True))
    for _ in range(2):
        report = Report.from_responses([p for p, _ in pairs], [r for _, r in pairs], [Accuracy()])
        assert report.circular()["value"].item() == pytest.approx(expected)
        rng.shuffle(pairs)


def test_sampling_is_compared_with_as_many_repeats_of_base(make_sample: Make) -> None:
    rng = random.Random(9)
    prompts = list(expand(make_samples(make_sample, [3] * 12), rotations(3), draws=4))
    right = {prompt: rng.random() < 0.8 for prompt in range(len(prompts))}
    responses = [
        answer_with(prompt, "ABC"[(prompt.order.index(prompt.sample.answer) + (not right[place])) % 3])
        for place, prompt in enumerate(prompts)
    ]
    draws: dict[str, list[bool]] = {}
    for place, prompt in enumerate(prompts):
        if prompt.condition == "base":
            draws.setdefault(prompt.sample.id, []).append(right[place])
    times = [list(itertools.combinations(own, 3)) for own in draws.values()]
    expected = sum(sum(map(all, chosen)) / len(chosen) for chosen in times) / len(times)
    found = Report.from_responses(prompts, responses, [Accuracy()]).circular()
    assert found["base_value"].item() == pytest.approx(expected)
    assert expected < sum(map(sum, draws.values())) / 48


def test_missing_and_failed_rotations_are_left_out_and_counted(make_sample: Make) -> None:
    prompts = list(expand(make_samples(make_sample, [2, 3, 4, 4]), rotations(3)))
    responses = FakeModel(accuracy=1.0, opens_images=False).respond(prompts)
    failing = next(
        place for place, p in enumerate(prompts) if (p.sample.id, p.condition) == ("q0", "rotated_options_1")
    )
    responses[failing] = Response.failed(prompts[failing], "no answer")
    [row] = Report.from_responses(prompts, responses).circular(greedy=True).to_dict("records")
    assert (row["n"], row["value"]) == (1, 1.0)  # q0 failed, two samples of four options lack a rotation
    assert row["note"].startswith("3 samples left out: a rotation was not asked or failed; too few")


def test_other_conditions_can_be_rotated_too(make_sample: Make) -> None:
    abstain = AbstainOption()
    conditions = [abstain, *(rotation + abstain for rotation in rotations(4)), *rotations(4)]
    prompts = list(expand(make_samples(make_sample, [4, 3, 2]), conditions))
    report = Report.from_responses(prompts, FakeModel(accuracy=1.0, abstain=1.0, opens_images=False).respond(prompts))
    names = [condition.condition for condition in conditions[:4]]
    [row] = report.circular(names, greedy=True).to_dict("records")
    assert (row["value"], row["base_value"], row["n"]) == (0.0, 0.0, 3)
    assert report.circular()["value"].item() == 1.0


def test_a_report_without_rotations_is_refused(make_sample: Make) -> None:
    prompts = list(expand(make_samples(make_sample, [2]), [RotatedOptions(by=1, name="other")]))
    report = Report.from_responses(prompts, [answer_with(prompt, "A") for prompt in prompts])
    with pytest.raises(
        ValueError, match=r"expected conditions that rotate the options, got base; run .* rotations\(n\)"
    ):
        report.circular()
    with pytest.raises(KeyError, match="expected one of the conditions base, other; got 'nothing'"):
        report.circular(["base", "nothing"])
    assert not math.isnan(report.circular(["base", "other"])["value"].item())


def test_a_failed_draw_does_not_exclude_its_sample(make_sample: Make) -> None:
    """One of two draws of a rotation failed for 5 of 12 samples; one sample has none."""
    prompts = list(expand(make_samples(make_sample, [2] * 12), rotations(2), draws=2))
    responses = []
    for prompt in prompts:
        number, turned = int(prompt.sample.id[1:]), prompt.condition != "base"
        gone = turned and (number == 11 or (number < 5 and prompt.draw == 1))
        shown = "AB"[prompt.order.index(prompt.sample.answer)]
        lost = Response(
            sample_id=prompt.sample.id, condition=prompt.condition, draw=prompt.draw, status="error", error="lost"
        )
        responses.append(lost if gone else answer_with(prompt, shown))
    [row] = Report.from_responses(prompts, responses, [Accuracy()]).circular(greedy=False).to_dict("records")
    assert (row["n"], row["value"]) == (11, 1.0)
    assert row["note"].startswith("1 samples left out: a rotation was not asked or failed")
