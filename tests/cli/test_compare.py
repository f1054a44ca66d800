"""Test `vlmrobust compare`: two runs on the same samples, and gates."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests
from typer.testing import Result

from vlmrobust import Response, Sample, expand
from vlmrobust.cli.compare import LEVEL, Gate, outcomes
from vlmrobust.metrics import Accuracy, FollowRate
from vlmrobust.perturbations import WrongCaption
from vlmrobust.report import Report
from vlmrobust.testing import FakeModel

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


def test_a_gate_given_twice_is_one(command: Command, runs: Runs) -> None:
    arguments = ("compare", runs["poor"], runs["good"], "--fail-if-worse")
    once, twice = (command(*arguments, names).stderr for names in ("accuracy", "accuracy,vlmrobust.metrics:Accuracy"))
    assert once == twice


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
        (
            ("--max-drop", "accuracy=0.1", "--max-drop", "accuracy=0.9"),
            "--max-drop: expected 'accuracy' once, got accuracy=0.1 and accuracy=0.9",
        ),
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


@pytest.fixture(scope="module")
def report() -> Report:
    from vlmrobust import demo

    prompts = list(expand(demo.samples(2), []))
    return Report.from_responses(prompts, FakeModel().respond(prompts), [Accuracy(), FollowRate()])


def make_table(*rows: tuple[str, float, float, float], metric: str = "accuracy", **fields: Any) -> pd.DataFrame:
    """Return rows of (condition, difference, low, high), as `Report.compare` gives them."""
    return pd.DataFrame(
        [
            {"condition": condition, "metric": metric, "difference": difference, "low": low, "high": high}
            | {"p": 0.5, "n": 100, "note": ""}
            | fields
            for condition, difference, low, high in rows
        ]
    )


def gate_fails(gate: Gate, rows: pd.DataFrame, report: Report) -> list[bool]:
    return [outcome.verdict == "FAILED" for outcome in outcomes([gate], rows, report)]


def test_the_whole_interval_has_to_exclude_the_drop(report: Report) -> None:
    rows = make_table(
        ("base", 0.0, -0.019, 0.03), ("a", 0.0, -0.021, 0.1), ("b", -0.5, -0.6, -0.4), ("c", 0.5, 0.4, 0.6)
    )
    assert gate_fails(Gate("accuracy", 0.02), rows, report) == [False, True, True, False]


def test_where_lower_is_better_a_rise_is_the_drop(report: Report) -> None:
    rows = make_table(("base", 0.0, -0.1, 0.019), ("a", 0.0, -0.1, 0.021), ("b", 0.5, 0.4, 0.6), metric="follow_rate")
    assert gate_fails(Gate("follow_rate", 0.02), rows, report) == [False, True, True]
    worse = make_table(("a", 0.5, 0.4, 0.6), ("b", -0.5, -0.6, -0.4), metric="follow_rate", p=1e-6)
    assert gate_fails(Gate("follow_rate"), worse, report) == [True, False]


def test_p_values_of_all_gates_are_adjusted_together(report: Report) -> None:
    p = [0.001, 0.02, 0.03, 0.004, 0.2]
    rows = make_table(*((f"c{index}", -0.1, -0.2, -0.01) for index in range(5)))
    rows["p"] = p
    expected = multipletests(p, alpha=LEVEL, method="holm")[0].tolist()
    assert gate_fails(Gate("accuracy"), rows, report) == expected == [True, False, False, True, False]
    # Those of a gate of the other kind are not among them.
    both = outcomes([Gate("accuracy"), Gate("accuracy", 0.5)], rows, report)
    assert [outcome.verdict == "FAILED" for outcome in both] == [*expected, *[False] * 5]


def test_of_what_is_undefined_a_gate_cannot_tell(report: Report) -> None:
    rows = make_table(("a", math.nan, math.nan, math.nan), note="no responses in this report")
    few = make_table(("a", -0.5, math.nan, math.nan), note="too few for an interval: 4 groups of samples", p=math.nan)
    for gate in (Gate("accuracy"), Gate("accuracy", 0.1)):
        for undefined in (rows, few):
            [outcome] = outcomes([gate], undefined, report)
            assert outcome.verdict == "cannot tell"
            assert outcome.text == f"accuracy under a: {undefined['note'][0]}"


def two_reports(groups: int, seed: int, worse: float = 0.0) -> tuple[Report, Report]:
    """Two runs of one model on samples in groups, each group harder or easier anew: none is worse than the other."""
    generator = np.random.default_rng(seed)
    samples = [
        Sample(id=f"q{i:03d}", images=[b"x"], question="Which?", options=("a", "b"), answer=0, group=f"g{i // 4}")
        for i in range(4 * groups)
    ]
    prompts = list(expand(samples, [WrongCaption()]))
    reports = []
    for fall in (worse, 0.0):
        chance = {
            (group, condition): generator.beta(4, 1.5)
            for group in dict.fromkeys(sample.group for sample in samples)
            for condition in ("base", "wrong_caption")
        }
        responses = [
            Response(
                sample_id=prompt.sample.id,
                condition=prompt.condition,
                text="x",
                answer=int(generator.random() > chance[prompt.sample.group, prompt.condition] * (1 - fall)),
                status="answered",
            )
            for prompt in prompts
        ]
        reports.append(Report.from_responses(prompts, responses, [Accuracy()]))
    return reports[0], reports[1]


@pytest.mark.parametrize("groups", [6, 10, 30])
def test_of_builds_in_which_nothing_is_worse_one_in_twenty_fails_or_fewer(groups: int) -> None:
    count, fallen = 120, 0
    for seed in range(count):
        this, that = two_reports(groups, seed)
        found = outcomes([Gate("accuracy")], this.compare(that), this)
        assert {outcome.verdict for outcome in found} <= {"passed", "FAILED"}
        fallen += any(outcome.verdict == "FAILED" for outcome in found)
    assert fallen <= count * (0.05 + 3 * math.sqrt(0.05 * 0.95 / count))
    if groups == 30:
        this, that = two_reports(groups, 0, worse=0.6)
        assert any(one.verdict == "FAILED" for one in outcomes([Gate("accuracy")], this.compare(that), this))


def test_of_few_groups_a_gate_cannot_tell() -> None:
    this, that = two_reports(5, 0)
    for gate in (Gate("accuracy"), Gate("accuracy", 0.5)):
        assert {one.verdict for one in outcomes([gate], this.compare(that), this)} == {"cannot tell"}


@pytest.mark.parametrize("per_group", [1, 4])
def test_a_model_that_fails_more_never_passes_what_a_better_one_fails(per_group: int) -> None:
    """0, 1, 2, … of 240 answers are lost: once a drop of 0.05 cannot be ruled out, it never can again."""
    samples = [
        Sample(
            id=f"q{i:03d}", images=[b"x"], question="Which?", options=("a", "b"), answer=0, group=f"g{i // per_group}"
        )
        for i in range(240)
    ]
    prompts = list(expand(samples, []))

    def report_without(lost: int) -> Report:
        responses = [
            Response(
                sample_id=p.sample.id, condition="base", text="x", answer=int(i * 7 % 240 < lost), status="answered"
            )
            for i, p in enumerate(prompts)
        ]
        return Report.from_responses(prompts, responses, [Accuracy()])

    before = report_without(0)
    verdicts = [
        outcomes([Gate("accuracy", 0.05)], report_without(n).compare(before), before)[0].verdict for n in range(0, 14)
    ]
    assert verdicts == sorted(verdicts, key=["passed", "FAILED"].index)
    assert verdicts[0] == "passed"
    assert verdicts[-1] == "FAILED"
