"""Build the samples and reports that tests of several folders share."""

from collections.abc import Iterable, Sequence
from typing import Any

from vlmrobust import Metric, PairedMetric, Prompt, Report, Response, Sample


def make_samples(count: int, *, options: Sequence[str] = ("red", "blue", "green"), **fields: Any) -> list[Sample]:
    """Return samples q0, q1, … whose images are never decoded, and whose answers take turns.

    Args:
        count: the number of samples.
        options: the options of all samples.
        **fields: further fields, or others than these; a function is called with the number of the sample.
    """

    def make(number: int) -> Sample:
        defaults = {
            "id": f"q{number}",
            "images": [b"not decoded"],
            "question": "Which?",
            "options": options,
            "answer": number % len(options),
        }
        own = {name: value(number) if callable(value) else value for name, value in fields.items()}
        return Sample(**(defaults | own))

    return [make(number) for number in range(count)]


def report_of(
    pairs: Iterable[tuple[Prompt, Response]],
    metrics: Sequence[Metric | PairedMetric | str] | None = None,
    **settings: Any,
) -> Report:
    """Return the report on pairs of a prompt and its response."""
    prompts, responses = zip(*pairs, strict=True)
    return Report.from_responses(prompts, responses, metrics, **settings)
