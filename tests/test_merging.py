"""Runs grow: whatever calls made them, and on how many machines, a directory says what one call would have said."""

import itertools
import json
import logging
import re
import shutil

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmrobust import Evaluator, Report, merge_runs
from vlmrobust.judges import Judge, Verdicts
from vlmrobust.locking import DirectoryInUseError, DirectoryLock
from vlmrobust.metrics import (
    Accuracy,
    BrierScore,
    Consistency,
    ConsistencyCoverage,
    CorrectProbability,
    ExpectedCalibrationError,
    FlipRate,
    Metric,
    RobustAccuracy,
)
from vlmrobust.perturbations import EarlyAnswer, StopThink, WrongCaption, WrongThink
from vlmrobust.report.files import last_report_file
from vlmrobust.testing import FakeModel

STOP, THINK, CAPTION = StopThink(), WrongThink(), WrongCaption()
FIRST = [Accuracy(), FlipRate(), Consistency()]
LATER = [CorrectProbability(), RobustAccuracy()]


@pytest.fixture(scope="module")
def samples(make_sample):
    """Seven groups, enough for intervals."""
    return [
        make_sample(sample_id=f"q{n}", images=[b"not decoded"], group=f"scene {min(n, 2 + n // 2)}", metadata={"n": n})
        for n in range(9)
    ]


def model():
    return FakeModel(opens_images=False, accuracy=0.6, follow_think=0.5, guess=0.4, contradict=0.3)


def call(out, samples, conditions=(STOP, THINK, CAPTION), metrics=(*FIRST, *LATER), draws=2, seed=0):
    """Return the report of a call, and how many prompts it asked."""
    asked = model()
    report = Evaluator(asked, list(conditions), list(metrics), draws=draws, batch_size=3, seed=seed).run(samples, out)
    return report, len(asked.asked)


def ordered(table, *names):
    return table.sort_values(list(names)).reset_index(drop=True)


def assert_equal(grown, whole):
    """Same rows and columns, in whatever order they came."""
    assert set(grown.metrics) == set(whole.metrics)
    keys = ("sample_id", "condition", "draw")
    columns = list(whole.frame.columns)
    pd.testing.assert_frame_equal(ordered(grown.frame[columns], *keys), ordered(whole.frame, *keys))
    of_rows = ("condition", "metric")
    pd.testing.assert_frame_equal(ordered(grown.summary, *of_rows), ordered(whole.summary, *of_rows), rtol=1e-9)
    assert dict(zip(grown.responses.sample_id, grown.responses.metadata, strict=True)) == dict(
        zip(whole.responses.sample_id, whole.responses.metadata, strict=True)
    )


def test_a_run_in_six_calls_and_two_directories_equals_the_one_in_one(samples, tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    asked = [
        call(a, samples[:3], [STOP], FIRST, draws=1)[1],
        call(a, samples[3:5], [STOP], FIRST, draws=1)[1],  # more samples, named alone
        call(a, samples[:5], [THINK, CAPTION], FIRST, draws=1)[1],  # more conditions, named alone
        call(a, samples[:5], metrics=FIRST)[1],  # more draws
        call(a, samples[:5], metrics=LATER)[1],  # more metrics, named alone
        call(a, samples[1:2], [THINK], [Accuracy()], draws=1)[1],  # and less of everything
    ]
    assert asked == [3 * 2, 2 * 2, 5 * 2, 5 * 4, 0, 0]
    assert len(Report.load(a)) == 5 * 4 * 2
    call(b, samples[5:])
    merged = merge_runs([a, b], tmp_path / "c")
    whole, _ = call(tmp_path / "whole", samples)
    assert_equal(merged, whole)
    loaded = Report.load(tmp_path / "c")
    assert_equal(loaded, whole)
    assert [*loaded.frame["sample_id"]] == [*whole.frame["sample_id"]]
    assert loaded.conditions == ("base", "stop_think", "wrong_think", "wrong_caption")
    assert (loaded.manifest["draws"], whole.manifest["draws"]) == (2, 2)
    again, asked_again = call(tmp_path / "c", samples)
    assert asked_again == 0
    assert_equal(again, whole)


def test_metrics_that_are_not_means_are_recomputed(samples, tmp_path):
    """A loaded report has no metric that could put resamples together, but the settings of one."""
    area = ExpectedCalibrationError(bins=4, name="ece")
    call(tmp_path / "run", samples[:6], [], [area], draws=1)
    call(tmp_path / "run", samples[6:], [], [Accuracy()], draws=1)
    whole, _ = call(tmp_path / "whole", samples, [], [area, Accuracy()], draws=1)
    assert_equal(Report.load(tmp_path / "run"), whole)
    assert whole.summary["value_low"].notna().any()


CALLS = {
    "samples": lambda out, samples: call(out, samples[4:], [STOP], FIRST, draws=1),
    "a condition": lambda out, samples: call(out, samples, [CAPTION], FIRST, draws=1),
    "all conditions of some": lambda out, samples: call(out, samples[2:6], metrics=FIRST, draws=1),
    "draws": lambda out, samples: call(out, samples, metrics=FIRST, draws=2),
    "metrics": lambda out, samples: call(out, samples[:3], [THINK], LATER, draws=1),
    "less": lambda out, samples: call(out, samples[:1], [STOP], [Accuracy()], draws=1),
}


@settings(max_examples=5)
@given(order=st.permutations(list(CALLS)), split=st.integers(1, len(CALLS)))
def test_the_order_of_the_calls_and_the_machine_do_not_matter(samples, tmp_path_factory, order, split):
    folder = tmp_path_factory.mktemp("runs")
    machines = {order[:split][-1]: "a"} | {name: "a" if place < split else "b" for place, name in enumerate(order)}
    for name in order:
        CALLS[name](folder / machines[name], samples)
    found = sorted({*machines.values()})
    grown = (
        merge_runs([folder / name for name in found], folder / "both") if len(found) > 1 else Report.load(folder / "a")
    )
    whole, _ = call(folder / "whole", samples, metrics=[*FIRST, *LATER])
    assert_equal(grown, whole)


def test_a_call_reports_on_what_it_names(samples, tmp_path, caplog):
    call(tmp_path, samples[:4], [STOP, THINK])
    caplog.set_level(logging.INFO)
    report, asked = call(tmp_path, samples[3:], [CAPTION], [Accuracy()], draws=1)
    assert asked == 5 + 6
    assert (report.conditions, report.metrics, len(report)) == (("base", "wrong_caption"), ("accuracy",), 12)
    assert_equal_tables(Report.load(last_report_file(tmp_path)), report)
    told = [record.getMessage() for record in caplog.records if "more than this call names" in record.message]
    assert re.search(
        r"\(23 of its 24 responses; samples q0, q1, q2; conditions stop_think, wrong_think; draws 1;", told[0]
    )
    whole = Report.load(tmp_path)
    assert len(whole) == 4 * 3 * 2 + 12 - 1  # base of q3 was there
    assert whole.frame["accuracy"].notna().all()


def assert_equal_tables(one, other):
    pd.testing.assert_frame_equal(one.frame, other.frame)
    pd.testing.assert_frame_equal(one.summary, other.summary)


def test_groups_and_metadata_are_those_of_the_last_call(samples, tmp_path):
    call(tmp_path, samples[:4], [STOP])
    moved = [sample.replace(group="one", metadata={"n": -1}) for sample in samples[:2]]
    call(tmp_path, moved, [THINK])
    loaded = Report.load(tmp_path)
    groups = {sample: {*of_rows} for sample, of_rows in loaded.frame.groupby("sample_id")["group"]}
    assert groups == {"q0": {"one"}, "q1": {"one"}, "q2": {"scene 2"}, "q3": {"scene 3"}}
    assert {metadata["n"] for metadata in loaded.responses.metadata[: 2 * 6]} == {-1}


class Length(Metric):
    """One's own: a loaded report cannot make it again."""

    factor: float = 1.0

    def per_sample(self, responses):
        return torch.tensor([self.factor * len(text) for text in responses.text])


def test_a_metric_of_ones_own_stands_where_it_was_measured(samples, tmp_path, caplog):
    measured, _ = call(tmp_path, samples[:4], [STOP], [Accuracy(), Length()], draws=1)
    call(tmp_path, samples[4:], [STOP], [Accuracy()], draws=1)
    loaded = Report.load(tmp_path)
    assert list(loaded.frame["length"][:8]) == list(measured.frame["length"])
    assert loaded.frame["length"][8:].isna().all()
    assert loaded.frame["metric_error"][8:].str.contains("no call that named this response named the metric").all()
    assert loaded.frame["metric_error"][:8].isna().all()
    assert "metric 'length' is not measured on 10 of 18 responses" in caplog.text
    call(tmp_path, samples[:1], [STOP], [Length()], draws=1)  # whose author is here: it is measured on all
    assert Report.load(tmp_path).frame["length"].notna().all()


def test_a_metric_that_is_set_otherwise_is_told_and_takes_nothing_away(samples, tmp_path, caplog):
    before, _ = call(tmp_path, samples[:4], [STOP], [Length()])
    report, _ = call(tmp_path, samples[:2], [STOP], [Length(factor=2.0)])
    assert list(report.frame["length"]) == list(2 * before.frame["length"][:8])
    assert list(Report.load(tmp_path).frame["length"]) == list(before.frame["length"])
    told = caplog.text
    assert re.search(r"report\.\w+: metric 'length', field 'factor': expected 1.0, as it was measured, got 2.0", told)
    caplog.clear()
    call(tmp_path, samples[:4], [STOP], [Length(factor=2.0)])  # names all of it
    assert list(Report.load(tmp_path).frame["length"]) == list(2 * before.frame["length"])
    assert (
        "field 'factor': expected 1.0, as it was measured, got 2.0; all 16 responses are measured again" in caplog.text
    )


class First(Judge):
    """Costly: every thought that it reads is counted."""

    def conclude(self, responses):
        import torch

        READ.append(len(responses))
        return Verdicts.of(
            torch.zeros(len(responses), dtype=torch.int64), torch.zeros(len(responses), dtype=torch.bool)
        )


READ = []


def test_a_costly_judge_reads_what_a_call_names_and_nothing_twice(samples, tmp_path, caplog):
    judged = [Accuracy(), Consistency(judge=First()), ConsistencyCoverage(judge=First())]
    READ.clear()
    call(tmp_path / "a", samples[:3], [STOP], judged, draws=1)
    of_first = sum(READ)
    call(tmp_path / "a", samples[3:4], [STOP], judged, draws=1)
    call(tmp_path / "b", samples[4:], [STOP], judged, draws=1)
    read = sum(READ)
    merged = merge_runs([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    assert 0 < of_first < read == sum(READ)
    assert merged.judge == {"class": "First"} == Report.load(tmp_path / "c").judge
    report, _ = call(tmp_path / "c", samples, [STOP], judged, draws=1)
    assert sum(READ) == read  # verdicts are merged too
    assert_equal_tables(Report.load(tmp_path / "c"), report)
    assert merged.frame.equals(report.frame)
    call(tmp_path / "c", samples, [STOP, THINK], [Accuracy()], draws=1)
    grown = Report.load(tmp_path / "c").frame
    assert sum(READ) == read
    assert (
        grown.query("condition != 'wrong_think'")["consistency"]
        .reset_index(drop=True)
        .equals(merged.frame["consistency"])
    )
    assert "metric 'consistency' is not measured on 9 of 27 responses" in caplog.text


def test_metrics_join_without_a_model(samples, tmp_path):
    whole, _ = call(tmp_path / "whole", samples[:4])
    call(tmp_path / "run", samples[:4], metrics=FIRST)
    Report.load(tmp_path / "run").score(LATER).save(tmp_path / "run")
    assert_equal(Report.load(tmp_path / "run"), whole)
    elsewhere = whole.save(tmp_path / "elsewhere.jsonl")
    assert_equal_tables(Report.load(elsewhere), whole)


def test_what_the_last_version_left_beside_the_report_joins_it(samples, tmp_path):
    """Of two calls that named other samples, the second one's report was the part, and in no other."""
    call(tmp_path / "run", samples[:3], [STOP])
    call(tmp_path / "more", samples[3:6], [STOP])
    file = last_report_file(tmp_path / "more")
    shutil.copytree(tmp_path / "run", tmp_path / "old")
    for kind in ("responses", "samples"):
        shutil.copy(tmp_path / "more" / f"{kind}-000.jsonl", tmp_path / "old" / f"{kind}-001.jsonl")
    shutil.copy(file, tmp_path / "old" / file.name.replace("report.", "report.part."))
    call(tmp_path / "old", samples[6:7], [STOP])
    assert set(Report.load(tmp_path / "old").frame["sample_id"]) == {f"q{number}" for number in range(7)}


def test_reports_from_before_settings_were_saved_grow_as_well(samples, tmp_path):
    file = call(tmp_path, samples[:4], [STOP], FIRST)[0].save(tmp_path / "report.jsonl")
    kept = last_report_file(tmp_path)
    if kept != file:
        kept.unlink()
    head, *rows = file.read_text().splitlines()
    about = json.loads(head)
    for metric in about["metrics"]:
        metric.pop("settings")
    file.write_text("\n".join([json.dumps(about), *rows]) + "\n")
    call(tmp_path, samples[4:], [STOP], [BrierScore()])
    whole, _ = call(tmp_path / "whole", samples, [STOP], [*FIRST, BrierScore()])
    found = Report.load(tmp_path)
    assert found.frame[["accuracy", "flip_rate", "consistency"]].equals(
        whole.frame[["accuracy", "flip_rate", "consistency"]]
    )
    assert found.frame["brier_score"].equals(whole.frame["brier_score"])


# --- two directories that do not fit --------------------------------------------------------------------------------


@pytest.fixture
def two(samples, tmp_path):
    """Return a function that makes two directories which have some samples in common."""

    def make_two(second=None, **changes):
        call(tmp_path / "a", samples[:4], [STOP])
        call(tmp_path / "b", second or samples[2:6], [STOP], **changes)
        return [tmp_path / "a", tmp_path / "b"]

    return make_two


def with_changes(samples, **changes):
    return [samples[2].replace(**changes), *samples[3:6]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"question": "Which one?"},
            r"b/samples-000.jsonl, line 1: sample 'q2', field 'question': expected 'Which colour is the cube\?', as in "
            r".*a/samples-000.jsonl, line 3, got 'Which one\?'; another sample needs another id",
        ),
        ({"answer": 2}, "sample 'q2', field 'answer': expected 1, as in .*, got 2"),
        ({"images": [b"another"]}, r"sample 'q2', field 'images\[0\]': expected '\w+', as in"),
        (
            {"group": "alone"},
            r"b/report.\w+, response 1: sample 'q2', field 'group': expected 'scene 2', as in .*a/report.\w+, "
            "response 9, got 'alone'",
        ),
    ],
)
def test_a_changed_sample_is_named_by_file_line_and_field(two, samples, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        merge_runs(two(with_changes(samples, **changes)), tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_other_metadata_are_counted_and_the_last_stand(two, samples, tmp_path, caplog):
    merged = merge_runs(two(with_changes(samples, metadata={"n": 20})), tmp_path / "c")
    assert "metadata of 1 samples differ; the last directory's are used" in caplog.text
    found = dict(zip(merged.responses.sample_id, merged.responses.metadata, strict=True))
    assert [found[f"q{number}"]["n"] for number in range(6)] == [0, 1, 20, 3, 4, 5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"seed": 3},
            r"b/manifest.json and .*a/manifest.json: field 'seed': expected 0, .* got 3; Report",
        ),
        ({"conditions": [StopThink(thought="Stop.")]}, "field 'conditions.stop_think.thought'"),
    ],
)
def test_other_runs_are_refused(samples, tmp_path, changes, message):
    call(tmp_path / "a", samples[:2], [STOP])
    call(tmp_path / "b", samples[2:4], **{"conditions": [STOP]} | changes)
    with pytest.raises(ValueError, match=message):
        merge_runs([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    assert not (tmp_path / "c").exists()


def rewritten(folder, change):
    """Let a run have answered otherwise, on disk and in its report."""
    for file in (folder / "responses-000.jsonl",):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for row in rows:
            change(row["response"])
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_other_answers_are_refused_or_counted_and_left_out_with_all_of_their_sample(two, samples, tmp_path, caplog):
    folders = two()

    def otherwise(response):
        if (response["sample_id"], response["condition"], response.get("draw", 0)) == ("q3", "stop_think", 1):
            response["text"] = "Something else."

    rewritten(folders[1], otherwise)
    message = (
        r"b/responses-000.jsonl, line \d+: sample 'q3', condition 'stop_think', draw 1, field 'text': expected '.*', "
        r"as in .*a/responses-00\d.jsonl, line \d+, got 'Something else.'; so 1 sample in all; with differing='first'"
    )
    with pytest.raises(ValueError, match=message):
        merge_runs(folders, tmp_path / "c")
    assert not (tmp_path / "c").exists()
    merged = merge_runs(folders, tmp_path / "c", differing="first")
    assert "b: left out 4 answers to 1 samples that differ from those of an earlier directory" in caplog.text
    whole, _ = call(tmp_path / "whole", samples[:6], [STOP])
    assert_equal(merged, whole)
    assert call(tmp_path / "c", samples[:6], [STOP])[1] == 0


def test_rounding_differences_between_machines_are_accepted(two, tmp_path):
    folders = two()

    def nearly(response):
        response["option_logprobs"] = [value * (1 + 1e-7) for value in response["option_logprobs"]]

    rewritten(folders[1], nearly)
    assert len(merge_runs(folders, tmp_path / "c")) == 6 * 2 * 2


def test_a_metric_that_two_directories_set_otherwise_is_told(samples, tmp_path):
    for name, metric, part in (("a", Length(), samples[:2]), ("b", Length(factor=3.0), samples[2:])):
        call(tmp_path / name, part, [STOP], [metric])
    message = r"b/report.\w+: metric 'length', field 'factor': expected 1.0, as it was measured, got 3.0, and .*a/"
    with pytest.raises(ValueError, match=message):
        merge_runs([tmp_path / "a", tmp_path / "b"], tmp_path / "c")


def test_failed_calls_give_way_to_answers_and_are_kept_where_there_is_none(samples, tmp_path):
    from vlmrobust.types import Response

    class Failing(FakeModel):
        def identity(self):
            return FakeModel.identity(model()) | {"class": "vlmrobust.testing.fake_model.FakeModel"}

        def respond(self, prompts):
            said = super().respond(prompts)
            return [
                Response.failed(prompt, f"no {prompt.sample.id}") if prompt.sample.id in ("q1", "q5") else response
                for prompt, response in zip(prompts, said, strict=True)
            ]

    fields = model().model_dump()
    Evaluator(Failing(**fields), [STOP], FIRST).run(samples[:2], tmp_path / "a")
    Evaluator(model(), [STOP], FIRST).run(samples[1:4], tmp_path / "b")
    Evaluator(Failing(**fields), [STOP], FIRST).run(samples[5:6], tmp_path / "d")
    merged = merge_runs([tmp_path / name for name in "abd"], tmp_path / "c")
    status = {sample: {*of_rows} for sample, of_rows in merged.frame.groupby("sample_id")["status"]}
    assert status == {**{f"q{number}": {"answered"} for number in range(4)}, "q5": {"error"}}
    lines = (tmp_path / "c" / "responses-000.jsonl").read_text().splitlines()
    assert len(lines) == len(merged)
    _, asked = call(tmp_path / "c", samples[:4], [STOP], FIRST, draws=1)
    assert asked == 0
    _, asked = call(tmp_path / "c", samples[5:6], [STOP], FIRST, draws=1)
    assert asked == 2
    assert set(Report.load(tmp_path / "c").frame["status"]) == {"answered"}


def test_directories_are_added_to_one_that_holds_a_run(two, samples, tmp_path):
    a, b = two()
    before = {file.name: file.read_bytes() for file in a.glob("*-000.jsonl")}
    merged = merge_runs([b], a)
    assert before == {name: (a / name).read_bytes() for name in before}
    whole, _ = call(tmp_path / "whole", samples[:6], [STOP])
    assert_equal(merged, whole)
    sizes = {file.name: file.stat().st_size for file in a.glob("*.jsonl") if "report" not in file.name}
    assert_equal(merge_runs([a, b], a), whole)  # once more: nothing is there twice
    assert sizes == {file.name: file.stat().st_size for file in a.glob("*.jsonl") if "report" not in file.name}


def test_a_merge_that_was_cut_off_is_finished_by_the_same_call(two, samples, tmp_path):
    folders = two()
    merge_runs(folders, tmp_path / "c")
    last_report_file(tmp_path / "c").unlink()
    file = tmp_path / "c" / "responses-000.jsonl"
    file.write_bytes(file.read_bytes()[:-1500])
    merge_runs(folders, tmp_path / "c")
    whole, asked = call(tmp_path / "c", samples[:6], [STOP])
    assert asked == 0
    assert_equal(Report.load(tmp_path / "c"), whole)


def test_conditions_that_need_base_stay_with_their_base(samples, tmp_path):
    early = EarlyAnswer()
    call(tmp_path / "a", samples[:4], [])
    call(tmp_path / "b", samples[2:6], [early])
    merge_runs([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    report, asked = call(tmp_path / "c", samples[:6], [early])
    assert asked == 2 * 2
    whole, _ = call(tmp_path / "whole", samples[:6], [early])
    assert_equal(report, whole)


def test_answers_of_a_call_that_was_not_finished_are_kept_and_told(samples, tmp_path, caplog):
    a, b = tmp_path / "a", tmp_path / "b"
    call(a, samples[:2], [STOP], draws=1)
    call(b, samples[2:4], [STOP], draws=1)
    last_report_file(b).unlink()
    merged = merge_runs([a, b], tmp_path / "c")
    assert len(merged) == 4
    assert f"{b}: 4 of 4 answers are not in any report, as their call did not finish" in caplog.text
    report, asked = call(tmp_path / "c", samples[:4], [STOP], draws=1)
    assert (len(report), asked) == (8, 0)
    last_report_file(a).unlink()
    with pytest.raises(FileNotFoundError, match=r"expected a report in one of .*a, .*b, found none"):
        merge_runs([a, b], tmp_path / "d")


def test_files_that_are_not_merged_are_logged(two, tmp_path, caplog):
    folders = two()
    (folders[0] / "report-rules.jsonl").write_text("{}\n")
    (folders[0] / "run.toml").write_text("")
    merge_runs(folders, tmp_path / "c")
    assert f"{folders[0]}: not merged, and to be made again: report-rules.jsonl" in caplog.text
    assert "run.toml" not in caplog.text


def test_invalid_directories_are_refused(two, tmp_path):
    a, b = two()
    with pytest.raises(FileNotFoundError, match=r"run directory .*no: expected a run \(manifest.json\), found none"):
        merge_runs([a, tmp_path / "no"], tmp_path / "c")
    with pytest.raises(ValueError, match=r"expected at least two run directories, got .*a$"):
        merge_runs([a, a], tmp_path / "c")
    with pytest.raises(ValueError, match="field 'differing': expected 'refuse' or 'first', got 'last'"):
        merge_runs([a, b], tmp_path / "c", differing="last")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"field 'out': expected a new directory, or one that holds a run, got .*c"):
        merge_runs([a, b], tmp_path / "c")


def test_a_directory_that_is_in_use_is_not_merged(two, tmp_path):
    for folder, other in itertools.permutations(two()):
        with DirectoryLock(other), pytest.raises(DirectoryInUseError, match=str(other)):
            merge_runs([folder, other], tmp_path / "c")
    assert not (tmp_path / "c").exists()
