"""Responses made by hand, so that what a report has to say can be worked out on paper."""

from collections.abc import Callable
from typing import Any

import pytest

from vlmrobust import Prompt, Response, Sample


@pytest.fixture(scope="session")
def answer() -> Callable[..., tuple[Prompt, Response]]:
    """Return a builder of one prompt and the response to it; the right answer is option 1."""

    def build(
        sample_id: str,
        condition: str = "base",
        choice: int | None = 1,
        *,
        draw: int = 0,
        group: str | None = None,
        metadata: dict[str, Any] | None = None,
        **fields: Any,
    ) -> tuple[Prompt, Response]:
        sample = Sample(
            id=sample_id,
            images=(b"x",),
            question="Which?",
            options=("red", "blue", "green"),
            answer=1,
            distractor=0,
            group=group,
            metadata=metadata or {},
        )
        prompt = Prompt.of(sample, draw=draw).replace(condition=condition)
        status = "answered" if choice is not None else "unparsed"
        said = {"status": status, "answer": choice} | fields
        return prompt, Response(sample_id=sample_id, condition=condition, draw=draw, **said)

    return build
