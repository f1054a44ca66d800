"""Test running a study: every run once, failures as rows, judges, and resuming after a kill."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vlmrobust import Report
from vlmrobust.catalogue import slug_of
from vlmrobust.locking import DirectoryLock
from vlmrobust.study import Study
from vlmrobust.study.construction import Lazy
from vlmrobust.study.entries import JudgeEntry

Lines = Callable[[str], list[Any]]
Studies = Callable[..., Study]


pytestmark = pytest.mark.usefixtures("quick")

PICKY = """
from vlmrobust import Response
from vlmrobust.testing import FakeModel

class Picky(FakeModel):
    def respond(self, prompts):
        said = zip(prompts, super().respond(prompts))
        return [Response.failed(p, "no") if p.condition == "wrong_think" else response for p, response in said]

def model():
    return Picky(opens_images=False)
"""

ONE = {
    "models": [{"name": "other", "factory": "models.py:planted"}],
    "benchmarks": [{"name": "few", "data": "rows.jsonl", "limit": 10}],
}


def test_a_finished_run_needs_no_model_and_nothing_is_asked_twice(
    study: Studies, folder: Path, lines: Lines, loaded: list[str]
) -> None:
    first = study(**ONE, judges=["hf:org/contrary"]).run(folder / "out")
    made, asked = lines("made.log"), lines("asked.log")
    assert len(made) == 1
    again = study(**ONE, judges=["hf:org/contrary"]).run(folder / "out")
    assert (lines("made.log"), lines("asked.log"), loaded) == (made, asked, ["org/contrary"])
    for name in ("runs", "summary", "judged", "survival"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(first, name))
    study(**ONE, judges=["hf:org/contrary", "rules"], metrics=["repetition"]).run(folder / "out")
    assert len(lines("made.log")) == 2  # another metric is measured on what was said
    assert lines("asked.log") == asked
    more = ONE | {"benchmarks": [{"name": "few", "data": "rows.jsonl", "limit": 12}]}
    result = study(**more, judges=["hf:org/contrary"]).run(folder / "out")
    assert len(lines("asked.log")) == len(asked) + 2 * 3
    assert result.runs["samples"].tolist() == [12]
    assert loaded == ["org/contrary", "org/contrary"]  # there is more to judge


def test_a_failure_is_a_row_and_the_others_finish(study: Studies, folder: Path, loaded: list[str]) -> None:
    told: list[str] = []
    models = [
        {"name": "broken", "factory": "models.py:broken"},
        {"name": "none", "factory": "models.py:no_model"},
        {"name": "good", "factory": "models.py:planted"},
    ]
    benchmarks = [{"name": "vstar", "source": "nowhere"}, {"name": "few", "data": "rows.jsonl", "limit": 10}]
    asked = study(models=models, benchmarks=benchmarks, judges=["hf:org/gone", "rules"])
    result = asked.run(folder / "out", tell=told.append)
    assert result.failed
    rows = {(row.model, row.benchmark): (row.status, row.error) for row in result.run_rows}
    assert rows.pop(("good", "few")) == ("finished", "")
    assert {status for status, _ in rows.values()} == {"failed"}
    assert rows["broken", "few"][1] == "RuntimeError: no such <b>engine</b>"
    assert rows["none", "few"][1].startswith("TypeError: factory ")
    assert rows["none", "few"][1].endswith("expected a model with respond(prompts) -> list[Response], got str")
    assert rows["good", "vstar"][1].startswith("FileNotFoundError: vstar: expected a file or folder, found none at ")
    gone, rules = result.judgement_rows
    assert (gone.status, gone.error) == ("failed", "OSError: no such checkpoint")
    assert (rules.status, rules.answered, rules.verdicts) == ("judged", 30, 30)
    assert len([text for text in told if " failed: " in text or ", failed: " in text]) == 6
    assert set(result.summary["model"]) == {"good"}
    assert result.agreement.empty


def test_failed_calls_are_counted_and_retried(study: Studies, folder: Path, lines: Lines) -> None:
    models = [{"name": "eyes", "factory": "eyes.py:model"}]
    (folder / "eyes.py").write_text("from vlmrobust.testing import FakeModel\n\ndef model():\n    return FakeModel()\n")
    picture = (folder / "red.png").read_bytes()
    (folder / "red.png").unlink()
    asked = study(models=models, benchmarks=[{"name": "few", "data": "rows.jsonl", "limit": 4}])
    result = asked.run(folder / "out")
    assert result.failed
    assert result.runs[["status", "errors"]].to_numpy().tolist() == [["finished", 12]]
    (folder / "red.png").write_bytes(picture)
    again = asked.run(folder / "out")
    assert not again.failed
    assert again.runs["errors"].tolist() == [0]


def test_an_attempt_at_more_that_failed_is_not_taken_for_what_was_finished(study: Studies, folder: Path) -> None:
    (folder / "picky.py").write_text(PICKY)
    fields = {"models": [{"name": "picky", "factory": "picky.py:model"}], "benchmarks": ONE["benchmarks"]}
    fewer = study(**fields, conditions=["base"])
    assert not fewer.run(folder / "out").failed
    more = study(**fields, conditions=["base", "wrong_think"])
    assert more.run(folder / "out").runs["errors"].tolist() == [10]
    result = fewer.run(folder / "out")
    assert result.runs[["responses", "errors"]].to_numpy().tolist() == [[10, 0]]
    assert set(result.summary["condition"]) == {"base"}


def test_benchmarks_with_images_of_their_own_are_averaged(study: Studies, folder: Path) -> None:
    Image.new("RGB", (56, 56), "blue").save(folder / "blue.png")
    rows = (folder / "rows.jsonl").read_text().replace("red.png", "blue.png", 12)
    (folder / "rows.jsonl").write_text(rows)
    benchmarks = [
        {"name": "all", "data": "rows.jsonl"},
        {"name": "some", "data": "rows.jsonl", "limit": 14},
        {"name": "vstar", "source": "nowhere"},
    ]
    asked = study(models=ONE["models"], conditions=["base", "swapped_image"], judges=[], benchmarks=benchmarks)
    found = asked.run(folder / "out")
    assert set(found.averages["condition"]) == {"base", "swapped_image"}
    assert set(found.averages["categories"]) == {2}
    assert set(found.averages["note"].str.contains("not finished, left out: vstar")) == {True}


def test_a_run_of_something_else_in_the_folder_fails(study: Studies, folder: Path) -> None:
    study(**ONE).run(folder / "out")
    result = study(**ONE, seed=5).run(folder / "out")
    assert all("field 'seed': expected 0, as the run was started with, got 5" in row.error for row in result.run_rows)


def test_several_processes_are_refused(study: Studies, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="expected one process for a study, got several"):
        study().run(folder / "out")
    with pytest.raises(ValueError, match="field 'out': expected a folder, got none"):
        study().run()


def test_once() -> None:
    calls: Iterator[Any] = iter([ValueError("first"), 1])

    def make() -> Any:
        made = next(calls)
        if isinstance(made, Exception):
            raise made
        return made

    failing = Lazy(make)
    for _ in range(2):
        with pytest.raises(ValueError, match="first"):
            failing()
    working = Lazy(make)
    assert (working(), working()) == (1, 1)


def test_a_killed_study_goes_on_where_it_was(write: Callable[..., Path], folder: Path, lines: Lines) -> None:
    path, out = (
        write(
            **ONE | {"benchmarks": [{"name": name, "data": "rows.jsonl", "limit": 8} for name in "ab"]}, batch_size=2
        ),
        folder / "out",
    )
    code = f"from vlmrobust.study import Study; Study.from_toml({str(path)!r}).run({str(out)!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"TELL": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    for _ in range(4 + 2):  # all batches of the first run, two of the second
        assert process.stdout.readline() == "asked\n"
        process.stdin.write("\n")
        process.stdin.flush()
    assert process.stdout.readline() == "asked\n"  # and this one is not on disk yet
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdin.close()
    process.stdout.close()
    before = lines("asked.log")
    assert len(before) == 7 * 2 * 3
    assert (out / "runs" / "other" / "a" / "finished.json").is_file()
    assert not (out / "study.html").exists()
    result = Study.from_toml(path).run(out)
    assert not result.failed
    assert lines("asked.log")[len(before) :] == [*before[-6:], *lines("asked.log")[-6:]]  # what was lost, and the last
    whole = Study.from_toml(path).run(folder / "whole")
    pd.testing.assert_frame_equal(result.summary, whole.summary)
    pd.testing.assert_frame_equal(result.judged, whole.judged)


def test_an_image_that_was_replaced_is_seen_under_a_finished_run(study: Studies, folder: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8), "red").save(folder / "one.png")
    row = {"id": "q", "image": "one.png", "question": "Which?", "options": ["a", "b"], "answer": 0}
    (folder / "own.jsonl").write_text(json.dumps(row) + "\n")
    fields = ONE | {"benchmarks": [{"name": "own", "data": "own.jsonl"}]}
    assert study(**fields).run(folder / "out").run_rows[0].status == "finished"
    Image.new("RGB", (8, 8), "white").save(folder / "one.png")
    [row_now] = study(**fields).run(folder / "out").run_rows
    assert row_now.status == "failed"
    assert "sample 'q', field 'images[0]': expected " in row_now.error
    Image.new("RGB", (8, 8), "red").save(folder / "one.png")
    assert study(**fields).run(folder / "out").run_rows[0].status == "finished"


def test_a_run_directory_that_is_in_use_is_a_failed_row_and_stays_finished(study: Studies, folder: Path) -> None:
    study(**ONE).run(folder / "out")
    run = folder / "out" / "runs" / "other" / "few"
    marker = (run / "finished.json").read_text()
    with DirectoryLock(run):
        [row] = study(**ONE, metrics=["repetition"]).run(folder / "out").run_rows
    assert row.status == "failed"
    assert "expected no other run in it" in row.error
    assert (run / "finished.json").read_text() == marker


NAMES = st.builds("{}:{}".format, st.sampled_from(["hf", "openai"]), st.text("ab/-+%:._ é\\", min_size=1, max_size=6))


FOUR_SAMPLES: dict[str, Any] = {
    "models": [{"name": "other", "factory": "models.py:planted"}],
    "benchmarks": [{"name": "few", "data": "rows.jsonl", "limit": 4}],
}


@given(NAMES, NAMES)
def test_no_two_judges_have_the_same_slug(one: str, other: str) -> None:
    assert (slug_of(one) == slug_of(other)) == (one == other)
    assert Path(slug_of(one)).name == slug_of(one)
    assert JudgeEntry(name=one).name == one


@pytest.mark.usefixtures("loaded")
def test_judges_whose_names_differ_by_a_slash_keep_two_files(study: Studies, folder: Path) -> None:
    result = study(**FOUR_SAMPLES, judges=["hf:org/contrary", "hf:org-contrary"]).run(folder / "out")
    files = sorted(path.name for path in (folder / "out").rglob("report-*"))
    assert files == ["report-hf-org+contrary.parquet", "report-hf-org-contrary.parquet"]
    assert set(result.judged["judge"]) == {"hf:org/contrary", "hf:org-contrary"}


@pytest.mark.parametrize("name", ["rules", "hf:org/contrary"])
def test_judged_reports_of_earlier_versions_are_taken_over(
    study: Studies, folder: Path, loaded: list[str], name: str
) -> None:
    first = study(**FOUR_SAMPLES, judges=[name]).run(folder / "out")
    [file] = (folder / "out").rglob("report-*")
    lines = Report.load(file).save(file.with_suffix(".jsonl"))
    file.unlink()
    del loaded[:]
    again = study(**FOUR_SAMPLES, judges=[name]).run(folder / "out")
    assert loaded == []  # what is in the lines is not judged anew
    assert (file.is_file(), lines.exists()) == (True, False)
    assert again.judged.equals(first.judged)
    assert [row.file for row in again.judgement_rows] == [str(file.relative_to(folder / "out"))]
