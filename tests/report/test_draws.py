"""Test metrics over draws against enumeration and pandas, and that draws are reproducible."""

import math
from itertools import combinations

import numpy as np
import pytest

from vlmrobust import Evaluator, HFModel, Report, demo
from vlmrobust.metrics import Accuracy
from vlmrobust.perturbations import WrongCaption, WrongThink
from vlmrobust.testing import FakeModel

DRAWS = 8


@pytest.fixture(scope="module")
def report(make_sample):
    samples = [
        make_sample(f"q{index}", images=(b"x",), answer=index % 4, group=f"g{index // 2}") for index in range(30)
    ]
    model = FakeModel(opens_images=False, accuracy=0.8, guess=0.5, truncated=0.1, follow_think=0.5)
    return Evaluator(model, [WrongThink()], draws=DRAWS, batch_size=99).run(samples)


def draws_table(report, **options):
    return report.draws(**options).set_index(["condition", "metric"])


def answers_and_targets(report, condition):
    """Return each sample's answers, -1 for none, and its target."""
    frame = report.frame.query("condition == @condition")
    answers = frame.assign(answer=frame["answer"].fillna(-1)).groupby("sample_id")["answer"].agg(list)
    return list(zip(answers, frame.groupby("sample_id")["target"].first(), strict=True))


def pass_rate(k):
    def passed(answers, target):
        return np.mean([target in subset for subset in combinations(answers, k)])

    return passed


def majority(answers, target):
    counts = {answer: answers.count(answer) for answer in answers}
    leading = [answer for answer, count in counts.items() if count == max(counts.values())]
    return (target in leading) / len(leading)


ORACLES = {
    "accuracy": lambda answers, target: answers.count(target) / len(answers),
    "majority_accuracy": majority,
    "majority_share": lambda answers, target: max(map(answers.count, answers)) / len(answers),
    "draw_agreement": lambda answers, target: np.mean([one == other for one, other in combinations(answers, 2)]),
    "answer_entropy": lambda answers, target: np.mean([math.log(len(answers) / answers.count(a)) for a in answers]),
} | {f"pass_at_{k}": pass_rate(k) for k in range(1, DRAWS + 1)}


@pytest.mark.parametrize("condition", ["base", "wrong_think"])
def test_every_measure_equals_its_definition(report, condition):
    rows = draws_table(report).loc[condition]
    assert set(rows.index) == set(ORACLES)
    for name, oracle in ORACLES.items():
        assert rows.loc[name, "value"] == pytest.approx(
            np.mean([oracle(*one) for one in answers_and_targets(report, condition)])
        )
        assert rows.loc[name, "n"] == 30


def test_metrics_of_draws_have_intervals_and_differences(report):
    rows = draws_table(report)
    assert ((rows["value_low"] <= rows["value"]) & (rows["value"] <= rows["value_high"])).all()
    assert (rows["value_low"] < rows["value_high"]).all()
    difference = rows.loc["wrong_think", "value"] - rows.loc["base", "value"]
    assert rows.loc["wrong_think", "difference"].tolist() == pytest.approx(difference.tolist())
    assert rows.loc["wrong_think", "high"].loc["majority_accuracy"] < 0


def test_draw_agreement_is_one_minus_the_flip_rate(report):
    floor = report.summary.set_index(["condition", "metric"]).loc[("base", "flip_rate"), "noise_floor"]
    assert draws_table(report).loc[("base", "draw_agreement"), "value"] == pytest.approx(1 - floor)
    assert draws_table(report).loc[("base", "accuracy"), "noise_floor"] > 0
    assert draws_table(report)["noise_floor"].notna().sum() == 2


def test_attempts_select_the_k(report):
    names = report.draws([2, 5])["metric"]
    assert [name for name in names.unique() if name.startswith("pass")] == ["pass_at_2", "pass_at_5"]
    for wrong in (0, DRAWS + 1):
        with pytest.raises(ValueError, match=f"field 'attempts': expected numbers from 1 to 8, .*; got {wrong}"):
            report.draws([wrong])


def test_failed_draws_are_left_out_and_short_samples_are_undefined(make_pair):
    pairs = [make_pair("a", draw=draw, choice=choice) for draw, choice in enumerate([0, 1, 1])]
    pairs += [make_pair("b", draw=0, choice=1), make_pair("b", "base", None, draw=1, status="error", error="lost")]
    rows = draws_table(Report.from_responses(*zip(*pairs, strict=True))).loc["base"]
    assert rows["n"].to_dict() == {
        "accuracy": 2, "majority_accuracy": 2, "majority_share": 2, "answer_entropy": 2, "draw_agreement": 1,
        "pass_at_1": 2, "pass_at_2": 1, "pass_at_3": 1,
    }  # fmt: skip
    assert rows.loc["accuracy", "value"] == pytest.approx((2 / 3 + 1) / 2)
    assert set(rows["errors"]) == {1}


BIASED = ["majority_accuracy", "majority_share", "answer_entropy"]


def test_votes_are_compared_with_equal_numbers_of_draws(make_pair):
    def pairs_with(sample, condition, choices):
        failed = {"status": "error", "error": "lost"}
        return [
            make_pair(sample, condition, choice, draw=draw, **({} if choice is not None else failed))
            for draw, choice in enumerate(choices)
        ]

    equal, unequal = ("a", "b", "c"), ("d", "e")
    pairs = [pair for sample in (*equal, *unequal) for pair in pairs_with(sample, "base", [0, 1, 1, 2])]
    # Other draws, but as many of them.
    pairs = [*pairs[:16], *pairs_with("e", "base", [0, 1, None, 2])]
    pairs += [
        pair
        for sample in (*equal, "d")
        for pair in pairs_with(sample, "some", [1, 1, 0, 2 if sample in equal else None])
    ]
    pairs += pairs_with("e", "some", [None, 0, 0, 1])
    pairs += [pair for sample in (*equal, *unequal) for pair in pairs_with(sample, "few", [1, None, None, None])]
    rows = draws_table(Report.from_responses(*zip(*pairs, strict=True)))
    for name in BIASED:
        some, few = rows.loc[("some", name)], rows.loc[("few", name)]
        assert (some["n"], some["note"]) == (
            4,
            "1 pairs left out: numbers of draws differ; too few for an interval: 4 samples",
        )
        assert (few["n"], few["note"]) == (5, "5 pairs left out: numbers of draws differ")
        assert few[["base_value", "difference", "low", "high", "p"]].isna().all()
        assert rows.loc[("base", name), ["n", "note"]].tolist() == [5, "too few for an interval: 5 samples"]
    # a, b and c answer as under base; e has three answers under base and two under the condition.
    assert rows.loc[("some", "majority_share"), "difference"] == pytest.approx((2 / 3 - 1 / 3) / 4)
    assert rows.loc[("few", "majority_share"), "value"] == 1
    few = "too few for an interval: 5 samples"
    assert rows.loc[("some", "pass_at_2"), ["n", "note"]].tolist() == [5, few]
    assert rows.loc[("few", "accuracy"), ["n", "note"]].tolist() == [5, few]


def test_zero_entropies_do_not_get_a_rates_interval(make_pair):
    pairs = [
        make_pair(f"s{sample}", condition, 0 if (condition, draw) == ("wavers", 0) else 1, draw=draw)
        for sample in range(20)
        for condition in ("base", "same", "wavers")
        for draw in range(4)
    ]
    rows = draws_table(Report.from_responses(*zip(*pairs, strict=True))).xs("answer_entropy", level="metric")
    assert rows.loc[["base", "same"], "value"].tolist() == [0, 0]
    assert rows.loc[["base", "same"], ["value_low", "value_high", "low", "high"]].isna().all(axis=None)
    assert rows.loc["same", "difference"] == 0
    assert rows.loc["wavers", ["value_low", "value_high", "low", "high"]].notna().all()


def test_carriers_are_not_pooled(make_pair):
    pairs = [make_pair("a", draw=0), make_pair("a", draw=1, choice=0, carrier="user_text")]
    rows = Report.from_responses(*zip(*pairs, strict=True)).draws([1]).query("metric == 'accuracy'")
    assert rows[["carrier", "value"]].values.tolist() == [["assistant_prefill", 1.0], ["user_text", 0.0]]


def test_a_single_draw_is_its_own_majority(make_sample):
    report = Evaluator(FakeModel(opens_images=False), []).run([make_sample("q", images=(b"x",))])
    rows = draws_table(report).loc["base"]
    assert rows.loc["majority_accuracy", "value"] == rows.loc["accuracy", "value"]
    assert math.isnan(rows.loc["draw_agreement", "value"])
    assert len(Report.from_responses([], []).draws([])) == 0


# --- the draws themselves ---------------------------------------------------------------------------------------------


def test_draws_of_the_bundled_model_do_not_depend_on_the_batch():
    samples = demo.samples(4, seed=0)  # batches of 3 and 1, and of 4

    loaded = demo.model()

    def run(batch_size, conditions, **generation):
        model = HFModel(loaded.model, loaded.processor, {"max_new_tokens": 40, **generation})
        return Evaluator(model, conditions, draws=DRAWS, batch_size=batch_size).run(samples)

    reports = [run(size, [WrongCaption()], do_sample=True, temperature=1.5) for size in (1, 3, 8)]
    texts = [report.frame["text"].tolist() for report in reports]
    assert texts[0] == texts[1] == texts[2]
    assert len(set(texts[0])) > len(samples) * 2, "nothing was drawn"
    assert not reports[0].summary.query("metric == 'flip_rate'")["noise_floor"].isna().any()
    for (condition, metric), row in draws_table(reports[0]).iterrows():
        assert row["value"] == pytest.approx(
            np.mean([ORACLES[metric](*one) for one in answers_and_targets(reports[0], condition)])
        )
    greedy = run(8, [])
    floors = greedy.summary.set_index("metric")["noise_floor"]
    assert set(floors[["flip_rate", "consistency", "accuracy", "letter_entropy"]]) == {0.0}
    assert "noise floor, base against base over 8 draws: flip rate 0.00" in str(greedy)


def test_an_interrupted_run_keeps_finished_draws(make_sample, tmp_path):
    samples = [make_sample(f"q{index}", images=(b"x",)) for index in range(4)]

    class Interrupted(FakeModel):
        """Is stopped in its third batch."""

        def identity(self):
            return {"class": "the same"}

        def respond(self, prompts):
            if stop and prompts[0].sample.id == "q2":
                raise KeyboardInterrupt
            return super().respond(prompts)

    def evaluator(model, draws):
        return Evaluator(model, [WrongThink()], [Accuracy()], draws=draws, batch_size=1)

    stop = True
    with pytest.raises(KeyboardInterrupt):
        evaluator(Interrupted(opens_images=False, guess=0.5), 3).run(samples, out=tmp_path)
    stop = False
    model = Interrupted(opens_images=False, guess=0.5)
    resumed = evaluator(model, 4).run(samples, out=tmp_path)
    finished = {
        (f"q{index}", condition, draw) for index in (0, 1) for condition in ("base", "wrong_think") for draw in range(3)
    }
    assert len(model.asked) == len(set(model.asked)) == 4 * 2 * 4 - len(finished)
    assert not finished & set(model.asked)
    whole = evaluator(Interrupted(opens_images=False, guess=0.5), 4).run(samples)
    assert resumed.frame.equals(whole.frame)
    assert resumed.draws().equals(whole.draws())
