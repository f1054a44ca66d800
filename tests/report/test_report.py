import json
import math

import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal

from vlmrobust import Metric, Report, demo, expand, paper_conditions
from vlmrobust.judges import RuleJudge
from vlmrobust.metrics import Accuracy, BrierScore, Consistency, CorrectProbability, default_metrics
from vlmrobust.perturbations import AbstainOption, RotatedOptions, WrongThink
from vlmrobust.testing import FakeModel

COLUMNS = [
    "sample_id", "condition", "draw", "group", "target", "answer", "distractor", "asserted", "status", "readout",
    "carrier", "text", "think", "error", "metric_error", "question", "options",
]  # fmt: skip
SUMMARY = ["condition", "metric", "value", "base_value", "difference", "low", "high", "n", "errors"]


class Best(Metric):
    """An aggregate that is not a mean."""

    def per_sample(self, responses):
        return torch.tensor([float(len(text)) for text in responses.text])

    def aggregate(self, values, responses, weights=None):
        return float(values.max()) if weights is None else float(values[weights > 0].max())


@pytest.fixture(scope="module")
def prompts_and_responses():
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
def report(prompts_and_responses):
    return Report.from_responses(
        *prompts_and_responses, [*default_metrics(), Best()], seed=4, manifest={"model": {"name": "fake"}}
    )


def test_frame_has_a_row_per_response_and_the_documented_columns(report, prompts_and_responses):
    prompts, responses = prompts_and_responses
    frame = report.frame
    assert len(report) == len(frame) == len(responses)
    metrics = [metric.column for metric in default_metrics()] + ["best"]
    behind = [*(f"probability_{index}" for index in range(5)), "metadata.kind", "metadata.size"]
    assert list(frame.columns) == COLUMNS + metrics + behind
    for name in ("draw", "target", "answer", "distractor", "asserted"):
        assert frame[name].dtype == pd.Int64Dtype()
    for name in ("sample_id", "condition", "status", "text", "error"):
        assert frame[name].dtype == "string"
    assert (frame[metrics].dtypes == "float64").all()
    for row, prompt, response in zip(frame.to_dict("records"), prompts, responses, strict=True):
        assert (row["sample_id"], row["condition"], row["draw"]) == response.key
        assert row["target"] == prompt.sample.answer
        for found, expected in ((row["answer"], response.answer), (row["asserted"], prompt.asserted)):
            assert pd.isna(found) if expected is None else found == expected
        assert row["group"] == (prompt.sample.group or prompt.sample.id)
        assert row["text"] == response.text


def test_frame_has_the_prompt_and_option_probabilities(report, prompts_and_responses):
    frame = report.frame
    for row, prompt, response in zip(frame.to_dict("records"), *prompts_and_responses, strict=True):
        shown = dict(zip(prompt.order, prompt.options, strict=True))
        own = [shown[index] for index in range(len(prompt.sample.options))]
        assert row["question"] == prompt.question
        assert row["options"] == (*own, *([shown[None]] if None in shown else []))
        likely = [row[f"probability_{index}"] for index in range(5)]
        if response.option_logprobs is None or response.status not in ("answered", "abstained"):
            assert all(math.isnan(value) for value in likely)
        else:
            weights = [math.exp(logprob) for logprob in response.option_logprobs]
            assert likely[: len(own)] == pytest.approx([weight / sum(weights) for weight in weights], rel=1e-5)
            assert all(math.isnan(value) for value in likely[len(own) :])
        for key in ("kind", "size"):
            found, expected = row[f"metadata.{key}"], prompt.sample.metadata.get(key)
            assert pd.isna(found) if expected is None else found == expected
    assert "I'm not sure" in {option for options in frame["options"] for option in options}
    assert (frame["metadata.size"].dtype, frame["metadata.kind"].dtype) == (pd.Int64Dtype(), "string")
    rows = frame[frame["correct_probability"].notna()]
    picked = [row[f"probability_{row['target']}"] for row in rows.to_dict("records")]
    assert len(picked) > 50
    assert picked == rows["correct_probability"].tolist()


def test_frame_has_the_same_values_as_a_file_of_parquet(report, tmp_path):
    report.frame.to_parquet(tmp_path / "frame.parquet")
    read = pd.read_parquet(tmp_path / "frame.parquet")
    assert [tuple(options) for options in read["options"]] == report.frame["options"].tolist()
    assert_frame_equal(read.drop(columns="options"), report.frame.drop(columns="options"), check_dtype=False)


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([1, 2, None], "Int64", [1, 2, pd.NA]),
        ([1, 2.5, None], "Float64", [1.0, 2.5, pd.NA]),
        ([True, None, False], "boolean", [True, pd.NA, False]),
        (["x", None, "y"], "string", ["x", pd.NA, "y"]),
        ([True, 1, "x"], "string", ["True", "1", "x"]),
        ([10**30, 1, 2], "string", [str(10**30), "1", "2"]),
        ([["a", "é"], {"b": 1}, None], "string", ['["a", "é"]', '{"b": 1}', pd.NA]),
        ([None, None, None], "string", [pd.NA] * 3),
    ],
    ids=str,
)
def test_metadata_columns_have_the_type_of_their_values(make_pair, values, dtype, expected):
    pairs = [make_pair(f"s{index}", metadata={"of": value}) for index, value in enumerate(values)]
    found = Report.from_responses(*zip(*pairs, strict=True), []).frame["metadata.of"]
    assert found.dtype == dtype
    assert found.tolist() == expected


def test_rotated_options_are_in_the_samples_order():
    prompts = list(expand(demo.samples(3), [RotatedOptions(by=1)]))
    frame = Report.from_responses(prompts, FakeModel(accuracy=1.0).respond(prompts), []).frame
    assert {prompt.options for prompt in prompts} != set(frame["options"])
    assert [row["options"][row["answer"]] for row in frame.to_dict("records")] == [
        prompt.sample.options[prompt.sample.answer] for prompt in prompts
    ]


def test_rows_share_the_question_object(report):
    distinct = {id(question) for question in report.frame["question"].array._ndarray}
    assert len(distinct) == report.frame["question"].nunique() < len(report)


def test_the_summary_does_not_build_the_frame(prompts_and_responses):
    report = Report.from_responses(*prompts_and_responses, ["accuracy"])
    assert len(report.summary)
    assert str(report)
    assert "frame" not in vars(report)


def test_summary_has_the_documented_columns_and_rows(report):
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


def test_by_groups_by_metadata_with_na_for_missing_keys(report):
    table = report.by("kind")
    assert table["kind"].drop_duplicates().tolist() == ["even", "odd", pd.NA]
    even = table.query("kind == 'even' and metric == 'accuracy' and condition == 'base'").iloc[0]
    assert even["n"] == 5
    part = report.frame[report.frame["sample_id"].isin([f"q{index}" for index in range(2, 12, 2)])]
    assert even["value"] == pytest.approx(part.query("condition == 'base'")["accuracy"].mean())
    with pytest.raises(KeyError, match=r"expected a column of the samples' metadata \(kind, size\); got 'colour'"):
        report.by("colour")


def test_by_several_columns_is_the_summary_of_each_combination(report, prompts_and_responses):
    table = report.by("kind", "size")
    assert_frame_equal(table, report.by(["kind", "size"]))
    assert list(table.columns[:3]) == ["kind", "size", "condition"]
    assert list(table.columns[2:]) == list(report.summary.columns)
    found = list(dict.fromkeys(zip(table["kind"], table["size"], strict=True)))
    evens, odds = ["10", "2", "4", "6", "8"], ["1", "11", "3", "5", "7", "9"]  # as text
    assert found == [*(("even", size) for size in evens), *(("odd", size) for size in odds), (pd.NA, pd.NA)]
    values = report.frame.groupby(["metadata.kind", "metadata.size", "condition", "sample_id"])["accuracy"].mean()
    values = values.groupby(level=[0, 1, 2]).mean()
    rows = table[(table["metric"] == "accuracy") & table["kind"].notna()]
    assert len(rows) == len(values) == 11 * len(report.conditions)
    for row in rows.to_dict("records"):
        assert row["value"] == pytest.approx(values[row["kind"], int(row["size"]), row["condition"]], nan_ok=True)
    alone = report.by("size", "kind").query("metric == 'accuracy'")
    assert list(alone.columns[:2]) == ["size", "kind"]


def test_unknown_grouping_columns_are_refused(report):
    message = r"\(kind, size\); got 'sise', 'colour'; did you mean 'size'\?"
    with pytest.raises(KeyError, match=message):
        report.by("kind", "sise", "colour")
    for wrong in ((), ["kind", "kind"]):
        with pytest.raises(ValueError, match="expected columns of the samples' metadata, each once"):
            report.by(wrong)


def test_metrics_may_be_given_by_name(report, prompts_and_responses):
    named = Report.from_responses(
        *prompts_and_responses, ["consistency", CorrectProbability(name="p"), "brier_score"], seed=4
    )
    assert named.metrics == ("consistency", "p", "brier_score")
    metrics = [Consistency(), CorrectProbability(name="p"), BrierScore()]
    assert_frame_equal(named.summary, report.score(metrics).summary, check_exact=True)


def test_names_prefer_the_reports_own_metric(prompts_and_responses):
    judge = RuleJudge(min_contradiction=0.5)
    report = Report.from_responses(*prompts_and_responses, [Consistency(judge=judge), Best()])
    again = report.score(["consistency", "best"])
    assert again.judge == judge.identity() != RuleJudge().identity()
    assert again.frame["best"].equals(report.frame["best"])


def test_score_applies_other_metrics_to_the_same_responses(report):
    scored = report.score([CorrectProbability(name="p")])
    assert scored.metrics == ("p",)
    assert scored.frame["p"].equals(report.frame["correct_probability"].rename("p"))
    assert scored.manifest == report.manifest


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_saved_report_loads_equal(report, tmp_path, as_folder):
    path = report.save(tmp_path if as_folder else tmp_path / "one.jsonl")
    loaded = Report.load(tmp_path if as_folder else path)
    assert_frame_equal(loaded.frame, report.frame, check_exact=True)
    assert_frame_equal(loaded.summary, report.summary, check_exact=True)
    assert (loaded.seed, loaded.manifest) == (4, {"model": {"name": "fake"}})
    assert str(loaded) == str(report)
    assert_frame_equal(
        loaded.score([*default_metrics(), Best()]).summary, report.summary, check_exact=True, obj="scored anew"
    )


def test_reports_of_older_versions_can_be_read(report, tmp_path):
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


def test_a_loaded_report_contrasts_means_and_notes_missing_metrics(report, tmp_path):
    report.save(tmp_path)
    loaded = Report.load(tmp_path).contrast("wrong_caption", "wrong_think").set_index("metric")
    assert_frame_equal(
        loaded.drop("best"), report.contrast("wrong_caption", "wrong_think").set_index("metric").drop("best")
    )
    assert math.isnan(loaded.loc["best", "difference"])
    assert loaded.loc["best", "note"] == "best is no mean over samples: score the loaded report again to have it"


def test_loading_other_files_is_refused(report, tmp_path):
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


def test_duplicate_names_and_keys_are_refused(make_pair):
    prompts, responses = zip(make_pair("a"), make_pair("b"), strict=True)
    with pytest.raises(ValueError, match="got 'accuracy' twice; set 'name' on one of them"):
        Report.from_responses(prompts, responses, [Accuracy(), Accuracy()])
    with pytest.raises(ValueError, match="got 'text' twice"):
        Report.from_responses(prompts, responses, [Accuracy(name="text")])
    for name in ("question", "metadata.kind", "probability_0"):
        with pytest.raises(ValueError, match=f"got '{name}' twice"):
            Report.from_responses(prompts, responses, [Accuracy(name=name)])
    with pytest.raises(TypeError, match="expected metrics, or their names, got int: 3"):
        Report.from_responses(prompts, responses, [3])
    prompts, responses = zip(make_pair("a"), make_pair("a"), strict=True)
    with pytest.raises(ValueError, match=r"got \('a', 'base', 0\) at positions 0 and 1"):
        Report.from_responses(prompts, responses)


def test_no_responses_or_no_metrics_give_an_empty_report(make_pair):
    empty = Report.from_responses([], [])
    assert (len(empty), len(empty.frame), len(empty.summary)) == (0, 0, 0)
    prompts, responses = zip(make_pair("a"), strict=True)
    behind = ["probability_0", "probability_1", "probability_2"]
    assert list(Report.from_responses(prompts, responses, []).frame.columns) == COLUMNS + behind
    assert "base" in str(Report.from_responses(prompts, responses, []))
