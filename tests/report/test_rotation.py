"""Averages over rotations and the places of options, against slow loops over models whose leaning is planted."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from vlmrobust import Prompt, Report, Response, Sample, expand
from vlmrobust.metrics import Accuracy
from vlmrobust.perturbations import AbstainOption, RotatedOptions, rotations
from vlmrobust.testing import FakeModel

Make = Callable[..., Sample]
# How likely the model finds each option by itself, by the sample's number, and each place.
KNOWS = ((3.0, 2.5, 1.0, 1.0), (1.0, 1.2, 1.1, 1.0), (1.0, 1.0, 4.0, 2.0))
LEANS = (2.0, 1.0, 0.5, 0.5)


def samples(make: Make, counts: Sequence[int]) -> list[Sample]:
    return [
        make(f"q{number}", images=(b"x",), options=tuple(f"option {i}" for i in range(count)), answer=number % count)
        for number, count in enumerate(counts)
    ]


def shares(prompt: Prompt, leans: Sequence[float] = LEANS) -> list[float]:
    """Return the probability of each option as shown: what is known of it, times the leaning to its place."""
    number = int(prompt.sample.id.removeprefix("q"))
    known = KNOWS[(number + prompt.draw) % len(KNOWS)]
    weights = [
        (0.1 if option is None else known[option]) * leans[place % 4] for place, option in enumerate(prompt.order)
    ]
    return [weight / sum(weights) for weight in weights]


def answered(prompt: Prompt, leans: Sequence[float] = LEANS) -> Response:
    found = shares(prompt, leans)
    letter = "ABCDE"[found.index(max(found))]
    # Some of the vocabulary's probability is that of other tokens.
    letters = [math.log(0.9 * share) for share in found]
    return Response.parse(prompt, f"<think>.</think><answer>{letter}</answer>", option_logprobs=letters)


def report_of(prompts: Sequence[Prompt], leans: Sequence[float] = LEANS) -> Report:
    return Report.from_responses(prompts, [answered(prompt, leans) for prompt in prompts], [Accuracy()])


@pytest.mark.parametrize("draws", [1, 2])
def test_the_average_is_that_of_a_slow_loop(make_sample: Make, draws: int) -> None:
    asked = samples(make_sample, [2, 3, 4] * 8)
    prompts = list(expand(asked, rotations(4), draws=draws))
    right, chance, base_right, base_chance = [], [], [], []
    for sample in asked:
        for draw in range(draws):
            own = [prompt for prompt in prompts if (prompt.sample.id, prompt.draw) == (sample.id, draw)]
            assert len(own) == len(sample.options)
            of_option = [
                np.mean([shares(prompt)[prompt.order.index(option)] for prompt in own])
                for option in range(len(sample.options))
            ]
            right.append(of_option.index(max(of_option)) == sample.answer)
            chance.append(of_option[sample.answer])
            base_right.append(answered(own[0]).answer == sample.answer)
            base_chance.append(shares(own[0])[sample.answer])
    table = report_of(prompts).rotation_average().set_index("metric")
    for metric, here, there in (("accuracy", right, base_right), ("correct_probability", chance, base_chance)):
        row = table.loc[metric]
        assert (row["condition"], row["n"]) == ("rotation_average", len(asked))
        assert row["value"] == row["paired_value"] == pytest.approx(np.mean(here), abs=1e-6)
        assert row["base_value"] == pytest.approx(np.mean(there), abs=1e-6)
        assert row["low"] < row["difference"] < row["high"]
    assert table.loc["accuracy", "value"] > table.loc["accuracy", "base_value"]


def test_a_leaning_cancels_out_and_knowledge_stays(make_sample: Make) -> None:
    prompts = list(expand(samples(make_sample, [4] * 12), rotations(4)))
    leaning = report_of(prompts, (1e6, 1.0, 1.0, 1.0)).rotation_average(greedy=True).set_index("metric")
    assert leaning.loc["correct_probability", "value"] == pytest.approx(0.25, abs=1e-3)
    plain = report_of(prompts, (1.0,) * 4)
    assert plain.rotation_average(greedy=True)["difference"].tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_tied_options_are_right_as_often_as_one_at_random(make_sample: Make) -> None:
    prompts = list(expand(samples(make_sample, [4]), rotations(4)))
    said = [
        Response.parse(prompt, "<think>.</think><answer>A</answer>", option_logprobs=[math.log(0.25)] * 4)
        for prompt in prompts
    ]
    table = Report.from_responses(prompts, said, [Accuracy()]).rotation_average().set_index("metric")
    assert table.loc["accuracy", "value"] == pytest.approx(0.25)


def test_what_cannot_be_averaged_is_left_out_and_counted(make_sample: Make) -> None:
    prompts = list(expand(samples(make_sample, [4] * 10), rotations(4)))
    said = [answered(prompt) for prompt in prompts]
    said[1] = Response.failed(prompts[1], "planted")  # q0
    said[6] = said[6].replace(option_logprobs=None, readout=None)  # q1
    said[11] = said[11].replace(readout="fixed_prefix")  # q2
    prompts, said = prompts[:-1], said[:-1]  # q9
    report = Report.from_responses(prompts, said, [Accuracy()])
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


def test_rotations_are_asked_for(make_sample: Make) -> None:
    report = report_of(list(expand(samples(make_sample, [3]), [])))
    for ask in (report.rotation_average, report.position_bias):
        with pytest.raises(ValueError, match=r"expected conditions that rotate the options, got base; run the report"):
            ask()
        with pytest.raises(KeyError, match="got 'none'"):
            ask(["base", "none"])


@pytest.mark.parametrize("draws", [1, 2])
def test_places_are_those_of_a_slow_loop(make_sample: Make, draws: int) -> None:
    asked = samples(make_sample, [3, 4] * 9)
    prompts = list(expand(asked, rotations(4), draws=draws))
    table = report_of(prompts).position_bias().set_index(["options", "position"])
    assert len(table) == 3 + 4
    for count in (3, 4):
        own = [prompt for prompt in prompts if len(prompt.options) == count]
        for place in range(count):
            row = table.loc[count, place]
            assert row["letter"] == "ABCD"[place]
            assert row["expected"] == 1 / count
            assert row["n"] == 9
            assert row["probability"] == pytest.approx(np.mean([shares(prompt)[place] for prompt in own]), abs=1e-6)
            there = [prompt for prompt in own if prompt.order[place] == prompt.sample.answer]
            assert len(there) == 9 * draws
            hits = [answered(prompt).answer == prompt.sample.answer for prompt in there]
            assert row["recall"] == pytest.approx(np.mean(hits))
            assert row["low"] < row["probability"] < row["high"]
            assert row["recall_low"] <= row["recall"] <= row["recall_high"]
    assert table.loc[4, "probability"].sum() == pytest.approx(1)
    assert table.loc[(4, 0), "low"] > 1 / 4 > table.loc[(4, 3), "high"], "it leans to the first place"


def test_a_model_without_a_leaning_has_none_whatever_it_knows(make_sample: Make) -> None:
    prompts = list(expand(samples(make_sample, [4] * 8), rotations(4)))
    table = report_of(prompts, (1.0,) * 4).position_bias()
    assert table["probability"].tolist() == pytest.approx([0.25] * 4, abs=1e-6)
    assert table["recall"].std(ddof=0) == pytest.approx(0)


def test_an_added_option_is_beside_the_places(make_sample: Make) -> None:
    asked = samples(make_sample, [3] * 6)
    conditions = [AbstainOption(), *(RotatedOptions(by=by) + AbstainOption() for by in (1, 2))]
    prompts = list(expand(asked, conditions))
    names = [condition.condition for condition in conditions]
    report = report_of(prompts)
    assert report.rotation_average(names)["n"].tolist() == [6, 6]
    table = report.position_bias(names)
    assert table["letter"].tolist() == ["A", "B", "C"]
    assert table["probability"].sum() == pytest.approx(1)


def test_the_same_order_asked_twice_counts_once(make_sample: Make) -> None:
    asked = samples(make_sample, [3] * 6)
    twice = [*rotations(3), RotatedOptions(by=1, name="again")]
    prompts = list(expand(asked, twice))
    names = ["base", *(condition.condition for condition in twice)]
    plain = report_of([prompt for prompt in prompts if prompt.condition != "again"]).position_bias()
    assert report_of(prompts).position_bias(names).equals(plain)


def test_the_fake_model_knows_no_places(make_sample: Make) -> None:
    prompts = list(expand(samples(make_sample, [4] * 30), rotations(4)))
    said = FakeModel(accuracy=0.6, opens_images=False).respond(prompts)
    report = Report.from_responses(prompts, said, [Accuracy()])
    table = report.position_bias()
    assert table["recall"].std(ddof=0) == pytest.approx(0)
    average = report.rotation_average().set_index("metric")
    assert average.loc["accuracy", "difference"] == pytest.approx(0)
