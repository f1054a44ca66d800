"""Build reports to plot: one of a run, and small ones with known numbers."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from builders import make_samples

from vlmrobust import Prompt, Report, Response, Sample, expand, paper_conditions
from vlmrobust.testing import FakeModel


@pytest.fixture(scope="session")
def run_report() -> Callable[..., Report]:
    """Return a builder of a report on a model with planted behaviour."""

    def build(count: int = 40, draws: int = 1, manifest: dict[str, Any] | None = None, **planted: Any) -> Report:
        samples = make_samples(
            count,
            options=("red", "blue", "green", "grey"),
            metadata=lambda number: {"kind": "odd" if number % 2 else "even"},
        )
        prompts = list(expand(samples, paper_conditions(), draws=draws))
        model = FakeModel(opens_images=False, **planted)
        return Report.from_responses(prompts, model.respond(prompts), manifest=manifest)

    return build


@pytest.fixture(scope="session")
def report(run_report: Callable[..., Report]) -> Report:
    return run_report(
        draws=2,
        accuracy=0.7,
        follow_think=0.5,
        follow_caption=0.4,
        contradict=0.2,
        unparsed=0.1,
        truncated=0.1,
        guess=0.2,
    )


@pytest.fixture(scope="session")
def make_report() -> Callable[..., Report]:
    """Return a builder of a report from (sample, condition, fields of the response); option 1 is correct."""

    def build(rows: Sequence[tuple[str, str, dict[str, Any]]], **options: Any) -> Report:
        prompts, responses = [], []
        for sample_id, condition, fields in rows:
            sample = Sample(
                id=sample_id,
                images=(b"x",),
                question="Which?",
                options=("red", "blue", "green"),
                answer=1,
                distractor=0,
            )
            prompts.append(Prompt.of(sample).replace(condition=condition))
            filled = {"status": "answered", "answer": 1} | fields
            responses.append(Response(sample_id=sample_id, condition=condition, **filled))
        return Report.from_responses(prompts, responses, **options)

    return build
