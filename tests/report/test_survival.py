"""Test AUROC tables against scikit-learn on the report's own columns."""

import math

import numpy as np
import pytest
from pandas.testing import assert_frame_equal
from sklearn.metrics import roc_auc_score

from vlmrobust import Report
from vlmrobust.functional import auroc_interval
from vlmrobust.metrics import Accuracy, CorrectProbability, LetterEntropy, ThoughtLength

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
