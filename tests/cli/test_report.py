"""Test the commands on existing runs: `report` and `merge`."""

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import Result

import vlmrobust as vr
from vlmrobust import Evaluator, Sample
from vlmrobust.metrics import BrierScore
from vlmrobust.perturbations import WrongCaption, WrongThink
from vlmrobust.report import Report
from vlmrobust.testing import FakeModel

Command = Callable[..., Result]
Runs = dict[str, Path]


def test_it_prints_what_the_run_printed(command: Command, runs: Runs) -> None:
    for path in (runs["good"], runs["good"] / "report.parquet"):
        result = command("report", path)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout == f"{Report.load(path)}\n"


def test_json_and_csv_are_the_summary(command: Command, runs: Runs) -> None:
    summary = Report.load(runs["good"]).summary
    result = command("report", runs["good"], "--json")
    assert result.stderr == ""
    found = json.loads(result.stdout)
    cells = list(csv.DictReader(io.StringIO(command("report", runs["good"], "--csv").stdout)))
    assert len(found) == len(cells) == len(summary)
    for row, cell, expected in zip(found, cells, summary.to_dict("records"), strict=True):
        assert list(row) == list(cell) == list(expected)
        for name, value in expected.items():
            undefined = isinstance(value, float) and math.isnan(value)
            assert row[name] == (None if undefined else value)
            assert cell[name] == ("" if undefined else str(value))


def test_by_a_column_of_the_metadata(command: Command, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")  # the table in one piece
    found = json.loads(command("report", runs["good"], "--by", "kind", "--metrics", "accuracy", "--json").stdout)
    assert [(row["kind"], row["condition"], row["n"]) for row in found] == [
        (kind, condition, 20) for kind in ("even", "odd") for condition in ("base", "wrong_think", "wrong_caption")
    ]
    table = command("report", runs["good"], "--by", "kind").stdout
    assert table.split()[:3] == ["difference", "kind", "condition"]
    assert "Other metrics, for --metrics: unparsed_rate, " in table


def test_a_contrast_of_two_conditions(command: Command, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")  # the table in one piece
    arguments = ("report", runs["good"], "--contrast", "wrong_think", "wrong_caption", "--metrics", "accuracy")
    [row] = json.loads(command(*arguments, "--json").stdout)
    report = Report.load(runs["good"])
    expected = report.contrast("wrong_think", "wrong_caption").set_index("metric").loc["accuracy"]
    assert (row["difference"], row["low"], row["high"]) == tuple(expected[["difference", "low", "high"]])
    line = command(*arguments).stdout.splitlines()[-1]
    numbers = [f"{row['value']:.3f}", str(row["n_value"])]
    numbers += [f"{row[name]:.3f}" for name in ("paired_value", "base_value")] + [f"{row['difference']:+.3f}"]
    assert line.split()[:7] == ["wrong_think", "accuracy", *numbers]
    assert f"[{row['low']:+.3f}, {row['high']:+.3f}]" in line


def test_a_metric_missing_from_the_report_is_computed_and_the_rest_stays(command: Command, runs: Runs) -> None:
    found = json.loads(command("report", runs["good"], "--metrics", "brier_score,accuracy", "--json").stdout)
    report = Report.load(runs["good"])
    brier = report.score([BrierScore()]).summary
    assert [row["value"] for row in found if row["metric"] == "brier_score"] == brier["value"].tolist()
    accuracy = report.summary.query("metric == 'accuracy'")["value"].tolist()
    assert [row["value"] for row in found if row["metric"] == "accuracy"] == accuracy
    assert [row["condition"] for row in found] == [c for c in report.conditions for _ in range(2)]


def test_a_table_for_a_paper(command: Command, runs: Runs, tmp_path: Path) -> None:
    result = command("report", runs["good"], "--latex", tmp_path / "table.tex")
    assert result.exit_code == 0
    assert f"The table is in {tmp_path / 'table.tex'}" in " ".join(result.output.split())
    assert (tmp_path / "table.tex").read_text() == f"{Report.load(runs['good']).to_latex()}\n"


def test_a_table_for_a_paper_has_the_metrics_and_groups_that_are_named(
    command: Command, runs: Runs, tmp_path: Path
) -> None:
    path = tmp_path / "table.tex"
    result = command("report", runs["good"], "--latex", path, "--metrics", "follow_rate,brier_score", "--by", "kind")
    assert result.exit_code == 0, result.output
    report = Report.load(runs["good"]).score(["follow_rate", "brier_score"])
    assert path.read_text() == f"{report.to_latex(metrics=report.metrics, by='kind')}\n"


@pytest.mark.parametrize("name", [".", "plots"])
def test_plots_need_a_format(
    command: Command, runs: Runs, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = command("report", runs["good"], "--plot", name)
    assert result.exit_code == 2
    assert f"--plot: expected a file whose name ends in .png, .svg or .pdf, got {name!r}" in " ".join(
        result.stderr.split()
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [("--contrast", "base", "base"), ("--labels", "labels.json")])
def test_a_table_for_a_paper_is_of_the_overview_alone(
    command: Command, runs: Runs, tmp_path: Path, words: tuple[str, ...]
) -> None:
    result = command("report", runs["good"], "--latex", tmp_path / "table.tex", *words)
    assert result.exit_code == 2
    assert "--latex: cannot be combined with --contrast or --labels" in " ".join(result.stderr.split())
    assert not (tmp_path / "table.tex").exists()


def test_by_several_columns_of_the_metadata(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")  # the table in one piece
    samples = [
        sample.replace(metadata={"kind": "ab"[n % 2], "split": "xyz"[n % 3]})
        for n, sample in enumerate(vr.demo.samples(24))
    ]
    report = vr.Evaluator(FakeModel(accuracy=0.5), [], ["accuracy"]).run(samples, tmp_path / "run")
    for flags in (["--by", "kind,split"], ["--by", "kind", "--by", "split"]):
        text = command("report", tmp_path / "run", *flags, "--csv").stdout
        pd.testing.assert_frame_equal(
            pd.read_csv(io.StringIO(text))[["kind", "split", "value", "n"]],
            report.by("kind", "split")[["kind", "split", "value", "n"]],
            check_dtype=False,
        )
    table = command("report", tmp_path / "run", "--by", "split,kind").stdout
    assert [line.split()[:4] for line in table.splitlines() if " base " in line and " accuracy " in line] == [
        [split, kind, "base", "accuracy"] for split in "xyz" for kind in "ab"
    ]
    refused = command("report", tmp_path / "run", "--by", "kind,spilt")
    assert refused.exit_code == 2
    assert "metadata (kind, split); got 'spilt'; did you mean 'split'?" in refused.stderr


def test_the_responses_are_written_as_a_file(command: Command, runs: Runs, tmp_path: Path) -> None:
    frame = Report.load(runs["torn"]).frame
    for name in ("frame.csv", "sub/frame.parquet"):
        result = command("report", runs["torn"], "--frame", tmp_path / name)
        assert result.exit_code == 0, result.output
        assert f"The responses are in {tmp_path / name}" in " ".join(result.stderr.split())
    read = pd.read_csv(tmp_path / "frame.csv", keep_default_na=False, na_values=[""])
    assert list(read.columns) == list(frame.columns)
    assert [tuple(json.loads(cell)) for cell in read["options"]] == frame["options"].tolist()
    assert read["text"].tolist() == frame["text"].tolist()
    assert read["metadata.kind"].tolist() == frame["metadata.kind"].tolist()
    for name in ("accuracy", "consistency", "probability_2", "letter_entropy"):
        assert read[name].tolist() == pytest.approx(frame[name].tolist(), nan_ok=True)
    again = pd.read_parquet(tmp_path / "sub" / "frame.parquet")
    pd.testing.assert_frame_equal(
        again.drop(columns="options"), frame.drop(columns="options"), check_dtype=False, check_exact=True
    )


def test_a_metric_of_ones_own_is_measured(command: Command, runs: Runs, own: Path) -> None:
    found = json.loads(command("report", runs["good"], "--metrics", f"{own}:Words,accuracy", "--json").stdout)
    assert {row["metric"] for row in found} == {"words", "accuracy"}
    report = Report.load(runs["good"])
    for condition in report.conditions:
        texts = report.frame[report.frame["condition"] == condition]["text"]
        [row] = [row for row in found if (row["metric"], row["condition"]) == ("words", condition)]
        assert row["value"] == pytest.approx(texts.str.split().str.len().mean())


def test_a_page_and_pictures(command: Command, runs: Runs, tmp_path: Path) -> None:
    page, picture = tmp_path / "page.html", tmp_path / "plots.svg"
    result = command("report", runs["good"], "--html", page, "--plot", picture)
    assert result.exit_code == 0, result.output
    assert page.read_text().startswith("<!doctype html>")
    assert "<svg" in picture.read_text()
    assert str(page) in result.stderr
    assert str(picture) in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--by", "colour"), "expected a column of the samples' metadata (kind); got 'colour'"),
        (
            ("--contrast", "wrong_think", "wrong_captoin"),
            "--contrast: expected a condition of the report, got 'wrong_captoin'; did you mean 'wrong_caption'? Known "
            "are base, wrong_think, wrong_caption",
        ),
        (("--metrics", "acuracy"), "expected the name of a metric, got 'acuracy'; did you mean 'accuracy'?"),
        (("--metrics", "zzz"), "got 'zzz'; known are accuracy, "),
        (
            ("--metrics", "nothing.py:Words"),
            "metric 'nothing.py:Words': expected a Python file, found none at 'nothing.py'",
        ),
        (("--frame", "frame.xlsx"), "--frame: expected a file whose name ends in .csv or .parquet, got 'frame.xlsx'"),
        (("--csv", "--json"), "expected --csv or --json, got both"),
        (("--by", "kind", "--contrast", "base", "base"), "expected --by or --contrast, got both"),
    ],
)
def test_unknown_names_are_refused(command: Command, runs: Runs, arguments: tuple[str, ...], message: str) -> None:
    result = command("report", runs["good"], *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr


def test_a_path_without_a_report_is_refused(command: Command, runs: Runs, tmp_path: Path) -> None:
    near = command("report", runs["good"].parent / "godo")
    assert near.exit_code == 2
    assert near.stderr.endswith("/godo, found nothing; did you mean 'good'?\n")
    file = tmp_path / "run.toml"
    for text in ('model = "m"\n', '{"id": "q1"}\n', "[1]\n", ""):
        file.write_text(text)
        other = command("report", file)
        assert other.exit_code == 2
        assert f"expected a run directory or a saved report at {file}, found another file; give" in other.stderr


def test_a_folder_without_a_report_is_refused(command: Command, tmp_path: Path) -> None:
    result = command("report", tmp_path)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: expected a report at {tmp_path / 'report.parquet'}, found none")


def test_error_rows_are_an_exit_code(command: Command, runs: Runs, tmp_path: Path) -> None:
    lines = Report.load(runs["good"]).save(tmp_path / "whole.jsonl").read_text().splitlines()
    row = json.loads(lines[1]) | {"status": "error", "error": "no image"}
    path = tmp_path / "broken.jsonl"
    path.write_text("\n".join([lines[0], json.dumps(row), *lines[2:], ""]))
    result = command("report", path)
    assert result.exit_code == 1
    assert "Error rows: 1" in result.stderr


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
