"""Test that labels are drawn at random and checked, and that estimates cover the truth."""

import json
import math
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from vlmrobust import Judge, Labels, Report, Response, Sample, expand
from vlmrobust.functional import post_stratified_rate
from vlmrobust.judges import RuleJudge, Verdicts, check
from vlmrobust.metrics import Accuracy, Consistency
from vlmrobust.perturbations import AbstainOption, WrongCaption
from vlmrobust.report import Drawn, Label
from vlmrobust.seeding import generator

OPTIONS = ("red", "blue", "green")


class ScriptedJudge(Judge):
    """Judges a thought by its last number: 0 the answer, 1 another option, below 0 unsure."""

    def conclude(self, responses):
        import torch

        codes = [int(thought.split()[-1]) for thought in responses.think]
        return Verdicts.of(torch.tensor([max(0, one) for one in codes]), torch.tensor([one < 0 for one in codes]))


def make_report(
    count: int, verdicts: Sequence[int], conditions=(), *, draws: int = 1, thought: str = "It is"
) -> Report:
    """Return a report in which every answer is option 0, with verdicts that cycle through `verdicts`."""
    samples = [
        Sample(id=f"q{number}", images=[b"x"], question=f"Which is {number}?", options=OPTIONS, answer=0)
        for number in range(count)
    ]
    prompts = list(expand(samples, list(conditions), draws=draws))
    responses = [
        Response(
            sample_id=prompt.sample.id,
            condition=prompt.condition,
            draw=prompt.draw,
            think=f"{thought} {verdicts[row % len(verdicts)]}",
            answer=0,
            status="answered",
        )
        for row, prompt in enumerate(prompts)
    ]
    return Report.from_responses(prompts, responses, [Accuracy(), Consistency(judge=ScriptedJudge())])


def label_all(thoughts: Iterable[Drawn], label: int | None = 0) -> list[Label]:
    return [thought.labelled(label) for thought in thoughts]


def test_the_draw_is_random_reproducible_and_nested():
    report = make_report(400, [0])
    many = report.draw_labels(100)
    assert report.draw_labels(30) == many[:30]
    assert report.draw_labels(100) == many
    assert report.draw_labels(100, seed=5) != many
    assert len({thought.sample_id for thought in many}) == 100
    places = [int(thought.sample_id[1:]) for thought in many]
    assert 150 < np.mean(places) < 250  # a run of the first hundred would have 50
    # The order of two samples does not depend on the other ones.
    ids = [thought.sample_id for thought in report.draw_labels(400)]
    few = [thought.sample_id for thought in make_report(200, [0]).draw_labels(200)]
    assert few == [name for name in ids if int(name[1:]) < 200]


def test_conditions_share_samples_where_possible():
    report = make_report(60, [0], [WrongCaption(), AbstainOption()])
    drawn = report.draw_labels(10)
    assert [thought.condition for thought in drawn[:3]] == ["base", "wrong_caption", "abstain_option"]
    assert len({thought.sample_id for thought in drawn}) == 10
    assert {thought.condition for thought in report.draw_labels(5, conditions=["base"])} == {"base"}
    assert drawn[2].options[-1] not in OPTIONS
    assert drawn[2].order[-1] is None
    assert drawn[2].letters == "ABCD"
    with pytest.raises(KeyError, match="expected conditions among base, wrong_caption, abstain_option; got 'bse'"):
        report.draw_labels(5, conditions=["bse"])


def test_responses_without_answer_or_thought_are_not_drawn(make_pair):
    prompts, responses = zip(
        make_pair("a", think="So blue."),
        make_pair("b", think="  "),
        make_pair("c", choice=None, think="So blue."),
        strict=True,
    )
    report = Report.from_responses(prompts, responses)
    assert [thought.sample_id for thought in report.draw_labels(9)] == ["a"]


def test_drawn_thoughts_do_not_contain_the_answer():
    (thought,) = make_report(1, [0]).draw_labels(1)
    assert not {"answer", "target", "correct", "verdict"} & set(Drawn.__slots__)
    assert thought.question == "Which is 0?"


def test_estimates_are_post_stratified_by_the_judges_verdict():
    report = make_report(300, [0, 0, 1, 0, -1])
    drawn = report.draw_labels(60)
    labels = [thought.labelled([0, 0, None, 1][place % 4]) for place, thought in enumerate(drawn)]
    table = report.consistency(Labels(seed=0, labels=labels)).set_index("verdict")
    judged = report.frame.set_index("sample_id")["consistency"].fillna(2)
    for name, wanted in (("consistent", 0), ("inconsistent", 1)):
        label_is_wanted = {label.sample_id: float(label.label == wanted) for label in labels}
        values = [label_is_wanted.get(sample, math.nan) for sample in judged.index]
        expected = post_stratified_rate(values, judged.to_numpy(), rng=generator(0, "x"))
        row = table.loc[name]
        assert row["value"] == pytest.approx(expected.value)
        assert (row["value_low"], row["value_high"]) == pytest.approx((expected.low, expected.high), abs=0.01)
        assert (row["n"], row["labelled"], row["coverage"]) == (300, 60, pytest.approx(0.8))
    assert table.loc["consistent", "judged"] == pytest.approx(0.75)
    assert table.loc["inconsistent", "judged"] == pytest.approx(0.25)
    assert table["difference"].isna().all()


def test_differences_use_pairs_labelled_on_both_sides():
    report = make_report(200, [0, 0, 0, 1], [WrongCaption()])
    drawn = report.draw_labels(40)
    labels = [one.labelled(0 if one.condition == "base" else place // 2 % 2) for place, one in enumerate(drawn)]
    table = report.consistency(Labels(seed=0, labels=labels)).set_index(["condition", "verdict"])
    row = table.loc[("wrong_caption", "consistent")]
    assert (row["base_value"], row["labelled_pairs"]) == (1.0, 40)
    assert row["difference"] == pytest.approx(row["value"] - 1.0)
    assert row["low"] < row["difference"] < row["high"] < 0
    # With fewer labels under the condition there is no estimate, but the number of missing labels.
    some = [label for label in labels if label.condition == "base"] + [
        label for label in labels if label.condition != "base"
    ][:12]
    row = (
        report.consistency(Labels(seed=0, labels=some))
        .set_index(["condition", "verdict"])
        .loc[("wrong_caption", "consistent")]
    )
    assert (
        row["note"] == "12 labels of the 30 that an interval needs; 12 labelled pairs of the 30 that an interval needs"
    )
    assert math.isnan(row["value"])


def test_each_draw_counts_as_a_response():
    report = make_report(40, [0, 1], draws=2)
    drawn = report.draw_labels(50)
    assert {thought.draw for thought in drawn} == {0, 1}
    table = report.consistency(Labels(seed=0, labels=label_all(drawn)))
    assert table["n"].tolist() == [80, 80]
    assert table["labelled"].tolist() == [50, 50]


def test_a_perfect_judge_shortens_the_interval_and_a_useless_one_does_not_bias():
    verdicts = [0] * 8 + [1] * 2
    report = make_report(1000, verdicts)
    truth = {
        sample: 0 if value == 1 else 1 for sample, value in report.frame.set_index("sample_id")["consistency"].items()
    }
    drawn = report.draw_labels(100)
    good = report.consistency(Labels(seed=0, labels=[one.labelled(truth[one.sample_id]) for one in drawn])).iloc[0]
    ones = sum(truth[one.sample_id] == 0 for one in drawn)
    low, high = proportion_confint(ones, 100, method="wilson")
    assert good["value"] == pytest.approx(0.8)
    assert good["value_high"] - good["value_low"] < 0.7 * (high - low)
    random = np.random.default_rng(0)
    labels = [one.labelled(int(random.random() > 0.8)) for one in drawn]
    useless = report.consistency(Labels(seed=0, labels=labels)).iloc[0]
    ones = sum(label.label == 0 for label in labels)
    low, high = proportion_confint(ones, 100, method="wilson")
    assert useless["value_high"] - useless["value_low"] < 1.1 * (high - low)


# --- bad input --------------------------------------------------------------------------------------------------------


def assert_refused(report: Report, labels: Labels, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        report.consistency(labels)


def test_labels_outside_the_draw_suit_a_check_only():
    report = make_report(100, [0])
    drawn = report.draw_labels(50)
    chosen = Labels(seed=0, labels=label_all(drawn[:20] + drawn[21:]))
    assert_refused(
        report,
        chosen,
        rf"condition 'base': expected labels of the first 49 thoughts that seed 0 draws, but 1 of these have none: "
        rf"sample '{drawn[20].sample_id}', condition 'base'; an estimate from chosen thoughts would be wrong",
    )
    assert len(report.labelled(chosen)) == 49
    assert_refused(
        report, chosen.replace(seed=1), "condition 'base': expected labels of the first 49 thoughts that seed 1"
    )
    assert_refused(
        report, chosen.replace(seed=None), "field 'seed': expected labels of thoughts that the report drew at"
    )
    checked = check(ScriptedJudge(), report.labelled(chosen.replace(seed=None)))
    assert (checked.cases, checked.consistent.value) == (49, 1.0)


def test_too_few_labels_are_refused_with_the_missing_number():
    report = make_report(100, [0])
    labels = Labels(seed=0, labels=label_all(report.draw_labels(29)))
    assert_refused(report, labels, "expected at least 30 labels under one condition .*, got at most 29; missing: 1")
    assert_refused(report, labels.replace(labels=()), "got at most 0; missing: 30")


def test_labels_of_other_responses_are_refused():
    report = make_report(50, [0])
    (first, *rest) = label_all(report.draw_labels(40))
    for change, message in (
        ({"sample_id": "q999"}, r"got 1 of others: sample 'q999', condition 'base'$"),
        ({"condition": "stop_think"}, r"got 1 of others: sample 'q\d+', condition 'stop_think'$"),
        ({"draw": 3}, r"got 1 of others: sample 'q\d+', condition 'base', draw 3$"),
        (
            {"thought": "0" * 16},
            "got 1 of other thoughts under the same names: sample 'q.*; the run has generated new answers",
        ),
        ({"label": 3}, r"field 'label': expected an index of an option that was shown, \[0, 1, 2\], or null; got 3"),
    ):
        changed = Labels(seed=0, labels=[first.replace(**change), *rest])
        assert_refused(report, changed, message)
    again = make_report(50, [0], thought="It is now")
    assert_refused(
        again, Labels(seed=0, labels=[first, *rest]), "got 40 of other thoughts under the same names: .*; …; the run"
    )


def test_contradictory_labels_are_refused(tmp_path):
    report = make_report(50, [0])
    labels = label_all(report.draw_labels(40))
    with pytest.raises(ValueError, match=rf"one of the labels of sample '{labels[0].sample_id}'.*, got 0 and None"):
        Labels(seed=0, labels=[*labels, labels[0].replace(label=None)])
    twice = Labels(seed=0, labels=[*labels, labels[0]])
    assert report.consistency(twice)["labelled"].tolist() == [40, 40]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "Invalid JSON"),
        ("[1]", "Input should be an object"),
        ({"format": "something"}, "field 'format': Input should be 'vlmrobust labels 1', got 'something'"),
        ({"labels": [{"sample_id": "q0"}]}, r"field 'labels\.0\.condition': Field required"),
        ({"labels": 3}, "field 'labels': Input should be a valid array, got 3"),
        ({"other": 1}, "field 'other': Extra inputs are not permitted"),
    ],
)
def test_invalid_files_are_refused_with_file_and_field(tmp_path, content, message):
    file = tmp_path / "labels.json"
    whole = {"format": "vlmrobust labels 1", "seed": 0, "labels": []}
    file.write_text(content if isinstance(content, str) else json.dumps(whole | content))
    with pytest.raises(ValueError, match=message) as raised:
        make_report(3, [0]).consistency(file)
    assert "labels.json" in str(raised.value)
    with pytest.raises(FileNotFoundError):
        make_report(3, [0]).consistency(tmp_path / "nothing.json")


def test_labels_can_be_saved_and_read(tmp_path):
    report = make_report(50, [0])
    labels = Labels(seed=0, reader="R. Eader", labels=label_all(report.draw_labels(30), None))
    assert Labels.read(labels.save(tmp_path / "labels.json")) == labels
    assert report.consistency(tmp_path / "labels.json").equals(report.consistency(labels))


def test_a_report_without_verdicts_is_refused():
    report = make_report(50, [0])
    labels = Labels(seed=0, labels=label_all(report.draw_labels(30)))
    assert_refused(report.score([Accuracy()]), labels, "expected a report with the metric 'consistency', got accuracy")
    saved = report.score([Consistency(judge=RuleJudge())])
    assert saved.consistency(labels)["coverage"].tolist() == [0.0, 0.0]


def test_labels_of_rotated_options_are_checked_as_shown():
    from vlmrobust.perturbations import rotations

    report = make_report(50, [0], rotations(3))
    drawn = [thought for thought in report.draw_labels(20) if thought.condition != "base"]
    thoughts = report.labelled(Labels(seed=None, labels=label_all(drawn, 1)))
    assert all(thought.options[thought.label] == "blue" for thought in thoughts)
    assert all(thought.options[thought.answer] == "red" for thought in thoughts)
    assert {thought.style for thought in thoughts} == {thought.condition for thought in drawn}


def test_a_seed_beyond_javascripts_integers_is_preserved():
    report = make_report(60, [0])
    drawn = report.draw_labels(30, seed=2**60 + 1)
    text = Labels(seed=2**60 + 1, labels=label_all(drawn)).model_dump_json().replace(str(2**60 + 1), f'"{2**60 + 1}"')
    assert report.consistency(Labels.model_validate_json(text))["labelled"].tolist() == [30, 30]


def test_invalid_utf8_is_refused_and_a_bom_is_accepted(tmp_path):
    report = make_report(40, [0])
    labels = Labels(seed=0, labels=label_all(report.draw_labels(30)))
    text = labels.model_dump_json()
    (tmp_path / "marked.json").write_text(text, encoding="utf-8-sig")
    assert Labels.read(tmp_path / "marked.json") == labels
    (tmp_path / "wide.json").write_text(text, encoding="utf-16")
    with pytest.raises(ValueError, match=r"labels '.*wide\.json': expected UTF-8, got something else"):
        Labels.read(tmp_path / "wide.json")


def test_two_thoughts_of_one_response_are_refused_in_either_order():
    label = make_report(40, [0]).draw_labels(1)[0].labelled(0)
    for pair in ([label, label.replace(thought="x")], [label.replace(thought="x"), label]):
        with pytest.raises(ValueError, match="expected one of the thoughts of sample"):
            Labels(seed=0, labels=pair)


def test_conditions_are_deduplicated_and_may_be_one_name():
    report = make_report(40, [0], [WrongCaption()])
    assert report.draw_labels(5, conditions=["base", "base"]) == report.draw_labels(5, conditions="base")
