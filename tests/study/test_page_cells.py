"""Test the cells of a study: a value with its n, and both sides of a change."""

from typing import Any

import pandas as pd
import pytest

from vlmrobust import Prompt, Report, Response, Sample
from vlmrobust.catalogue import judged_metrics
from vlmrobust.functional import QUADRANTS
from vlmrobust.judges import RuleJudge
from vlmrobust.metrics import Accuracy
from vlmrobust.study import StudyResult, sections
from vlmrobust.study.page_cells import RUN, change, records_of, short, with_base

BLUE, RED, NONE = "So the answer is blue.", "So the answer is red.", "Hm."


def make_pair(sample_id: str, condition: str, choice: int | None, thought: str = BLUE) -> tuple[Prompt, Response]:
    sample = Sample(id=sample_id, images=(b"x",), question="Which?", options=("red", "blue"), answer=1)
    fields: dict[str, Any] = {"status": "answered", "answer": choice, "think": thought, "own_think": thought}
    if choice is None:
        fields = {"status": "error", "error": "lost"}
    return (
        Prompt.of(sample).replace(condition=condition),
        Response(sample_id=sample_id, condition=condition, **fields),
    )


def make_summary(report: Report, **names: str) -> pd.DataFrame:
    return report.summary.assign(model="m", checkpoint="", benchmark="b", **names)


@pytest.fixture
def summary_with_errors() -> pd.DataFrame:
    """Base is right in 32 of 50; the last 10 are lost under the condition, which is right in 24 of the first 40."""
    pairs = [make_pair(f"s{n}", "base", int(n < 32)) for n in range(50)]
    pairs += [make_pair(f"s{n}", "x", int(n < 24) if n < 40 else None) for n in range(50)]
    return make_summary(Report.from_responses(*zip(*pairs, strict=True), [Accuracy()]))


def test_a_terminal_line_has_both_sides_of_a_change(summary_with_errors: pd.DataFrame) -> None:
    base, x = with_base(records_of(summary_with_errors), RUN)
    assert short(base).text == "0.64 (n 50)"
    assert short(x).text == "0.60 −0.20 (n 40; 40 pairs: 0.60, base 0.80)"


def test_a_cell_of_the_page_has_both_sides_of_a_change(summary_with_errors: pd.DataFrame) -> None:
    base, x = with_base(records_of(summary_with_errors), RUN)
    assert "pairs" not in change(base).text
    assert change(x).text.endswith("n 40\n40 pairs: 0.600, base 0.800")


def test_quadrants_are_shares_of_what_is_judged_under_their_condition() -> None:
    """Judged are 15 under base, and 50 under the condition: 20 of those consistent, all right."""
    pairs = [make_pair(f"s{n}", "base", 1, BLUE if n < 15 else NONE) for n in range(50)]
    pairs += [make_pair(f"s{n}", "x", 1, BLUE if n < 20 else RED) for n in range(50)]
    judged = make_summary(Report.from_responses(*zip(*pairs, strict=True), judged_metrics(RuleJudge())), judge="rules")
    grid = sections._quadrants(judged)
    first = next(place for place, name in enumerate(QUADRANTS) if name == "consistent_correct") + 5
    texts = {row[4].text: row[first].text for row in grid.rows}
    assert texts["base"].endswith("\nn 15")
    assert texts["base"].startswith("1.000\xa0[")
    assert texts["x"].endswith("\nn 50")
    assert texts["x"].startswith("0.400\xa0[")


def test_the_page_does_not_say_that_quadrants_are_of_pairs(finished: StudyResult) -> None:
    [quadrants] = [section for section in sections.sections(finished) if section.key == "quadrants"]
    assert "under that condition" in quadrants.hint
    assert "and under base" not in quadrants.hint
