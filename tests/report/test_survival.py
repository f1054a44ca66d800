"""Test AUROC tables against scikit-learn, and the share right under at least k of K conditions against a count."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from pandas.testing import assert_frame_equal
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from vlmrobust import Prompt, Report, Response, Sample, expand
from vlmrobust.functional import auroc_interval, wilson_interval
from vlmrobust.metrics import Accuracy, CorrectProbability, LetterEntropy, ThoughtLength
from vlmrobust.perturbations import AbstainOption, Casing, Spacing, WrongCaption

Make = Callable[..., Sample]
CONDITIONS = (Casing(to="upper"), Spacing(), WrongCaption())
NAMES = ["base", "casing", "spacing", "wrong_caption"]
METRICS = [Accuracy(), CorrectProbability(), LetterEntropy(), ThoughtLength()]


def report_of(answers, seed=0):
    prompts, responses = zip(*answers, strict=True)
    return Report.from_responses(prompts, responses, METRICS, seed=seed)


def simulated_report(make_pair, count=120, groups=None, **base_fields):
    """Samples whose base P(correct) predicts whether they are right under "x", and uninformative thoughts."""
    rng = np.random.default_rng(0)
    answers = []
    for index in range(count):
        sure = float(rng.uniform(0.05, 0.95))
        rest = (1 - sure) / 2
        words = int(rng.integers(1, 20))
        fields = {
            "option_logprobs": tuple(np.log([rest, sure, rest])),
            "readout": "own_thought",
            "own_think": "word " * words,
            "well_formed": True,
        }
        group = None if groups is None else f"g{index % groups}"
        right = int(sure > rest)
        answers.append(make_pair(f"s{index}", "base", right, group=group, **(fields | base_fields)))
        answers.append(make_pair(f"s{index}", "x", int(rng.random() < sure), group=group))
    return answers


def test_areas_equal_sklearn(make_pair):
    made = report_of(simulated_report(make_pair))
    table = made.survival()
    assert len(table) == 6
    assert not table.duplicated(["condition", "predictor", "population"]).any()
    frame = made.frame
    base = frame[frame["condition"] == "base"].set_index("sample_id")
    right = frame[frame["condition"] == "x"].set_index("sample_id")["accuracy"].reindex(base.index)
    scores = {
        "correct_probability": base["correct_probability"],
        "negative_letter_entropy": -base["letter_entropy"],
        "thought_length": base["thought_length"],
    }
    for row in table.to_dict("records"):
        kept = base["accuracy"] == 1 if row["population"] == "survival" else base["accuracy"] >= 0
        expected = roc_auc_score(right[kept], scores[row["predictor"]][kept])
        assert row["auroc"] == pytest.approx(expected, abs=1e-6)
        assert (row["n"], row["positives"]) == (int(kept.sum()), int(right[kept].sum()))
        assert row["negatives"] == row["n"] - row["positives"]
        interval = auroc_interval(row["auroc"], row["positives"], row["negatives"])
        assert (row["low"], row["high"]) == pytest.approx(interval)
    by = table.set_index(["population", "predictor"])["auroc"]
    assert by["all", "correct_probability"] > 0.75
    assert abs(by["all", "thought_length"] - 0.5) < 0.15


def test_saturated_probabilities_are_still_ranked(make_pair):
    answers = []
    for index in range(6):
        letters = (-20.0 - index, 0.0, -40.0)
        answers += [make_pair(f"s{index}", option_logprobs=letters), make_pair(f"s{index}", "x", int(index >= 3))]
    made = report_of(answers)
    base = made.frame.query("condition == 'base'")
    assert (base["correct_probability"] == 1).all()
    rows = made.survival().set_index(["population", "predictor"])
    assert rows.loc[("all", "correct_probability"), "auroc"] == 1
    assert rows.loc[("survival", "negative_letter_entropy"), "auroc"] == 1
    assert rows.loc[("all", "correct_probability"), "low"] < 0.9


def test_samples_of_a_group_are_resampled_together(make_pair):
    alone = report_of(simulated_report(make_pair)).survival().iloc[0]
    # Repeating every sample five times adds no information.
    repeated = [
        make_pair(f"{response.sample_id}-{copy}", prompt.condition, response.answer, group=response.sample_id, **fields)
        for prompt, response in simulated_report(make_pair)
        for fields in [{"option_logprobs": response.option_logprobs, "readout": response.readout}]
        for copy in range(5)
    ]
    grouped = report_of(repeated).survival().iloc[0]
    assert grouped["auroc"] == pytest.approx(alone["auroc"])
    assert grouped["n"] == 5 * alone["n"]
    assert grouped["high"] - grouped["low"] == pytest.approx(alone["high"] - alone["low"], rel=0.25)
    again = report_of(repeated[::-1]).survival().query("condition == 'x'").iloc[0]
    assert (again["low"], again["high"]) == pytest.approx((grouped["low"], grouped["high"]))


def test_separated_groups_have_an_interval(make_pair):
    answers = []
    for index in range(8):
        letters = (-1.0 - index, -0.5, -3.0)
        for copy in range(2):
            name = f"s{index}-{copy}"
            answers.append(make_pair(name, option_logprobs=letters, group=f"g{index}"))
            answers.append(make_pair(name, "x", int(index >= 4), group=f"g{index}"))
    row = report_of(answers).survival().iloc[0]
    assert row["auroc"] == 1
    assert (row["low"], row["high"]) == pytest.approx(auroc_interval(1.0, 4, 4))


def test_a_single_class_has_no_area_and_a_note(make_pair):
    letters = {"option_logprobs": (-1.0, -0.5, -3.0)}
    letters["own_think"] = "I look."
    answers = [make_pair("a", **letters), make_pair("b", **letters), make_pair("a", "x"), make_pair("b", "x")]
    table = report_of(answers).survival()
    assert table["auroc"].isna().all()
    assert set(table["note"]) == {"all 2 are right under x"}
    failed = [make_pair("a", **letters), make_pair("a", "x", None, status="error", error="lost")]
    assert set(report_of(failed).survival()["note"]) == {"defined for no pair"}


def test_thought_length_uses_the_pairs_with_letters_or_all_without(make_pair):
    some = simulated_report(make_pair, 20)
    prompt, response = some[0]
    some[0] = prompt, response.replace(option_logprobs=None, readout=None)
    rows = report_of(some).survival().set_index(["population", "predictor"])
    assert rows.loc[("all", "thought_length"), "n"] == rows.loc[("all", "correct_probability"), "n"] == 19
    rows = report_of(simulated_report(make_pair, 20, option_logprobs=None, readout=None)).survival()
    assert rows.query("predictor == 'thought_length' and population == 'all'")["n"].tolist() == [20]
    assert rows.query("predictor == 'correct_probability'")["n"].tolist() == [0, 0]


def test_mixed_base_read_outs_are_not_ranked(make_pair):
    some = simulated_report(make_pair, 20)
    prompt, response = some[0]
    some[0] = prompt, response.replace(readout="direct")
    rows = report_of(some).survival().set_index(["population", "predictor"])
    assert math.isnan(rows.loc[("all", "correct_probability"), "auroc"])
    note = rows.loc[("all", "correct_probability"), "note"]
    assert note == "base letters were read at different places (direct or own_thought)"
    assert not math.isnan(rows.loc[("all", "thought_length"), "auroc"])


def test_draws_are_paired_one_by_one(make_pair):
    answers = []
    for index in range(6):
        for draw in range(2):
            letters = {"option_logprobs": (-1.0, -0.2 - index - draw, -3.0)}
            answers.append(make_pair(f"s{index}", draw=draw, **letters))
            answers.append(make_pair(f"s{index}", "x", int(index + draw < 3), draw=draw))
    row = report_of(answers).survival().iloc[0]
    assert (row["n"], row["positives"], row["auroc"]) == (12, 5, 1.0)


def test_a_loaded_report_gives_the_same_tables(make_pair, tmp_path):
    answers = simulated_report(make_pair, 30, groups=10)
    answers += [
        make_pair(f"s{index}", name, index % 3) for index in range(30) for name in ("wrong_think", "wrong_think_but")
    ]
    made = report_of(answers, seed=3)
    made.save(tmp_path)
    loaded = Report.load(tmp_path)
    for table in (Report.survival, Report.hedge_recovery, Report.robust_accuracy):
        assert_frame_equal(table(loaded), table(made))
    assert not report_of(answers, seed=4).survival().equals(made.survival())


def test_no_base_and_no_condition_leave_an_empty_table(make_pair):
    table = report_of([make_pair("a")]).survival()
    assert table.empty
    assert table["positives"].dtype == "int64"
    assert set(report_of([make_pair("a", "x")]).survival()["n"]) == {0}


def test_base_auroc_uses_the_next_draw(make_pair):
    """Confidence ranks hard samples: it predicts a repeat of base as well as a condition without an effect."""
    generator, rows = np.random.default_rng(2), []
    for index in range(80):
        ease = generator.random()
        letters = {"option_logprobs": (-3.0, float(np.log(0.05 + 0.9 * ease)), -3.0), "readout": "own_thought"}
        for condition in ("base", "x"):
            for draw in range(2):
                right = int(generator.random() < ease)
                rows.append(make_pair(f"s{index:02d}", condition, right, draw=draw, **letters))
    table = report_of(rows).survival()
    row = table.query("predictor == 'correct_probability' and population == 'all'").iloc[0]
    right = {(r.sample_id, r.draw): r.answer == 1 for _, r in rows if r.condition == "base"}
    again = [right[sample, 1 - draw] for sample, draw in right]
    ease = {r.sample_id: r.option_logprobs[1] for _, r in rows}
    assert row["base_auroc"] == pytest.approx(roc_auc_score(again, [ease[sample] for sample, _ in right]))
    assert row["base_auroc"] == pytest.approx(row["auroc"], abs=0.1)
    assert row["note"] == ""
    one = report_of([pair for pair in rows if pair[1].draw == 0]).survival().iloc[0]
    assert math.isnan(one["base_auroc"])
    assert one["note"] == "base_auroc needs a second draw of base"
    greedy = [(p.replace(draw=1), r.model_copy(update={"draw": 1})) for p, r in rows if r.draw == 0]
    same = report_of([*[pair for pair in rows if pair[1].draw == 0], *greedy]).survival().iloc[0]
    assert math.isnan(same["base_auroc"])
    assert same["note"] == "base_auroc: all draws of base are alike"


def test_few_groups_have_no_interval(make_pair):
    row = report_of(simulated_report(make_pair, 40, groups=5)).survival().iloc[0]
    assert not math.isnan(row["auroc"])
    assert math.isnan(row["low"])
    assert row["note"].startswith("too few samples, or groups of them, for an interval; ")


def prompts_of(make: Make, count: int, *, draws: int = 1, **fields: object) -> list[Prompt]:
    samples = [make(f"q{number}", images=(b"x",), answer=number % 4, **fields) for number in range(count)]
    return list(expand(samples, CONDITIONS, draws=draws))


def report_with(prompts: list[Prompt], is_right: Callable[[Prompt], bool]) -> Report:
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
    table = report_with(prompts, is_right).robustness_curve()
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
    report = report_with(prompts_of(make_sample, 30, draws=2), random_correctness(5))
    assert report.robustness_curve()["value"].iloc[-1] == pytest.approx(report.robust_accuracy()["value"].item())
    alone = report.robustness_curve(["casing", "casing"])
    accuracy = report.summary.set_index(["condition", "metric"]).loc[("casing", "accuracy"), "value"]
    assert alone["value"].tolist() == pytest.approx([1.0, accuracy])
    assert alone["independent"].tolist() == pytest.approx([1.0, accuracy])


def test_chance_is_the_binomial_tail_of_the_options_shown(make_sample: Make) -> None:
    prompts = prompts_of(make_sample, 12)
    table = report_with(prompts, random_correctness(1)).robustness_curve()
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

    table = report_with(prompts_of(make_sample, 16), is_right).robustness_curve()
    assert table["value"].tolist() == pytest.approx(table["independent"].tolist())
    assert table["value"].tolist() == pytest.approx(binom.sf(np.arange(5) - 1, 4, 1 / 2).tolist())
    # The same accuracies if a sample survives all conditions or none.
    table = report_with(
        prompts_of(make_sample, 16), lambda prompt: int(prompt.sample.id[1:]) % 2 == 0
    ).robustness_curve()
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
    alone = report_with(prompts_of(make_sample, 40), random_correctness(7)).robustness_curve()
    samples = [make_sample(f"q{number}", answer=number % 4, group=f"g{number // 5}") for number in range(40)]
    grouped = report_with(list(expand(samples, CONDITIONS)), random_correctness(7)).robustness_curve()
    assert grouped["value"].equals(alone["value"])
    assert not grouped["low"][1:].equals(alone["low"][1:])


def test_invalid_conditions_are_refused(make_sample: Make) -> None:
    prompts = prompts_of(make_sample, 2)
    report = report_with(prompts, random_correctness(1))
    with pytest.raises(KeyError, match="expected one of the conditions base, casing, spacing, wrong_caption; got 'no'"):
        report.robustness_curve(["no"])
    with pytest.raises(ValueError, match="expected conditions that were scored, got none"):
        Report.from_responses([], [], [Accuracy()]).robustness_curve()
    failed = Report.from_responses(prompts, [Response.failed(prompt, "planted") for prompt in prompts], [Accuracy()])
    with pytest.raises(ValueError, match="expected samples that are scored under all of base, got none"):
        failed.robustness_curve(["base"])
