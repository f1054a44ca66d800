"""What a run directory holds and no report has is counted and said, and what is reported is not read again."""

import json
import logging
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner
from unreported_run import SAMPLES, run

from vlmrobust import Evaluator, Report, merge_runs, unreported
from vlmrobust.cli import app
from vlmrobust.jsonl import batches
from vlmrobust.metrics import Accuracy, CorrectProbability
from vlmrobust.models.base import RefusedError
from vlmrobust.perturbations import StopThink, WrongCaption, WrongThink
from vlmrobust.report.files import last_report_file
from vlmrobust.testing import FakeModel
from vlmrobust.unreported import Unreported


def run_and_kill(folder, when):
    script = Path(__file__).parent / "kills" / "unreported_run.py"
    done = subprocess.run([sys.executable, script, folder, when], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(
    ("when", "counts"),
    [
        ("answered", {"base": 6, "stop_think": 6, "wrong_think": 6}),
        ("answering", {"base": 4, "stop_think": 4, "wrong_think": 4}),
    ],
)
def test_a_run_that_was_killed_before_its_report_says_what_it_holds(tmp_path, when, counts):
    run_and_kill(tmp_path, when)
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    told = rf"found none; {sum(counts.values())} responses that the run directory holds are in no report \({listed}\)"
    with pytest.raises(FileNotFoundError, match=told):
        Report.load(tmp_path)
    shown = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert shown.exit_code == 2
    assert re.search(told, " ".join(shown.stderr.split()))
    whole = run(tmp_path)
    assert len(whole) == 18
    assert not Report.load(tmp_path).unreported


@pytest.mark.parametrize(
    ("when", "counts"),
    [
        ("answered", {"base": 4, "stop_think": 4, "wrong_think": 6}),
        ("answering", {"base": 2, "stop_think": 2, "wrong_think": 4}),
    ],
)
def test_what_a_killed_call_adds_to_a_report_is_counted_wherever_it_is_shown(tmp_path, caplog, when, counts):
    run(tmp_path, samples=SAMPLES[:2], conditions=[StopThink()])
    caplog.clear()
    assert not Report.load(tmp_path).unreported
    assert not caplog.records
    run_and_kill(tmp_path, when)
    report = Report.load(tmp_path)
    assert len(report) == 4
    assert report.unreported == Unreported(counts)
    said = str(report.unreported)
    assert f"{sum(counts.values())} responses that the run directory holds are in no report (" in said
    assert "The same call, made again, asks only what is missing and reports all of it." in said
    assert [record.getMessage() for record in caplog.records] == [f"{tmp_path}: {said}"]
    assert [finding.text for finding in report.findings() if finding.kind == "unreported"] == [said]
    assert "are in no report" in str(report)
    assert "are in no report" in report._repr_html_()
    assert said in report.to_markdown().replace("\\", "")
    assert said in report.to_html()
    assert report.score([CorrectProbability()]).unreported == report.unreported
    assert Report.concat([report], ["one"]).unreported == report.unreported
    again = run(tmp_path)
    assert (len(again), len(Report.load(tmp_path))) == (18, 18)
    assert not again.unreported
    assert not Report.load(tmp_path).unreported


def test_a_kill_between_report_and_note_costs_reading_alone(tmp_path):
    run_and_kill(tmp_path, "written")
    assert not (tmp_path / "reported.json").exists()
    report = Report.load(tmp_path)
    assert (len(report), len(report.unreported)) == (18, 0)


def test_a_call_that_failed_and_a_smaller_one_after_it(tmp_path, caplog):
    class Refusing(FakeModel):
        def identity(self):
            return FakeModel(opens_images=False).identity()

        def respond(self, prompts):
            if any(prompt.sample.id == "q2" for prompt in prompts):
                raise RefusedError("no more")
            return super().respond(prompts)

    evaluator = Evaluator(Refusing(opens_images=False), [StopThink(), WrongThink()], [Accuracy()], batch_size=2)
    with pytest.raises(RefusedError):
        evaluator.run(SAMPLES, tmp_path)
    caplog.clear()
    less = run(tmp_path, samples=SAMPLES[:1], conditions=[StopThink()])
    assert len(less) == 2
    expected = Unreported({"base": 1, "stop_think": 1, "wrong_think": 2})
    assert less.unreported == expected  # it is all that is reported of the directory
    assert f"run directory {tmp_path}: {less.unreported}" in caplog.text
    other = run(tmp_path, samples=SAMPLES[3:4], conditions=[StopThink()])
    assert not other.unreported  # it is about a part of what is reported
    assert Report.load(tmp_path).unreported == expected
    run(tmp_path, samples=SAMPLES[:1], conditions=[StopThink()])
    assert Report.load(tmp_path).unreported == expected
    run(tmp_path, samples=SAMPLES[:2], conditions=[WrongThink()])
    assert Report.load(tmp_path).unreported == Unreported({"stop_think": 1})
    run(tmp_path)
    assert not Report.load(tmp_path).unreported


def test_failed_calls_are_told_apart_and_answers_to_them_are_found(tmp_path, make_sample):
    class Failing(FakeModel):
        def identity(self):
            return FakeModel(opens_images=False).identity()

        def respond(self, prompts):
            raise OSError("gone")

    run(tmp_path, samples=SAMPLES[:1], conditions=[])
    Evaluator(Failing(opens_images=False), [], [Accuracy()]).run(SAMPLES[1:2], tmp_path)
    assert not Report.load(tmp_path).unreported  # failed, and in the report as such
    kept = {name: (tmp_path / name).read_bytes() for name in ("report.parquet", "reported.json")}
    failed = [
        {"prompt": "a", "batch": [0, 1], "response": {"sample_id": "q3", "condition": "base", "status": "error"}},
        {"prompt": "a", "batch": [0, 1], "response": {"sample_id": "q4", "condition": "base", "status": "error"}},
    ]
    (tmp_path / "responses-100.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in failed))
    found = Report.load(tmp_path).unreported
    assert found == Unreported({"base": 2}, failed=2)
    assert "(base 2; 2 of them failed calls)" in str(found)
    # What is in the report as failed was answered since, by a call that was killed.
    run(tmp_path, samples=SAMPLES[1:2], conditions=[])
    for name, content in kept.items():
        (tmp_path / name).write_bytes(content)
    assert Report.load(tmp_path).unreported == Unreported({"base": 3}, failed=2)


def test_draws_are_counted_each(tmp_path):
    model = FakeModel(opens_images=False)
    Evaluator(model, [], [Accuracy()], draws=1).run(SAMPLES[:2], tmp_path)
    kept = (tmp_path / "report.parquet").read_bytes()
    Evaluator(model, [], [Accuracy()], draws=3).run(SAMPLES[:2], tmp_path)
    (tmp_path / "report.parquet").write_bytes(kept)
    assert Report.load(tmp_path).unreported == Unreported({"base": 4})


def test_lines_covered_by_the_note_are_not_read_again(tmp_path, monkeypatch):
    run(tmp_path)
    read = []

    def counted(path, describe, begin=(0, 0)):
        for lines, about in batches(path, describe, begin):
            read.extend(about)
            yield lines, about

    monkeypatch.setattr(unreported, "batches", counted)
    assert not Report.load(tmp_path).unreported
    assert not read
    killed_later = tmp_path / "responses-100.jsonl"
    row = {"prompt": "a", "batch": [0, 1], "response": {"sample_id": "q9", "condition": "base", "status": "answered"}}
    killed_later.write_text(f"{json.dumps(row)}\n")
    assert Report.load(tmp_path).unreported == Unreported({"base": 1})
    assert len(read) == 1
    # What is noted as unreported is not read again either, unless there is more.
    run(tmp_path, samples=SAMPLES[:5])
    run(tmp_path)
    del read[:]
    assert Report.load(tmp_path).unreported == Unreported({"base": 1})
    assert not read
    with killed_later.open("a") as file:
        file.write(json.dumps(row).replace("q9", "q8") + "\n")
    assert Report.load(tmp_path).unreported == Unreported({"base": 2})
    assert len(read) > 1


@pytest.mark.parametrize("how", ["gone", "torn", "other", "of another report", "cut"])
def test_a_note_that_is_not_about_this_report_is_not_believed(tmp_path, how):
    run(tmp_path, samples=SAMPLES[:2])
    small = (tmp_path / "report.parquet").read_bytes()
    run(tmp_path)
    note = tmp_path / "reported.json"
    if how == "gone":
        note.unlink()
    elif how == "torn":
        note.write_bytes(note.read_bytes()[:40])
    elif how == "other":
        note.write_text("[]")
    elif how == "cut":
        about = json.loads(note.read_text())
        about["lines"]["responses-000.jsonl"] = [10**9, 10**6]
        note.write_text(json.dumps(about))
    (tmp_path / "report.parquet").write_bytes(small)
    assert Report.load(tmp_path).unreported == Unreported({"base": 4, "stop_think": 4, "wrong_think": 4})


def test_a_batch_that_was_cut_off_is_none_and_one_that_is_being_written_is_not_lost(tmp_path):
    run(tmp_path, samples=SAMPLES[:2], conditions=[])
    report = (tmp_path / "report.parquet").read_bytes()
    [file] = tmp_path.glob("responses-*.jsonl")
    row = {"prompt": "a", "batch": [0, 2], "response": {"sample_id": "q7", "condition": "base", "status": "answered"}}
    with file.open("a") as opened:
        opened.write(json.dumps(row) + "\n")
    assert not Report.load(tmp_path).unreported
    Report.load(tmp_path).score(["accuracy", "format_rate"]).save(tmp_path)  # notes how far it has read
    assert (tmp_path / "report.parquet").read_bytes() != report
    with file.open("a") as opened:
        opened.write(json.dumps(row).replace("q7", "q8").replace("[0, 2]", "[1, 2]") + "\n")
    assert Report.load(tmp_path).unreported == Unreported({"base": 2})


def test_lines_that_cannot_be_read_are_told_and_the_report_is_loaded(tmp_path, caplog):
    run(tmp_path, samples=SAMPLES[:2], conditions=[])
    (tmp_path / "responses-001.jsonl").write_text('{"no": 1}\n')
    caplog.clear()
    assert len(Report.load(tmp_path)) == 2
    assert re.search(
        r"whether all of it is in the report is not known: .*responses-001.jsonl, line 1: expected a response",
        caplog.text,
    )
    Report.load(tmp_path).score(["accuracy", "format_rate"]).save(tmp_path)
    assert set(Report.load(tmp_path).metrics) == {"accuracy", "format_rate"}


def test_a_merge_carries_what_is_in_no_report(tmp_path, caplog):
    a, b, c = (tmp_path / name for name in "abc")
    run(a, samples=SAMPLES[:2], conditions=[StopThink()])
    run_and_kill(a, "answering")
    run(b, samples=SAMPLES[4:], conditions=[WrongCaption()])
    caplog.clear()
    merged = merge_runs([a, b], c)
    expected = Unreported({"base": 2, "stop_think": 2, "wrong_think": 4})
    assert merged.unreported == Report.load(c).unreported == expected
    assert f"run directory {c}: {merged.unreported}" in caplog.text
    assert "reported.json" not in caplog.text
    run(c, samples=SAMPLES[:4])
    assert not Report.load(c).unreported


def test_a_copy_and_a_single_file_load_without_lines(tmp_path, caplog):
    run(tmp_path / "run", samples=SAMPLES[:2], conditions=[])
    run_and_kill(tmp_path / "run", "answering")
    caplog.clear()
    assert not Report.load(last_report_file(tmp_path / "run")).unreported  # the file is what was asked for
    (tmp_path / "copy").mkdir()
    shutil.copy(last_report_file(tmp_path / "run"), tmp_path / "copy")
    assert not Report.load(tmp_path / "copy").unreported
    assert not caplog.records


def test_the_command_line_reports_it_in_every_format(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    run(tmp_path, samples=SAMPLES[:2], conditions=[StopThink()])
    run_and_kill(tmp_path, "answered")
    for form in ([], ["--csv"], ["--json"]):
        caplog.clear()
        shown = CliRunner().invoke(app, ["report", str(tmp_path), *form])
        assert shown.exit_code == 0, shown.output
        assert "14 responses that the run directory holds are in no report" in caplog.text
