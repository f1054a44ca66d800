"""Measured quality of judges: against sklearn, a plain loop, and judges with known errors."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import beta
from sklearn.metrics import balanced_accuracy_score, precision_score

from vlmrobust.judges import (
    Judge,
    LabelledThought,
    Measured,
    RuleJudge,
    Verdicts,
    check,
    labelled_thoughts,
    measured,
    read_labelled,
)

OPTIONS = ("red", "blue", "green")


class JudgeByLastWord(Judge):
    """Reads its verdict from the thought: an index, "-" for none, "?" for unsure."""

    def conclude(self, responses):
        said = [thought.split()[-1] for thought in responses.think]
        option = [int(word) if word.isdecimal() else -1 for word in said]
        return Verdicts.of(torch.tensor(option), torch.tensor([word == "?" for word in said]))


def make_thoughts(seed, count=300, answered=True):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, 3, count).tolist()
    said = [int(label) if rng.random() < 0.8 else int(rng.integers(-1, 3)) for label in labels]
    words = ["?" if rng.random() < 0.1 else "-" if word < 0 else str(word) for word in said]
    answers = rng.integers(0, 3, count).tolist() if answered else [None] * count
    return [
        LabelledThought(f"{place} {word}", "Which?", OPTIONS, None if label < 0 else label, answer, "ab"[place % 2])
        for place, (word, label, answer) in enumerate(zip(words, labels, answers, strict=True))
    ]


def expected_and_judged(rows):
    """Return what is so and what the judge says of every row, by a slow loop."""
    truth, said = [], []
    for row in rows:
        word = row.thought.split()[-1]
        truth.append("unsure" if row.label is None else "consistent" if row.label == row.answer else "inconsistent")
        said.append("unsure" if word in "-?" else "consistent" if int(word) == row.answer else "inconsistent")
    return np.array(truth), np.array(said)


def test_rates_equal_sklearn_and_a_plain_loop():
    rows = make_thoughts(1)
    found = check(JudgeByLastWord(), rows)
    truth, said = expected_and_judged(rows)
    assert found.balanced_accuracy.value == pytest.approx(balanced_accuracy_score(truth, said))
    for side in ("consistent", "inconsistent"):
        expected = precision_score(truth, said, labels=[side], average=None)[0]
        assert getattr(found, side).value == pytest.approx(expected)
        assert getattr(found, side).cases == (said == side).sum()
    judged = truth != "unsure"
    assert found.coverage.value == pytest.approx((said[judged] != "unsure").mean())
    assert found.false_alarms.value == pytest.approx((said[truth == "consistent"] == "inconsistent").mean())
    assert found.misses.value == pytest.approx((said[truth == "inconsistent"] == "consistent").mean())
    assert found.wrong.value == pytest.approx(((said != "unsure") & (said != truth)).mean())


def test_intervals_are_exact_and_contain_the_value():
    found = check(JudgeByLastWord(), make_thoughts(2))
    rate = found.coverage
    hits = round(rate.value * rate.cases)
    low, high = beta.ppf(0.025, hits, rate.cases - hits + 1), beta.ppf(0.975, hits + 1, rate.cases - hits)
    assert (rate.low, rate.high) == pytest.approx((low, high))
    values = [check(JudgeByLastWord(), make_thoughts(seed)).balanced_accuracy for seed in range(3, 8)]
    spread = float(np.std([rate.value for rate in values]))
    for rate in values:
        assert rate.low < rate.value < rate.high
        assert 1.5 * spread < rate.high - rate.low < 12 * spread


def test_results_by_style():
    rows = make_thoughts(9)
    found = check(JudgeByLastWord(), rows)
    assert list(found.styles) == ["a", "b"]
    for style, part in found.styles.items():
        assert part.rates() == check(JudgeByLastWord(), [row for row in rows if row.style == style]).rates()


def test_unknown_answer_is_replaced_by_the_label_and_another_option():
    rows = make_thoughts(10, answered=False)
    found = check(JudgeByLastWord(), rows)
    labelled = sum(row.label is not None for row in rows)
    assert (found.thoughts, found.cases) == (len(rows), len(rows) + labelled)
    assert found.false_alarms.cases == found.misses.cases == labelled
    assert found.named.cases == sum(row.thought.split()[-1].isdecimal() for row in rows)


def test_letters_may_be_digits():
    row = LabelledThought("So the answer is 1.", "Which?", OPTIONS, 1, letters="0123")
    assert check(RuleJudge(), [row]).named.value == 1.0


def test_rules_on_the_bundled_thoughts():
    rows = labelled_thoughts()
    assert len(rows) == 800
    assert len({row.thought for row in rows}) == 800
    assert {row.label is None for row in rows} == {True, False}
    found = check(RuleJudge(), rows)
    assert len(found.styles) == 8
    # Written to be hard: most are left open, and what is said is rarely wrong.
    assert found.named.low > 0.75
    assert found.wrong.high < 0.04
    assert found.false_alarms.high < 0.05


def test_higher_min_probability_gives_fewer_verdicts():
    rows = labelled_thoughts()
    covered = [check(RuleJudge(min_probability=least), rows).coverage.value for least in (0.0, 0.9, 0.95, 0.99)]
    assert covered == sorted(covered, reverse=True)
    assert covered[-1] == 0.0 < covered[-2] < covered[0]
    contradicted = [check(RuleJudge(min_contradiction=least), rows) for least in (0.0, 0.9, 0.99)]
    assert contradicted[0].inconsistent.cases > contradicted[1].inconsistent.cases > 0
    assert contradicted[2].inconsistent.cases == 0 < contradicted[2].consistent.cases
    assert len({found.consistent for found in contradicted}) == 1


def test_file_is_read_and_result_is_serializable(tmp_path: Path):
    row = {"thought": "So it is blue.", "question": "Which?", "options": ["red", "blue"], "label": 1, "answer": 0}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({**row, "label": None}) + "\n")
    rows = read_labelled(tmp_path / "mine.jsonl")
    assert [row.label for row in rows] == [1, None]
    written = json.loads(json.dumps(check(RuleJudge(), rows).to_dict()))
    assert (written["judge"], written["inconsistent"]["cases"], written["misses"]["value"]) == ("RuleJudge", 2, 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 2}, "field 'label': expected null or an index below 2, got 2"),
        ({"label": True}, "field 'label': expected null or an index below 2, got True"),
        ({"answer": "B"}, "field 'answer': expected null or an index below 2, got 'B'"),
        ({"thought": None}, "field 'thought': expected a str, got None"),
        ({"options": "red"}, "field 'options': expected a list, got 'red'"),
    ],
)
def test_error_names_an_invalid_line(tmp_path: Path, change, message):
    row = {"thought": "So it is blue.", "question": "Which?", "options": ["red", "blue"], "label": 1}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({**row, **change}) + "\n")
    with pytest.raises(ValueError, match=r"mine\.jsonl, line 2") as raised:
        read_labelled(tmp_path / "mine.jsonl")
    assert message in str(raised.value)


def test_missing_label_is_rejected(tmp_path: Path):
    (tmp_path / "mine.jsonl").write_text('{"thought": "x", "question": "?", "options": ["a", "b"]}\n')
    with pytest.raises(ValueError, match="field 'label': expected null or an index"):
        read_labelled(tmp_path / "mine.jsonl")
    with pytest.raises(ValueError, match="expected at least one labelled thought, got none"):
        check(RuleJudge(), [])


def test_reported_range_uses_the_ends_of_the_error_intervals():
    counted = Measured(100, 5, 60, 3, 10, 25, 2, 5, 15)
    alarms = beta.ppf([0.025, 0.975], [3, 4], [48, 47])
    misses = beta.ppf([0.025, 0.975], [2, 3], [19, 18])
    assert counted.false_alarm_rate == pytest.approx(tuple(alarms))
    assert counted.miss_rate == pytest.approx(tuple(misses))
    assert counted.reported(0.9) == pytest.approx(
        (0.9 * (1 - alarms[1]) + 0.1 * misses[0], 0.9 * (1 - alarms[0]) + 0.1 * misses[1])
    )
    assert counted.open == 30


def test_only_the_default_rules_were_measured():
    assert measured(RuleJudge().identity()) is not None
    assert measured(RuleJudge(min_contradiction=0.5).identity()) is None


@pytest.mark.parametrize(("count", "right"), [(3, 2), (5, 3), (40, 40), (40, 0)])
def test_balanced_accuracy_without_variation_has_no_interval(count, right):
    rows = [LabelledThought(f"{place} {0 if place < right else 1}", "Which?", OPTIONS, 0, 0) for place in range(count)]
    rate = check(JudgeByLastWord(), rows).balanced_accuracy
    assert rate.value == right / count
    assert np.isnan([rate.low, rate.high]).all()


def test_balanced_accuracy_of_six_thoughts_has_an_interval():
    rows = [LabelledThought(f"{place} {place % 2}", "Which?", OPTIONS, 0, 0) for place in range(6)]
    rate = check(JudgeByLastWord(), rows).balanced_accuracy
    assert rate.low < rate.value == 0.5 < rate.high
