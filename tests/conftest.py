"""Settings and builders that all tests share."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:  # several processes test side by side
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from PIL import Image

from vlmrobust import Sample

# A busy machine is no failure: a time limit per example would make the tests depend on it. And CI says the same of the
# same commit every time; elsewhere examples are drawn anew.
settings.register_profile("any_machine", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("any_machine")


@pytest.fixture(scope="session")
def make_sample() -> Callable[..., Sample]:
    """Return a builder of samples; what is not given is filled in."""

    def make(sample_id: str = "q1", **fields: Any) -> Sample:
        defaults = {
            "images": (Image.new("RGB", (56, 56), "red"),),
            "question": "Which colour is the cube?",
            "options": ("red", "blue", "green", "yellow"),
            "answer": 1,
        }
        return Sample(id=sample_id, **(defaults | fields))

    return make
