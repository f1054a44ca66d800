"""Test `vlmrobust merge`: runs of several machines become one."""

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

from vlmrobust import Evaluator, Report, Sample
from vlmrobust.perturbations import WrongCaption, WrongThink
from vlmrobust.testing import FakeModel

Command = Callable[..., Result]

SAMPLES = [
    Sample(id=f"q{n}", images=[b"not decoded"], question="Which?", options=["red", "blue", "green"], answer=n % 3)
    for n in range(9)
]


def make_run(folder: Path, first: int, last: int, **changes: object) -> Path:
    model = FakeModel(accuracy=0.8, opens_images=False)
    Evaluator(model, [WrongCaption()], seed=0).run([each.replace(**changes) for each in SAMPLES[first:last]], folder)
    return folder


def test_two_halves_are_a_run(command: Command, tmp_path: Path) -> None:
    halves = make_run(tmp_path / "a", 0, 5), make_run(tmp_path / "b", 5, 9)
    result = command("merge", *halves, "--out", tmp_path / "both", "--json")
    assert result.exit_code == 0, result.stderr
    assert f"The merged run of 2 directories is in {tmp_path / 'both'}" in result.stderr
    rows = json.loads(result.stdout)
    assert {row["n_value"] for row in rows if row["metric"] == "accuracy"} == {9}
    assert command("report", tmp_path / "both", "--json").stdout == result.stdout
    whole = Report.load(make_run(tmp_path / "whole", 0, 9))
    assert Report.load(tmp_path / "both").frame.equals(whole.frame)


def test_runs_of_different_dtypes_are_refused_with_both_dtypes(command: Command, tmp_path: Path) -> None:
    folders = make_run(tmp_path / "a", 0, 5), make_run(tmp_path / "b", 5, 9)
    for folder, digest, dtype in zip(folders, ("0123", "4567"), ("float32", "bfloat16"), strict=True):
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["model"] |= {"all_weights": digest, "dtype": dtype, "weights": digest}
        (folder / "manifest.json").write_text(json.dumps(manifest))
    result = command("merge", *folders, "--out", tmp_path / "both")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "field 'model.dtype': expected 'float32', as the run was started with, got 'bfloat16'" in result.stderr
    assert "0123" not in result.stderr


def test_runs_that_differ_are_refused_by_file_line_and_field(command: Command, tmp_path: Path) -> None:
    halves = make_run(tmp_path / "a", 0, 5), make_run(tmp_path / "b", 4, 9, question="Which one?")
    result = command("merge", *halves, "--out", tmp_path / "both")
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        f"{tmp_path / 'b' / 'samples-000.jsonl'}, line 1: sample 'q4', field 'question': expected 'Which?', as in"
        in " ".join(result.stderr.split())
    )
    assert not (tmp_path / "both").exists()


def test_a_judged_report_follows_a_run_that_has_grown(command: Command, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 0, 5)
    assert command("judge", run, "--judge", "rules").exit_code == 0
    file = next(run.glob("report-rules.*"))
    assert len(Report.load(file)) == 10
    Evaluator(FakeModel(accuracy=0.8, opens_images=False), [WrongThink()]).run(SAMPLES[:6], run)
    assert command("judge", run, "--judge", "rules").exit_code == 0
    assert len(Report.load(file)) == len(Report.load(run)) == 10 + 1 + 6
    assert "give another one with --out" in command("judge", run, "--judge", "rules").stderr
