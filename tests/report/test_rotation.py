"""Test circular accuracy, averages over rotations and position bias against direct counts and planted biases."""

import itertools
import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from vlmrobust import Prompt, Report, Response, Sample, expand
from vlmrobust.metrics import Accuracy
from vlmrobust.perturbations import AbstainOption, RotatedOptions, WrongCaption, rotations
from vlmrobust.testing import FakeModel

Make = Callable[..., Sample]
# How likely the model finds each option by itself, by the sample's number, and each place.
KNOWS = ((3.0, 2.5, 1.0, 1.0), (1.0, 1.2, 1.1, 1.0), (1.0, 1.0, 4.0, 2.0))
LEANS = (2.0, 1.0, 0.5, 0.5)


def make_samples(make: Make, counts: Sequence[int]) -> list[Sample]:
    return [
        make(f"q{number}", images=(b"x",), options=tuple(f"option {i}" for i in range(count)), answer=number % count)
        for number, count in enumerate(counts)
    ]


def option_shares(prompt: Prompt, leans: Sequence[float] = LEANS) -> list[float]:
    """Return the probability of each option as shown: the knowledge of it times the bias of its position."""
    number = int(prompt.sample.id.removeprefix("q"))
    known = KNOWS[(number + prompt.draw) % len(KNOWS)]
    weights = [
        (0.1 if option is None else known[option]) * leans[place % 4] for place, option in enumerate(prompt.order)
    ]
    return [weight / sum(weights) for weight in weights]


def respond(prompt: Prompt, leans: Sequence[float] = LEANS) -> Response:
    found = option_shares(prompt, leans)
    letter = "ABCDE"[found.index(max(found))]
    # Other tokens have some of the vocabulary's probability.
    letters = [math.log(0.9 * share) for share in found]
    return Response.parse(prompt, f"<think>.</think><answer>{letter}</answer>", option_logprobs=letters)


def report_of(prompts: Sequence[Prompt], leans: Sequence[float] = LEANS) -> Report:
    return Report.from_responses(prompts, [respond(prompt, leans) for prompt in prompts], [Accuracy()])


@pytest.mark.parametrize("draws", [1, 2])
def test_the_average_equals_a_direct_loop(make_sample: Make, draws: int) -> None:
    samples = make_samples(make_sample, [2, 3, 4] * 8)
    prompts = list(expand(samples, rotations(4), draws=draws))
    right, chance, base_right, base_chance = [], [], [], []
    for sample in samples:
        for draw in range(draws):
            own = [prompt for prompt in prompts if (prompt.sample.id, prompt.draw) == (sample.id, draw)]
            assert len(own) == len(sample.options)
            of_option = [
                np.mean([option_shares(prompt)[prompt.order.index(option)] for prompt in own])
                for option in range(len(sample.options))
            ]
            right.append(of_option.index(max(of_option)) == sample.answer)
            chance.append(of_option[sample.answer])
            base_right.append(respond(own[0]).answer == sample.answer)
            base_chance.append(option_shares(own[0])[sample.answer])
    table = report_of(prompts).rotation_average().set_index("metric")
    for metric, here, there in (("accuracy", right, base_right), ("correct_probability", chance, base_chance)):
        row = table.loc[metric]
        assert (row["condition"], row["n"]) == ("rotation_average", len(samples))
        assert row["value"] == row["paired_value"] == pytest.approx(np.mean(here), abs=1e-6)
        assert row["base_value"] == pytest.approx(np.mean(there), abs=1e-6)
        assert row["low"] < row["difference"] < row["high"]
    assert table.loc["accuracy", "value"] > table.loc["accuracy", "base_value"]


def test_position_bias_cancels_out(make_sample: Make) -> None:
    prompts = list(expand(make_samples(make_sample, [4] * 12), rotations(4)))
    leaning = report_of(prompts, (1e6, 1.0, 1.0, 1.0)).rotation_average(greedy=True).set_index("metric")
    assert leaning.loc["correct_probability", "value"] == pytest.approx(0.25, abs=1e-3)
    plain = report_of(prompts, (1.0,) * 4)
    assert plain.rotation_average(greedy=True)["difference"].tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_ties_count_as_a_random_choice(make_sample: Make) -> None:
    prompts = list(expand(make_samples(make_sample, [4]), rotations(4)))
    responses = [
        Response.parse(prompt, "<think>.</think><answer>A</answer>", option_logprobs=[math.log(0.25)] * 4)
        for prompt in prompts
    ]
    table = Report.from_responses(prompts, responses, [Accuracy()]).rotation_average().set_index("metric")
    assert table.loc["accuracy", "value"] == pytest.approx(0.25)


def test_incomplete_samples_are_left_out_and_counted(make_sample: Make) -> None:
    prompts = list(expand(make_samples(make_sample, [4] * 10), rotations(4)))
    responses = [respond(prompt) for prompt in prompts]
    responses[1] = Response.failed(prompts[1], "planted")  # q0
    responses[6] = responses[6].replace(option_logprobs=None, readout=None)  # q1
    responses[11] = responses[11].replace(readout="fixed_prefix")  # q2
    prompts, responses = prompts[:-1], responses[:-1]  # q9
    report = Report.from_responses(prompts, responses, [Accuracy()])
    table = report.rotation_average()
    note = (
        "4 samples left out: a rotation was not asked or failed, or its letters were not read where the others' were; "
        "the other side is one answer; a model that samples gains by averaging alone"
    )
    assert table["n"].tolist() == [6, 6]
    assert all(text.startswith(note) for text in table["note"])
    assert "gains by averaging" not in report.rotation_average(greedy=True)["note"].iloc[0]
    places = report.position_bias()
    assert set(places["n"]) == {9}
    assert (
        places["note"]
        .iloc[0]
        .startswith(
            "1 samples left out: a rotation was not asked or failed; "
            "3 responses without letters, or with letters read at several places"
        )
    )


def test_reports_without_rotations_are_refused(make_sample: Make) -> None:
    report = report_of(list(expand(make_samples(make_sample, [3]), [])))
    for ask in (report.rotation_average, report.position_bias):
        with pytest.raises(ValueError, match=r"expected conditions that rotate the options, got base; run the report"):
            ask()
        with pytest.raises(KeyError, match="got 'none'"):
            ask(["base", "none"])


@pytest.mark.parametrize("draws", [1, 2])
def test_positions_equal_a_direct_loop(make_sample: Make, draws: int) -> None:
    samples = make_samples(make_sample, [3, 4] * 9)
    prompts = list(expand(samples, rotations(4), draws=draws))
    table = report_of(prompts).position_bias().set_index(["options", "position"])
    assert len(table) == 3 + 4
    for count in (3, 4):
        own = [prompt for prompt in prompts if len(prompt.options) == count]
        for place in range(count):
            row = table.loc[count, place]
            assert row["letter"] == "ABCD"[place]
            assert row["expected"] == 1 / count
            assert row["n"] == 9
            assert row["probability"] == pytest.approx(
                np.mean([option_shares(prompt)[place] for prompt in own]), abs=1e-6
            )
            there = [prompt for prompt in own if prompt.order[place] == prompt.sample.answer]
            assert len(there) == 9 * draws
            hits = [respond(prompt).answer == prompt.sample.answer for prompt in there]
            assert row["recall"] == pytest.approx(np.mean(hits))
            assert row["low"] < row["probability"] < row["high"]
            assert row["recall_low"] <= row["recall"] <= row["recall_high"]
    assert table.loc[4, "probability"].sum() == pytest.approx(1)
    assert table.loc[(4, 0), "low"] > 1 / 4 > table.loc[(4, 3), "high"], "it leans to the first place"


def test_an_unbiased_model_has_no_position_bias(make_sample: Make) -> None:
    prompts = list(expand(make_samples(make_sample, [4] * 8), rotations(4)))
    table = report_of(prompts, (1.0,) * 4).position_bias()
    assert table["probability"].tolist() == pytest.approx([0.25] * 4, abs=1e-6)
    assert table["recall"].std(ddof=0) == pytest.approx(0)


def test_added_options_are_not_positions(make_sample: Make) -> None:
    samples = make_samples(make_sample, [3] * 6)
    conditions = [AbstainOption(), *(RotatedOptions(by=by) + AbstainOption() for by in (1, 2))]
    prompts = list(expand(samples, conditions))
    names = [condition.condition for condition in conditions]
    report = report_of(prompts)
    assert report.rotation_average(names)["n"].tolist() == [6, 6]
    table = report.position_bias(names)
    assert table["letter"].tolist() == ["A", "B", "C"]
    assert table["probability"].sum() == pytest.approx(1)


def test_a_repeated_order_counts_once(make_sample: Make) -> None:
    samples = make_samples(make_sample, [3] * 6)
    twice = [*rotations(3), RotatedOptions(by=1, name="again")]
    prompts = list(expand(samples, twice))
    names = ["base", *(condition.condition for condition in twice)]
    plain = report_of([prompt for prompt in prompts if prompt.condition != "again"]).position_bias()
    assert report_of(prompts).position_bias(names).equals(plain)


def test_the_fake_model_has_no_position_bias(make_sample: Make) -> None:
    prompts = list(expand(make_samples(make_sample, [4] * 30), rotations(4)))
    responses = FakeModel(accuracy=0.6, opens_images=False).respond(prompts)
    report = Report.from_responses(prompts, responses, [Accuracy()])
    table = report.position_bias()
    assert table["recall"].std(ddof=0) == pytest.approx(0)
    average = report.rotation_average().set_index("metric")
    assert average.loc["accuracy", "difference"] == pytest.approx(0)


def answer_with(prompt: Prompt, letter: str) -> Response:
    return Response.parse(prompt, f"<think>.</think><answer>{letter}</answer>")


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
