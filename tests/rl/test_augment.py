"""Check augmentation: keyed draws, logged shares, rows in the trainers' format."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vlmrobust import expand
from vlmrobust.perturbations import (
    AbstainOption,
    CorrectCaption,
    CorrectThink,
    OptionLetters,
    StopThink,
    WrongCaption,
    WrongThink,
)
from vlmrobust.prompting import LETTERS
from vlmrobust.rl import AccuracyReward, Augment, to_grpo_rows
from vlmrobust.rl.completions import COLUMNS
from vlmrobust.types import Prompt, Sample, Style

PAPER = {CorrectCaption(): 0.1, WrongCaption(): 0.1, CorrectThink(): 0.1, WrongThink(): 0.1}


def many(count: int) -> list[Sample]:
    image = Image.new("RGB", (8, 8), "blue")
    return [
        Sample(id=f"q{row}", images=[image], question=f"Cube {row}?", options=["red", "blue", "green"], answer=row % 3)
        for row in range(count)
    ]


def test_rows_have_the_columns_that_rewards_read(make_sample: Callable[..., Sample]) -> None:
    sample = make_sample(distractor=0)
    [row] = Augment({WrongThink(): 1.0}, seed=3)([sample])
    [_, prompt] = expand([sample], [WrongThink()], seed=3)
    assert tuple(row) == COLUMNS
    assert row["prompt"][:-1] == prompt.messages()
    assert row["prompt"][-1] == {"role": "assistant", "content": [{"type": "text", "text": prompt.prefill}]}
    assert row["prefill"] == prompt.prefill
    assert row["prefill"].startswith("<think>")
    assert row["condition"] == "wrong_think"
    assert (row["solution"], row["question"], row["options"]) == ("B", sample.question, list(sample.options))
    assert [image.size for image in row["images"]] == [(56, 56)]


def test_shares_are_near_the_probabilities_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    augment = Augment(PAPER)
    with caplog.at_level(logging.INFO, logger="vlmrobust.rl.rows"):
        rows = augment(many(2000))
    shares = augment.shares(rows)
    assert set(shares) == {"base", "correct_caption", "wrong_caption", "correct_think", "wrong_think"}
    for condition, share in shares.items():
        expected = 0.6 if condition == "base" else 0.1
        assert abs(share - expected) < 4 * (expected * (1 - expected) / 2000) ** 0.5
    assert sum(shares.values()) == pytest.approx(1)
    assert f"2000 training rows: {shares}" in caplog.text


@given(st.permutations(range(12)), st.integers(0, 3))
def test_a_draw_depends_only_on_seed_and_sample(order: list[int], seed: int) -> None:
    samples, augment = many(12), Augment({WrongCaption(): 0.5, WrongThink(): 0.3}, seed)
    whole = augment.prompts(samples)
    moved = augment.prompts([samples[place] for place in order])
    assert moved == [whole[place] for place in order]
    assert augment.prompts(samples[:1]) == whole[:1]


def test_another_seed_draws_differently() -> None:
    samples = many(60)
    conditions = [[prompt.condition for prompt in Augment(PAPER, seed).prompts(samples)] for seed in (0, 1)]
    assert conditions[0] != conditions[1]


def test_wrong_texts_assert_the_distractor_of_the_evaluation() -> None:
    samples = many(20)
    evaluated = {prompt.sample.id: prompt.asserted for prompt in expand(samples, [WrongThink()], seed=5)}
    for prompt in Augment({WrongThink(): 1.0}, seed=5).prompts(samples):
        assert prompt.asserted == prompt.distractor == evaluated[prompt.sample.id]


def test_a_perturbation_that_does_not_apply_leaves_the_sample_unchanged() -> None:
    augment = Augment({WrongThink(): 1.0}, style=Style(mode="direct"))
    assert augment.shares(augment(many(3))) == {"base": 1.0}


def test_rows_of_samples_unperturbed() -> None:
    rows = to_grpo_rows(many(3))
    assert [row["solution"] for row in rows] == list("ABC")
    assert all(row["condition"] == "base" and row["prefill"] == "" for row in rows)
    assert all([message["role"] for message in row["prompt"]] == ["user"] for row in rows)


def test_rows_are_accepted_as_data() -> None:
    rows = [{"id": f"q{n}", "image": Image.new("RGB", (8, 8)), "question": "Which?", "options": ["x", "y"], "label": n}
            for n in (0, 1)]  # fmt: skip
    augmented = Augment({WrongCaption(): 1.0})(rows, {"answer": "label"})
    assert [row["solution"] for row in augmented] == ["A", "B"]
    assert "Which?" in augmented[0]["prompt"][0]["content"][-1]["text"]


def test_a_dataset_maps_to_a_dataset() -> None:
    datasets = pytest.importorskip("datasets")
    samples = many(30)
    table = datasets.Dataset.from_list(
        [
            {
                "id": sample.id,
                "image": sample.images[0],
                "question": sample.question,
                "options": list(sample.options),
                "answer": LETTERS[sample.answer],
            }
            for sample in samples
        ]
    )
    augment = Augment(PAPER, seed=1)
    mapped = augment(table)
    assert isinstance(mapped, datasets.Dataset)
    assert sorted(mapped.column_names) == sorted(COLUMNS)
    expected = augment(samples)
    assert augment.shares(mapped) == augment.shares(expected)
    for row, wanted in zip(mapped, expected, strict=True):
        assert plain(row) == plain(wanted)
    unnamed = augment(table.remove_columns("id"))
    assert [row["solution"] for row in unnamed] == [row["solution"] for row in expected]


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row for comparison: pixels, and parts of messages without the fields that are None."""
    messages = [
        {
            "role": message["role"],
            "content": [
                {key: value for key, value in part.items() if value is not None} for part in message["content"]
            ],
        }
        for message in row["prompt"]
    ]
    return {**row, "prompt": messages, "images": [image.tobytes() for image in row["images"]]}


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ({WrongCaption(): 0.7, WrongThink(): 0.7}, r"values in \[0, 1\] that add up to at most 1, got \[0.7, 0.7\]"),
        ({WrongCaption(): -0.1}, r"got \[-0.1\]"),
        ([(WrongCaption(), 0.1), (WrongCaption(), 0.1)], "got 'wrong_caption' twice"),
    ],
)
def test_invalid_probabilities_are_refused(probabilities: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augment(probabilities)


def test_added_options_are_refused() -> None:
    with pytest.raises(
        ValueError, match="sample 'q0', condition 'abstain_option', field 'order': expected exactly the"
    ):
        Augment({AbstainOption(): 1.0})(many(1))


def test_a_closed_thought_is_a_prefill_too() -> None:
    [row] = Augment({StopThink(): 1.0})(many(1))
    assert row["prefill"].endswith("</think>")
    assert row["prompt"][-1]["role"] == "assistant"


def test_the_solution_is_the_letter_of_the_option_as_shown(make_sample: Callable[..., Sample]) -> None:
    from vlmrobust.rl.rows import row_of

    prompt = Prompt.of(make_sample())
    turned = prompt.replace(order=(3, 2, 1, 0), options=prompt.options[::-1])
    assert row_of(turned, Style())["solution"] == "C"
    assert row_of(turned, Style())["options"] == ["yellow", "green", "blue", "red"]


def test_rows_of_other_letters_are_read_by_their_style(make_sample: Callable[..., Sample]) -> None:
    style = Style(letters="DCBA")
    [row] = Augment((), style=style)([make_sample()])
    assert row["solution"] == "C"
    assert "C. blue" in row["prompt"][0]["content"][-1]["text"]
    texts = [f"<think>.</think><answer>{letter}</answer>" for letter in "ABCD"]
    for columns in ({"options": [row["options"]] * 4}, {}):
        assert AccuracyReward(style=style)(texts, solution=["C"] * 4, **columns) == [0.0, 0.0, 1.0, 0.0]


def test_letters_unknown_to_the_rewards_are_refused() -> None:
    with pytest.raises(ValueError, match="sample 'q0', condition 'option_letters', field 'style': expected the style"):
        Augment({OptionLetters(): 1.0})(many(1))
