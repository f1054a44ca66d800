"""Test `vlmrobust compare`: two runs on the same samples, and gates."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import Result

from vlmrobust.report import Report

Command = Callable[..., Result]
Runs = dict[str, Path]


def test_differences_are_the_first_minus_the_other(command: Command, runs: Runs) -> None:
    result = command("compare", runs["poor"], runs["good"], "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    expected = Report.load(runs["poor"]).compare(Report.load(runs["good"]))
    found = json.loads(result.stdout)
    assert list(found[0]) == list(expected.columns)
    assert [row["metric"] for row in found] == expected["metric"].tolist()
    assert found[0]["difference"] == expected["difference"][0] == pytest.approx(-0.6, abs=0.15)
    table = command("compare", runs["poor"], runs["good"], "--conditions", "base", "--metrics", "accuracy").stdout
    row = found[0]
    numbers = [f"{row['value']:.3f}", str(row["n_value"])]
    numbers += [f"{row[name]:.3f}" for name in ("paired_value", "base_value")] + [f"{row['difference']:+.3f}"]
    assert table.splitlines()[-1].split()[:7] == ["base", "accuracy", *numbers]
    assert "other" in table


def test_a_note_on_several_conditions_is_said_once(command: Command, runs: Runs, tmp_path: Path) -> None:
    report = Report.load(runs["good"])
    rows = [row for row, condition in enumerate(report.responses.condition) if condition == "base"]
    report._select(rows).save(tmp_path / "base.parquet")
    table = command("compare", runs["poor"], tmp_path / "base.parquet", "--metrics", "accuracy,consistency").stdout
    assert table.count("no responses in the other report") == 1
    said = "wrong_think, wrong_caption: no responses in the other report – accuracy, consistency"
    assert said in table.splitlines()


def test_a_change_for_the_worse_fails_and_one_for_the_better_does_not(command: Command, runs: Runs) -> None:
    gate = ("--fail-if-worse", "accuracy,follow_rate")
    worse = command("compare", runs["poor"], runs["good"], *gate)
    assert worse.exit_code == 3
    assert "FAILED  accuracy under base: -0." in worse.stderr
    assert "FAILED  follow_rate under wrong_think: +0." in worse.stderr
    better = command("compare", runs["good"], runs["poor"], *gate)
    assert better.exit_code == 0
    assert "FAILED" not in better.stderr
    assert better.stderr.count("passed") == 6


def test_equal_models_pass_one_gate_but_the_other_only_if_a_drop_is_excluded(command: Command, runs: Runs) -> None:
    same = ("compare", runs["same"], runs["good"])
    assert command(*same, "--fail-if-worse", "accuracy").exit_code == 0
    strict = command(*same, "--max-drop", "accuracy=0.02")
    assert strict.exit_code == 3  # 40 samples cannot rule out a drop by 0.02
    assert "may be worse by more than 0.02" in strict.stderr
    wide = command(*same, "--max-drop", "accuracy=0.2", "--max-drop", "follow_rate=0.2")
    assert wide.exit_code == 0, wide.stderr
    assert "is not worse by more than 0.2" in wide.stderr


def test_a_gate_leaves_the_output_as_it_is(command: Command, runs: Runs) -> None:
    arguments = ("compare", runs["poor"], runs["good"], "--json", "--metrics", "consistency")
    gated = command(*arguments, "--fail-if-worse", "accuracy")
    assert gated.stdout == command(*arguments).stdout
    assert gated.exit_code == 3


def test_conditions_that_are_left_out_are_not_gated(command: Command, runs: Runs) -> None:
    arguments = ("compare", runs["poor"], runs["good"], "--conditions", "base")
    assert command(*arguments, "--fail-if-worse", "follow_rate").stderr.count("follow_rate under") == 1


def test_a_comparison_with_base_has_no_gate_under_base(command: Command, runs: Runs) -> None:
    result = command("compare", runs["same"], runs["good"], "--fail-if-worse", "flip_rate")
    assert result.exit_code == 0, result.stderr
    assert "under base" not in result.stderr
    assert result.stderr.count("passed") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--fail-if-worse", "letter_entropy"),
            "metric 'letter_entropy': expected one where higher or lower is better",
        ),
        (("--fail-if-worse", "acuracy"), "got 'acuracy'; did you mean 'accuracy'?"),
        (("--max-drop", "accuracy"), "--max-drop: expected metric=amount, got 'accuracy'"),
        (("--max-drop", "accuracy=-1"), "--max-drop accuracy: expected a number of at least 0, got '-1'"),
        (("--max-drop", "accuracy=nan"), "--max-drop accuracy: expected a number of at least 0, got 'nan'"),
        (("--max-drop", "accuracy=much"), "--max-drop accuracy: expected a number of at least 0, got 'much'"),
        (
            ("--conditions", "wrong_thnk"),
            "--conditions: expected a condition of the report, got 'wrong_thnk'; did you mean 'wrong_think'? Known are "
            "base, wrong_think, wrong_caption",
        ),
    ],
)
def test_invalid_gates_and_conditions_are_refused(
    command: Command, runs: Runs, arguments: tuple[str, ...], message: str
) -> None:
    result = command("compare", runs["poor"], runs["good"], *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_verdicts_of_two_judges_are_not_compared(command: Command, runs: Runs, tmp_path: Path) -> None:
    file = tmp_path / "judged.jsonl"
    panel = ("--judge", "rules", "--judge", "rules")
    assert command("judge", runs["good"], *panel, "--out", file).exit_code == 0
    result = command("compare", file, runs["good"])
    assert result.exit_code == 2
    assert "got Panel of RuleJudge and RuleJudge and RuleJudge; judge one of them again" in result.stderr
    assert command("compare", file, runs["good"], "--metrics", "accuracy").exit_code == 0


def test_a_page_of_the_answers_that_differ(command: Command, runs: Runs, tmp_path: Path) -> None:
    page = tmp_path / "flips.html"
    result = command("compare", runs["poor"], runs["good"], "--html", page)
    assert result.exit_code == 0
    assert f"The page is {page}" in result.stderr
    assert "the page has no images" in result.stderr  # these runs were made without a command
    text = page.read_text(encoding="utf-8")
    assert "pairs of answers poor alone is right in" in text
    assert str(runs["poor"].parent) not in text


def test_images_come_from_the_data_of_the_run_or_from_the_flag(
    command: Command, rows: Path, loaded: list[object], tmp_path: Path
) -> None:
    for name in ("one", "two"):
        arguments = ("--model", "some/model", "--data", rows, "--out", tmp_path / name, "--conditions", "wrong_caption")
        assert command("run", *arguments).exit_code == 0
    # Every answer of the second is made wrong, so that every answer differs.
    report = Report.load(tmp_path / "two")
    report.responses = replace(report.responses, choice=(report.responses.target + 1) % 3)
    report.save(tmp_path / "two")
    page = tmp_path / "page.html"
    compare = ("compare", tmp_path / "one", tmp_path / "two", "--html", page)
    result = command(*compare)
    assert "no images" not in result.stderr, result.stderr
    assert page.read_text(encoding="utf-8").count("data:image/png;base64") == 6
    assert command("report", tmp_path / "one", "--html", page).exit_code == 0
    assert page.read_text(encoding="utf-8").count("data:image/png;base64") == 6
    moved = rows.rename(tmp_path / "moved.jsonl")
    gone = command(*compare)
    assert "the page has no images" in gone.stderr
    assert "are not on this page" in page.read_text(encoding="utf-8")
    assert "no images" not in command(*compare, "--data", moved).stderr
    assert page.read_text(encoding="utf-8").count("data:image/png;base64") == 6
    assert command("compare", tmp_path / "one", tmp_path / "two", "--data", moved).exit_code == 2
