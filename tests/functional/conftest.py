"""Scored rows: scores that tie, right and wrong answers, missing values, and how often each row was drawn."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import strategies as st


@st.composite
def _scored(draw: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    # Eighths are exact in bf16, and so few values tie often.
    score = st.one_of(st.integers(0, 8).map(lambda n: n / 8), st.floats(0, 1, width=32), st.just(math.nan))
    row = st.tuples(score, st.sampled_from([0.0, 1.0, 1.0, math.nan]), st.integers(0, 3))
    rows = draw(st.lists(row, max_size=14))
    scores, correct, weights = (torch.tensor([row[i] for row in rows]) for i in range(3))
    return scores.to(draw(st.sampled_from([torch.float32, torch.bfloat16]))), correct, weights


@pytest.fixture(scope="session")
def scored() -> st.SearchStrategy[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Return a strategy of scores in [0, 1], outcomes (1, 0, NaN) and whole weights, all `(N,)`."""
    return _scored()


@pytest.fixture(scope="session")
def repeated() -> Callable[..., list[tuple[float, float]]]:
    """Return what lists the defined rows (score, correct), each as often as its weight says."""

    def repeat(scores: torch.Tensor, correct: torch.Tensor, weights: torch.Tensor) -> list[tuple[float, float]]:
        rows = zip(scores.double().tolist(), correct.tolist(), weights.tolist(), strict=True)
        return [
            (score, right)
            for score, right, weight in rows
            for _ in range(int(weight))
            if not math.isnan(score) and not math.isnan(right)
        ]

    return repeat
