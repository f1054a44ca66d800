"""The labelled thoughts, and how well the rules read them."""

import json

import labelled_thoughts as thoughts
import pytest
import torch

from vlmrobust.judges import Judge, RuleJudge, Verdicts
from vlmrobust.judges.conclusion import concluded_option

DEVELOPMENT = thoughts.rows("development")
HELD_OUT = thoughts.rows("held_out")


def case(row):
    misread = pytest.mark.xfail(reason="beyond the rules") if row.get("misread") else ()
    return pytest.param(row, marks=misread, id=row["thought"][:40])


@pytest.mark.parametrize("row", [case(row) for row in DEVELOPMENT])
def test_reads_what_a_thought_finally_asserts(row):
    option, unsure = concluded_option(row["thought"], row["options"])
    assert option == row["label"]
    if "unsure" in row:
        assert unsure == row["unsure"]


def test_thoughts_that_the_rules_were_not_made_with():
    measured = thoughts.scores(RuleJudge(), HELD_OUT)
    assert measured.balanced_accuracy >= 0.95
    assert measured.coverage >= 0.9


def test_the_set_is_large_of_all_styles_and_holds_no_row_twice():
    assert len(HELD_OUT) >= 120
    assert len(DEVELOPMENT) + len(HELD_OUT) >= 300
    assert len({(row["thought"], *row["options"]) for row in DEVELOPMENT + HELD_OUT}) == len(DEVELOPMENT + HELD_OUT)
    assert {row["style"] for row in HELD_OUT} == {
        "direct", "eliminating", "self_correcting", "contradicting", "empty", "templated", "truncated", "other_language"
    }  # fmt: skip
    for part, labelled in (("development", DEVELOPMENT), ("held_out", HELD_OUT)):
        for row in labelled:
            assert row["part"] == part
            assert row["label"] is None or 0 <= row["label"] < len(row["options"]), json.dumps(row)


class Silent(Judge):
    unsure: bool

    def conclude(self, responses):
        count = len(responses)
        return Verdicts.of(torch.full((count,), -1), torch.full((count,), self.unsure))


@pytest.mark.parametrize("unsure", [False, True])
def test_a_judge_that_says_nothing_scores_by_chance(unsure):
    classes = len({row["label"] for row in HELD_OUT})
    measured = thoughts.scores(Silent(unsure=unsure), HELD_OUT)
    assert measured.balanced_accuracy == pytest.approx(1 / classes)
    assert measured.coverage == 0
