"""Build prompts and responses with known results, and start a browser for the page."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from vlmrobust import Prompt, Response, Sample


@pytest.fixture(scope="session")
def make_pair() -> Callable[..., tuple[Prompt, Response]]:
    """Return a builder of a prompt and its response; option 1 is correct."""

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
        outcome = {"status": status, "answer": choice} | fields
        return prompt, Response(sample_id=sample_id, condition=condition, draw=draw, **outcome)

    return build


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    """Start a headless browser."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    service = shutil.which("chromedriver")
    if chromium is None or service is None:
        pytest.skip("needs chromium and chromedriver, which are not installed")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1200,900",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(service))
    yield started
    started.quit()
