"""Tiny models of real architectures."""

from collections.abc import Callable
from functools import cache

import pytest
import zoo


@pytest.fixture(scope="session")
def tiny() -> Callable[[str], zoo.Tiny]:
    """Return a builder of tiny models, each built once: a test that changes one builds its own."""
    return cache(zoo.build)
