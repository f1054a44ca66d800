"""Test the commands on the bundled scenes: `demo` and `conditions`."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from vlmrobust import demo, expand
from vlmrobust.perturbations import SwappedImage, paper_conditions
from vlmrobust.perturbations.catalogue import CONDITIONS, FROM_SAMPLES
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


Command = Callable[..., Result]


def test_a_page_that_cannot_be_written_is_refused_before_the_demo_runs(command: Command, tmp_path: Path) -> None:
    result = command("demo", "--html", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert " ".join(result.stderr.split()).startswith("Error: --html: expected a file, got the folder")


@pytest.fixture(scope="module")
def listed(command: Command) -> dict[str, dict[str, Any]]:
    result = command("conditions", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    return {one["name"]: one for one in json.loads(result.stdout)}


def test_conditions_have_their_names_and_include_the_papers() -> None:
    conditions = {name: make() for name, make in CONDITIONS.items()}
    assert {name: condition.condition for name, condition in conditions.items()} == {name: name for name in conditions}
    assert [conditions[condition.condition] for condition in paper_conditions()] == list(paper_conditions())


def test_every_condition_is_listed_with_its_description(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    result = command("conditions")
    assert result.exit_code == 0
    for name, make in (CONDITIONS | {"swapped_image": partial(SwappedImage, pool=[b"x"])}).items():
        [line] = [line for line in result.stdout.splitlines() if line.split(" ")[0] == name]
        assert (make().__doc__ or "").strip().splitlines()[0] in line
    assert "[hedge='but I think']" in result.stdout


@pytest.mark.parametrize("columns", [80, 61])
def test_no_line_is_wider_than_the_terminal(command: Command, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    narrow = command("conditions").stdout
    monkeypatch.setenv("COLUMNS", "300")
    wide = command("conditions").stdout
    assert max(map(len, narrow.splitlines())) <= columns < max(map(len, wide.splitlines()))
    assert narrow.split() == wide.split()  # broken between words, nothing lost


def test_every_condition_has_an_example(listed: dict[str, dict[str, Any]]) -> None:
    assert list(listed) == [*CONDITIONS, *FROM_SAMPLES]
    for name, one in listed.items():
        assert one["example"], name
        assert "unchanged" not in one["example"], name
    assert [name for name, one in listed.items() if "not applicable" in one["example"]] == [
        "rotated_options_4",
        "rotated_options_5",
    ]


def test_the_examples_are_what_a_model_sees(listed: dict[str, dict[str, Any]]) -> None:
    sample = demo.samples(2)[1]
    for prompt in expand([sample], paper_conditions(), seed=0):
        example = listed[prompt.condition]["example"]
        if prompt.condition == "base":
            assert (example["question"], example["image"]) == (sample.question, "the sample's")
            assert all(option in example["options"] for option in sample.options)
        else:
            shown = {"context": prompt.context, "prefill": prompt.prefill}
            assert example == {part: text for part, text in shown.items() if text}


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("blank_image", "blank (colour grey)"),
        ("removed_image", "none"),
        ("low_contrast_image_3", "low contrast (severity 3)"),
        ("swapped_image", "another sample's"),
    ],
)
def test_the_change_of_the_image_is_described(listed: dict[str, dict[str, Any]], name: str, image: str) -> None:
    assert listed[name]["example"] == {"image": image}


def test_one_condition_on_another_sample(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    result = command("conditions", "wrong_caption+abstain_option", "--sample", 2)
    first, *example = result.stdout.splitlines()
    assert first.startswith("wrong_caption+abstain_option ")
    assert [line.split(":")[0].strip() for line in example[:2]] == ["context", "options"]
    assert "A. one  B. four  C. three  D. two  E. I'm not sure" in example[1]


def test_an_unknown_name_is_refused(command: Command) -> None:
    result = command("conditions", "wrong_thnik")
    assert result.exit_code == 2
    assert "got 'wrong_thnik'" in result.stderr
