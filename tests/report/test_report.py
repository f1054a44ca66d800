import json
import math

import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal

from vlmrobust import Metric, Report, expand, paper_conditions
from vlmrobust.metrics import Accuracy, CorrectProbability, default_metrics
from vlmrobust.perturbations import AbstainOption, WrongThink
from vlmrobust.testing import FakeModel

COLUMNS = [
    "sample_id", "condition", "draw", "group", "target", "answer", "distractor", "asserted", "status", "readout",
    "carrier", "text", "think", "error", "metric_error",
]  # fmt: skip
SUMMARY = ["condition", "metric", "value", "base_value", "difference", "low", "high", "n", "errors"]


class Best(Metric):
    """An aggregate that is no mean."""

    def per_sample(self, responses):
        return torch.tensor([float(len(text)) for text in responses.text])

    def aggregate(self, values, responses, weights=None):
        return float(values.max()) if weights is None else float(values[weights > 0].max())


@pytest.fixture(scope="module")
def asked():
    from vlmrobust import Sample

    samples = [
        Sample(
            id=f"q{index}",
            images=(b"not decoded",),
            question="Which?",
            options=[f"option {letter}" for letter in "abcdef"[: 2 + index % 4]],
            answer=index % 2,
            group=f"g{index // 2}" if index < 6 else None,
            metadata={"kind": "even" if index % 2 == 0 else "odd", "size": index} if index else {},
        )
        for index in range(12)
    ]
    prompts = list(expand(samples, [*paper_conditions(), WrongThink() + AbstainOption()], draws=2))
    model = FakeModel(
        opens_images=False, follow_think=0.6, contradict=0.2, truncated=0.1, unparsed=0.1, guess=0.2, accuracy=0.7
    )
    return prompts, model.respond(prompts)


@pytest.fixture(scope="module")
def report(asked):
    return Report.from_responses(*asked, [*default_metrics(), Best()], seed=4, manifest={"model": {"name": "fake"}})


def test_frame_has_a_row_per_response_and_the_columns_of_the_design(report, asked):
    prompts, responses = asked
    frame = report.frame
    assert len(report) == len(frame) == len(responses)
    assert list(frame.columns) == COLUMNS + [metric.column for metric in default_metrics()] + ["best"]
    for name in ("draw", "target", "answer", "distractor", "asserted"):
        assert frame[name].dtype == pd.Int64Dtype()
    for name in ("sample_id", "condition", "status", "text", "error"):
        assert frame[name].dtype == "string"
    assert (frame.dtypes[len(COLUMNS) :] == "float64").all()
    for row, prompt, response in zip(frame.to_dict("records"), prompts, responses, strict=True):
        assert (row["sample_id"], row["condition"], row["draw"]) == response.key
        assert row["target"] == prompt.sample.answer
        for found, expected in ((row["answer"], response.answer), (row["asserted"], prompt.asserted)):
            assert pd.isna(found) if expected is None else found == expected
        assert row["group"] == (prompt.sample.group or prompt.sample.id)
        assert row["text"] == response.text


def test_summary_has_the_columns_of_the_design_and_a_row_per_condition_and_metric(report):
    summary = report.summary
    assert list(summary.columns[:9]) == SUMMARY
    assert {"value_low", "value_high", "p", "p_adjusted", "note"} <= set(summary.columns)
    assert len(summary) == len(report.conditions) * len(report.metrics)
    assert not summary.duplicated(["condition", "metric"]).any()
    assert (summary["n"].dtype, summary["value"].dtype) == ("int64", "float64")


def test_contrast_compares_any_two_conditions(report):
    contrast = report.contrast("wrong_think+abstain_option", "wrong_think").set_index("metric").loc["accuracy"]
    frame = report.frame.groupby(["sample_id", "condition"])["accuracy"].mean().unstack()  # noqa: PD010
    expected = (frame["wrong_think+abstain_option"] - frame["wrong_think"]).mean()
    assert contrast["difference"] == pytest.approx(expected)
    assert contrast["base_value"] == pytest.approx(frame["wrong_think"].mean())
    assert contrast["p_adjusted"] == contrast["p"]
    against_base = report.contrast("wrong_think").drop(columns="p_adjusted").reset_index(drop=True)
    of_summary = report.summary.query("condition == 'wrong_think'").drop(columns="p_adjusted").reset_index(drop=True)
    assert_frame_equal(against_base, of_summary)
    with pytest.raises(KeyError, match=r"expected one of the conditions base, stop_think, .*; got 'none'"):
        report.contrast("none")


def test_by_groups_by_metadata_and_names_those_without(report):
    table = report.by("kind")
    assert table["kind"].drop_duplicates().tolist() == ["even", "odd", pd.NA]
    even = table.query("kind == 'even' and metric == 'accuracy' and condition == 'base'").iloc[0]
    assert even["n"] == 5
    part = report.frame[report.frame["sample_id"].isin([f"q{index}" for index in range(2, 12, 2)])]
    assert even["value"] == pytest.approx(part.query("condition == 'base'")["accuracy"].mean())
    with pytest.raises(KeyError, match=r"expected a column of the samples' metadata \(kind, size\); got 'colour'"):
        report.by("colour")


def test_score_measures_the_same_responses_by_other_metrics(report):
    scored = report.score([CorrectProbability(name="p")])
    assert scored.metrics == ("p",)
    assert scored.frame["p"].equals(report.frame["correct_probability"].rename("p"))
    assert scored.manifest == report.manifest


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_saved_report_comes_back_equal(report, tmp_path, as_folder):
    path = report.save(tmp_path if as_folder else tmp_path / "one.jsonl")
    loaded = Report.load(tmp_path if as_folder else path)
    assert_frame_equal(loaded.frame, report.frame, check_exact=True)
    assert_frame_equal(loaded.summary, report.summary, check_exact=True)
    assert (loaded.seed, loaded.manifest) == (4, {"model": {"name": "fake"}})
    assert str(loaded) == str(report)
    assert_frame_equal(
        loaded.score([*default_metrics(), Best()]).summary, report.summary, check_exact=True, obj="scored anew"
    )


def test_a_report_that_an_older_version_saved_can_be_read(report, tmp_path):
    path = report.save(tmp_path / "report.jsonl")
    head, *rows = [json.loads(line) for line in path.read_text().splitlines()]
    older = [
        head,
        *({name: value for name, value in row.items() if name not in ("context", "letters")} for row in rows),
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in older))
    loaded = Report.load(tmp_path)
    assert_frame_equal(loaded.frame, report.frame, check_exact=True)
    assert set(loaded.responses.context) == {""}
    assert set(loaded.responses.letters) == {"ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def test_a_saved_report_is_valid_json_without_pickle(report, tmp_path):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    lines = report.save(tmp_path / "report.jsonl").read_text().splitlines()
    assert len([json.loads(line, parse_constant=refuse) for line in lines]) == 1 + len(report)


def test_a_loaded_report_contrasts_means_and_says_what_it_lacks(report, tmp_path):
    report.save(tmp_path)
    loaded = Report.load(tmp_path).contrast("wrong_caption", "wrong_think").set_index("metric")
    assert_frame_equal(
        loaded.drop("best"), report.contrast("wrong_caption", "wrong_think").set_index("metric").drop("best")
    )
    assert math.isnan(loaded.loc["best", "difference"])
    assert loaded.loc["best", "note"] == "best is no mean over samples: score the loaded report again to have it"


def test_loading_what_is_no_report_says_so(report, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a report at .*report.parquet, found none"):
        Report.load(tmp_path)
    other = tmp_path / "other.jsonl"
    other.write_text('{"format": "something"}\n')
    with pytest.raises(ValueError, match="expected a file of format 'vlmrobust report 1', got 'something'"):
        Report.load(other)
    path = report.save(tmp_path / "report.jsonl")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ValueError, match=f"expected {len(report)} responses, got {len(report) - 1}"):
        Report.load(tmp_path)


def test_names_and_keys_that_collide_are_refused(answer):
    prompts, responses = zip(answer("a"), answer("b"), strict=True)
    with pytest.raises(ValueError, match="got 'accuracy' twice; set 'name' on one of them"):
        Report.from_responses(prompts, responses, [Accuracy(), Accuracy()])
    with pytest.raises(ValueError, match="got 'text' twice"):
        Report.from_responses(prompts, responses, [Accuracy(name="text")])
    with pytest.raises(TypeError, match="expected metrics, got str: 'accuracy'"):
        Report.from_responses(prompts, responses, ["accuracy"])
    prompts, responses = zip(answer("a"), answer("a"), strict=True)
    with pytest.raises(ValueError, match=r"got \('a', 'base', 0\) at positions 0 and 1"):
        Report.from_responses(prompts, responses)


def test_no_responses_and_no_metrics_make_an_empty_report(answer):
    empty = Report.from_responses([], [])
    assert (len(empty), len(empty.frame), len(empty.summary)) == (0, 0, 0)
    prompts, responses = zip(answer("a"), strict=True)
    assert list(Report.from_responses(prompts, responses, []).frame.columns) == COLUMNS
    assert "base" in str(Report.from_responses(prompts, responses, []))
