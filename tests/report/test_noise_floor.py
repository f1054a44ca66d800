"""Test the noise floor: the effect of sampling alone, base against base."""

import json
import math
from itertools import combinations

import numpy as np
import pytest

from vlmrobust import Evaluator, Report
from vlmrobust.metrics import Accuracy, Consistency, ExpectedCalibrationError, FlipRate, LetterEntropy
from vlmrobust.perturbations import StopThink, WrongCaption, WrongThink
from vlmrobust.testing import FakeModel

METRICS = [Accuracy(), Consistency(), FlipRate()]


def make_report(samples, draws=4, **planted):
    model = FakeModel(opens_images=False, **planted)
    return Evaluator(model, [WrongCaption(), WrongThink()], METRICS, draws=draws, batch_size=99).run(samples)


@pytest.fixture(scope="module")
def samples(make_sample):
    return [make_sample(f"q{index}", images=(b"not decoded",), answer=index % 4) for index in range(40)]


def noise_floors(report):
    return report.summary.set_index(["metric", "condition"])["noise_floor"]


def test_equal_draws_have_a_floor_of_exactly_zero(samples):
    found = noise_floors(make_report(samples, accuracy=0.7))
    assert (found == 0).all()
    assert found.size == 9


def test_a_single_draw_has_no_floor(samples):
    report = make_report(samples, draws=1, guess=0.5)
    assert noise_floors(report).isna().all()
    assert "floor" not in str(report)


def test_flip_floor_is_the_share_of_differing_base_draws(samples):
    report = make_report(samples, guess=0.5)
    answers = report.frame.query("condition == 'base'").groupby("sample_id")["answer"].agg(list)
    shares = [np.mean([one != other for one, other in combinations(row, 2)]) for row in answers]
    summary = report.summary.query("metric == 'flip_rate'").set_index("condition")
    assert summary["noise_floor"].tolist() == pytest.approx([np.mean(shares)] * 3)
    assert summary.loc["base", "value"] == pytest.approx(np.mean(shares))
    # So the difference of a flip rate is its excess over the floor.
    above = summary.loc["wrong_think"]
    assert above["difference"] == pytest.approx(above["value"] - np.mean(shares))


def test_the_floor_uses_the_samples_of_the_comparison(make_pair):
    pairs = [make_pair("a", draw=draw, choice=draw) for draw in (0, 1)] + [make_pair("b", draw=draw) for draw in (0, 1)]
    pairs += [make_pair("b", "x", draw=draw, choice=0) for draw in (0, 1)]
    report = Report.from_responses(*zip(*pairs, strict=True), [FlipRate(), Accuracy()])
    assert noise_floors(report)["flip_rate"].to_dict() == {"base": 0.5, "x": 0.0}
    # One of two draws is right: a variance of 1/2, divided by two draws, on 2 samples.
    assert noise_floors(report)["accuracy"].to_dict() == {
        "base": pytest.approx(math.sqrt(2 / math.pi * 0.5) / 2),
        "x": 0.0,
    }


def test_floor_of_a_mean_is_the_mean_absolute_difference_of_two_runs(make_sample):
    """Compare with 200 simulated runs of base, by twos; the formula uses a single run."""
    rng = np.random.default_rng(0)
    chances, draws = rng.random(60), 6
    runs = rng.binomial(draws, chances, size=(2, 4000, 60)).mean(2) / draws
    expected = np.abs(runs[0] - runs[1]).mean()
    samples = [make_sample(f"q{index}", images=(b"x",)) for index in range(60)]
    right = rng.random((60, draws)) < chances[:, None]

    class Throws:
        def respond(self, prompts):
            return [
                FakeModel(accuracy=1, follow_caption=0, opens_images=False, seed=1).respond([prompt])[0]
                if right[int(prompt.sample.id[1:]), prompt.draw]
                else FakeModel(accuracy=0, follow_caption=0, opens_images=False).respond([prompt])[0]
                for prompt in prompts
            ]

    report = Evaluator(Throws(), [], [Accuracy()], draws=draws).run(samples)
    assert noise_floors(report)["accuracy", "base"] == pytest.approx(expected, rel=0.15)


def test_aggregates_and_missing_references_have_no_floor(samples, make_pair):
    report = make_report(samples, guess=0.5).score([ExpectedCalibrationError()])
    assert noise_floors(report).isna().all()
    pairs = [make_pair("a", "x", draw=draw, choice=draw) for draw in (0, 1)]
    assert noise_floors(Report.from_responses(*zip(*pairs, strict=True), [Accuracy()])).isna().all()


def test_letters_of_another_read_out_have_no_floor(samples):
    model = FakeModel(opens_images=False, guess=0.5)
    report = Evaluator(model, [StopThink()], [LetterEntropy()], draws=2, batch_size=99).run(samples)
    assert math.isnan(noise_floors(report)["letter_entropy", "stop_think"])
    assert noise_floors(report)["letter_entropy", "base"] > 0


def test_a_comparison_has_the_floor_of_the_other_report(samples):
    after, before = make_report(samples, guess=0.5, seed=1), make_report(samples, guess=0.5, accuracy=0.5)
    floor = after.compare(before).set_index(["metric", "condition"])["noise_floor"]
    assert floor["accuracy", "base"] == pytest.approx(noise_floors(before)["accuracy", "base"])
    assert floor["accuracy", "wrong_think"] > 0
    assert floor["flip_rate", "base"] == pytest.approx(noise_floors(before)["flip_rate", "base"])


def test_the_table_shows_the_floor_of_flip_rates(samples):
    report = make_report(samples, guess=0.5)
    header, _, *rows = report.to_markdown().splitlines()
    place = [cell.strip() for cell in header.split("|")].index("flip rate ↓ (floor)")
    for row, (_, expected) in zip(rows[:3], report.summary.query("metric == 'flip_rate'").iterrows(), strict=True):
        cell = row.split("|")[place].strip()
        assert cell == f"{expected['value']:.2f} ({expected['noise_floor']:.2f})"
    base = report.summary.query("condition == 'base'").set_index("metric")
    flips, consistency = base.loc["flip_rate"], base.loc["consistency"]
    assert (
        f"noise floor, base against base over 4 draws: flip rate {flips['value']:.2f} [{flips['value_low']:.2f}, "
        f"{flips['value_high']:.2f}], consistency {consistency['noise_floor']:.2f}"
    ) in report._overview().notes


def test_reports_of_older_versions_have_no_floor(samples, tmp_path):
    path = make_report(samples, guess=0.5).save(tmp_path / "report.jsonl")
    head, *rows = path.read_text().splitlines()
    about = json.loads(head)
    for row in about["summary"]:
        del row["noise_floor"]
    path.write_text("\n".join([json.dumps(about), *rows]) + "\n")
    assert noise_floors(Report.load(tmp_path)).isna().all()
