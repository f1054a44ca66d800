"""Test completion in the shell."""

from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from vlmrobust import cli
from vlmrobust.catalogue import STYLES
from vlmrobust.cli import options
from vlmrobust.data import BENCHMARKS
from vlmrobust.metrics.catalogue import METRICS
from vlmrobust.perturbations.catalogue import CONDITIONS, FROM_SAMPLES


def completions(line: str) -> list[str]:
    """Return what bash offers at the end of a line."""
    words = line.split(" ")
    settings = {"_VLMROBUST_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    result = CliRunner().invoke(cli.app, [], prog_name="vlmrobust", env=settings)
    return result.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("vlmrobust jud", ["judge"]),
        ("vlmrobust run --max-new", ["--max-new-tokens"]),
        ("vlmrobust run --conditions wrong_th", ["wrong_think", "wrong_think_but"]),
        ("vlmrobust run --conditions base,blank", ["base,blank_image"]),
        ("vlmrobust run --conditions wrong_caption+abst", ["wrong_caption+abstain_option"]),
        ("vlmrobust conditions swapped", ["swapped_image"]),
        ("vlmrobust compare a b --fail-if-worse accuracy,brier", ["accuracy,brier_score"]),
        ("vlmrobust judge runs/a --judge o", ["openai:"]),
        ("vlmrobust run --benchmark cv", ["cv-bench"]),
        ("vlmrobust run --dtype b", ["bfloat16"]),
    ],
)
def test_names_are_completed(line: str, expected: list[str]) -> None:
    assert completions(line) == expected


@pytest.mark.parametrize(
    ("complete", "names"),
    [
        (options.complete_conditions, [*CONDITIONS, *FROM_SAMPLES]),
        (options.complete_metrics, list(METRICS)),
        (options.complete_benchmarks, list(BENCHMARKS)),
        (options.complete_styles, list(STYLES)),
    ],
)
def test_an_empty_word_offers_all_names(complete: Callable[[str], list[str]], names: list[str]) -> None:
    assert complete("") == names
    assert complete("no such name") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_shown(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("typer.completion._get_shell_name", lambda: shell)  # else that of whatever started the tests
    result = CliRunner().invoke(cli.app, ["--show-completion"], prog_name="vlmrobust")
    assert result.exit_code == 0, result.output
    assert "_VLMROBUST_COMPLETE" in result.stdout
