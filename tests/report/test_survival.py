"""AUROC tables against scikit-learn on the report's own columns."""

import math

import numpy as np
import pytest
from pandas.testing import assert_frame_equal
from sklearn.metrics import roc_auc_score

from vlmrobust import Report
from vlmrobust.functional import auroc_interval
from vlmrobust.metrics import Accuracy, CorrectProbability, LetterEntropy, ThoughtLength

METRICS = [Accuracy(), CorrectProbability(), LetterEntropy(), ThoughtLength()]


def report(answers, seed=0):
    prompts, responses = zip(*answers, strict=True)
    return Report.from_responses(prompts, responses, METRICS, seed=seed)


def simulated(answer, count=120, groups=None, **base_fields):
    """Samples whose P(correct) under base tells whether they are right under "x", and thoughts that say nothing."""
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
        answers.append(answer(f"s{index}", "base", right, group=group, **(fields | base_fields)))
        answers.append(answer(f"s{index}", "x", int(rng.random() < sure), group=group))
    return answers


def test_areas_agree_with_sklearn_and_both_classes_are_counted(answer):
    made = report(simulated(answer))
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


def test_probabilities_that_saturate_still_rank(answer):
    answers = []
    for index in range(6):
        letters = (-20.0 - index, 0.0, -40.0)
        answers += [answer(f"s{index}", option_logprobs=letters), answer(f"s{index}", "x", int(index >= 3))]
    made = report(answers)
    base = made.frame.query("condition == 'base'")
    assert (base["correct_probability"] == 1).all()
    rows = made.survival().set_index(["population", "predictor"])
    assert rows.loc[("all", "correct_probability"), "auroc"] == 1
    assert rows.loc[("survival", "negative_letter_entropy"), "auroc"] == 1
    assert rows.loc[("all", "correct_probability"), "low"] < 0.9


def test_samples_of_a_group_are_resampled_together(answer):
    alone = report(simulated(answer)).survival().iloc[0]
    # Every sample five times over says no more than once.
    repeated = [
        answer(f"{response.sample_id}-{copy}", prompt.condition, response.answer, group=response.sample_id, **fields)
        for prompt, response in simulated(answer)
        for fields in [{"option_logprobs": response.option_logprobs, "readout": response.readout}]
        for copy in range(5)
    ]
    grouped = report(repeated).survival().iloc[0]
    assert grouped["auroc"] == pytest.approx(alone["auroc"])
    assert grouped["n"] == 5 * alone["n"]
    assert grouped["high"] - grouped["low"] == pytest.approx(alone["high"] - alone["low"], rel=0.25)
    again = report(repeated[::-1]).survival().query("condition == 'x'").iloc[0]
    assert (again["low"], again["high"]) == pytest.approx((grouped["low"], grouped["high"]))


def test_groups_that_are_separated_keep_an_interval(answer):
    answers = []
    for index in range(8):
        letters = (-1.0 - index, -0.5, -3.0)
        for copy in range(2):
            name = f"s{index}-{copy}"
            answers.append(answer(name, option_logprobs=letters, group=f"g{index}"))
            answers.append(answer(name, "x", int(index >= 4), group=f"g{index}"))
    row = report(answers).survival().iloc[0]
    assert row["auroc"] == 1
    assert (row["low"], row["high"]) == pytest.approx(auroc_interval(1.0, 4, 4))


def test_one_class_alone_has_no_area_and_says_so(answer):
    letters = {"option_logprobs": (-1.0, -0.5, -3.0)}
    letters["own_think"] = "I look."
    answers = [answer("a", **letters), answer("b", **letters), answer("a", "x"), answer("b", "x")]
    table = report(answers).survival()
    assert table["auroc"].isna().all()
    assert set(table["note"]) == {"all 2 are right under x"}
    failed = [answer("a", **letters), answer("a", "x", None, status="error", error="lost")]
    assert set(report(failed).survival()["note"]) == {"defined for no pair"}


def test_thought_length_is_measured_on_the_pairs_with_letters_or_on_all_where_there_are_none(answer):
    some = simulated(answer, 20)
    prompt, response = some[0]
    some[0] = prompt, response.replace(option_logprobs=None, readout=None)
    rows = report(some).survival().set_index(["population", "predictor"])
    assert rows.loc[("all", "thought_length"), "n"] == rows.loc[("all", "correct_probability"), "n"] == 19
    rows = report(simulated(answer, 20, option_logprobs=None, readout=None)).survival()
    assert rows.query("predictor == 'thought_length' and population == 'all'")["n"].tolist() == [20]
    assert rows.query("predictor == 'correct_probability'")["n"].tolist() == [0, 0]


def test_base_letters_of_several_read_outs_are_not_ranked_together(answer):
    some = simulated(answer, 20)
    prompt, response = some[0]
    some[0] = prompt, response.replace(readout="direct")
    rows = report(some).survival().set_index(["population", "predictor"])
    assert math.isnan(rows.loc[("all", "correct_probability"), "auroc"])
    note = rows.loc[("all", "correct_probability"), "note"]
    assert note == "base letters were read at different places (direct or own_thought)"
    assert not math.isnan(rows.loc[("all", "thought_length"), "auroc"])


def test_draws_are_paired_one_by_one(answer):
    answers = []
    for index in range(6):
        for draw in range(2):
            letters = {"option_logprobs": (-1.0, -0.2 - index - draw, -3.0)}
            answers.append(answer(f"s{index}", draw=draw, **letters))
            answers.append(answer(f"s{index}", "x", int(index + draw < 3), draw=draw))
    row = report(answers).survival().iloc[0]
    assert (row["n"], row["positives"], row["auroc"]) == (12, 5, 1.0)


def test_a_loaded_report_gives_the_same_tables(answer, tmp_path):
    answers = simulated(answer, 30, groups=10)
    answers += [
        answer(f"s{index}", name, index % 3) for index in range(30) for name in ("wrong_think", "wrong_think_but")
    ]
    made = report(answers, seed=3)
    made.save(tmp_path)
    loaded = Report.load(tmp_path)
    for table in (Report.survival, Report.hedge_recovery, Report.robust_accuracy):
        assert_frame_equal(table(loaded), table(made))
    assert not report(answers, seed=4).survival().equals(made.survival())


def test_no_base_and_no_condition_leave_an_empty_table(answer):
    table = report([answer("a")]).survival()
    assert table.empty
    assert table["positives"].dtype == "int64"
    assert set(report([answer("a", "x")]).survival()["n"]) == {0}


def test_base_asked_again_is_ranked_by_the_next_draw(answer):
    """Confidence ranks what is hard: it tells base asked again as well as a condition that adds nothing."""
    generator, rows = np.random.default_rng(2), []
    for index in range(80):
        ease = generator.random()
        letters = {"option_logprobs": (-3.0, float(np.log(0.05 + 0.9 * ease)), -3.0), "readout": "own_thought"}
        for condition in ("base", "x"):
            for draw in range(2):
                right = int(generator.random() < ease)
                rows.append(answer(f"s{index:02d}", condition, right, draw=draw, **letters))
    table = report(rows).survival()
    row = table.query("predictor == 'correct_probability' and population == 'all'").iloc[0]
    right = {(r.sample_id, r.draw): r.answer == 1 for _, r in rows if r.condition == "base"}
    again = [right[sample, 1 - draw] for sample, draw in right]
    ease = {r.sample_id: r.option_logprobs[1] for _, r in rows}
    assert row["base_auroc"] == pytest.approx(roc_auc_score(again, [ease[sample] for sample, _ in right]))
    assert row["base_auroc"] == pytest.approx(row["auroc"], abs=0.1)
    assert row["note"] == ""
    one = report([pair for pair in rows if pair[1].draw == 0]).survival().iloc[0]
    assert math.isnan(one["base_auroc"])
    assert one["note"] == "base_auroc needs a second draw of base"
    greedy = [(p.replace(draw=1), r.model_copy(update={"draw": 1})) for p, r in rows if r.draw == 0]
    same = report([*[pair for pair in rows if pair[1].draw == 0], *greedy]).survival().iloc[0]
    assert math.isnan(same["base_auroc"])
    assert same["note"] == "base_auroc: all draws of base are alike"


def test_of_few_groups_there_is_no_interval(answer):
    row = report(simulated(answer, 40, groups=5)).survival().iloc[0]
    assert not math.isnan(row["auroc"])
    assert math.isnan(row["low"])
    assert row["note"].startswith("too few samples, or groups of them, for an interval; ")
