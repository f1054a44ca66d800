"""The table of what becomes of bad rows, images and replies says what becomes of them."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_table_is_what_happens() -> None:
    spec = importlib.util.spec_from_file_location("bad_data", ROOT / "docs" / "bad_data.py")
    assert spec is not None
    assert spec.loader is not None
    bad_data = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bad_data)
    made = bad_data.table()
    page = bad_data.PAGE.read_text(encoding="utf-8")
    assert made in page, "run python docs/bad_data.py"
    assert len(made.splitlines()) - 2 >= 60


@pytest.mark.parametrize("never", ["abc123", "/tmp/", "Traceback"])
def test_the_table_holds_nothing_of_the_machine(never: str) -> None:
    assert never not in (ROOT / "docs" / "pages" / "bad_data.md").read_text(encoding="utf-8")
