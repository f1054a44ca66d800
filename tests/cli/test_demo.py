"""`vlmrobust demo`: an example, the table, and how to read it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.testing import Result

from vlmrobust import demo
from vlmrobust.report import Report


def test_demo_shows_an_example_the_table_and_how_to_read_it(
    command: Callable[..., Result], tmp_path: Path, loaded: list[Any]
) -> None:
    page = tmp_path / "page.html"
    result = command("demo", "--samples", 12, "--seed", 2, "--out", tmp_path / "run", "--html", page)
    assert result.exit_code == 0, result.output
    report = Report.load(tmp_path / "run")
    assert set(report.frame["sample_id"]) == {sample.id for sample in demo.samples(12, seed=2)}
    assert str(report) in result.stdout
    for part in ("question", "wrong caption", "wrong thought", "How to read it", "no evidence about large models"):
        assert part in result.stdout
    example = result.stdout[: result.stdout.index(str(report))]
    asked = [sample for sample in demo.samples(12, seed=2) if sample.question in example]
    [shown] = [s for s in asked if all(option in example for option in s.options)][:1]
    answers = report.frame.set_index(["sample_id", "condition"])["answer"]
    assert answers[shown.id, "base"] == shown.answer
    assert answers[shown.id, "wrong_think"] != shown.answer
    assert page.read_text().startswith("<!doctype html>")
