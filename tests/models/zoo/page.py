"""Generate the documentation's list of families from the tests."""

from pathlib import Path

from .building import ALL, IMAGE_TEXT_TO_TEXT
from .outcomes import NOTES, PENDING, REFUSED

__all__ = ["PAGE", "lines"]

PAGE = Path(__file__).parents[3] / "docs/pages/families.md"
_START, _END = "<!-- made from the tests -->", "<!-- end -->"


def lines() -> list[str]:
    """Return the table's lines, sorted by model type."""
    rows = [f"| `{family}` | {_outcome(family)} |" for family in sorted(ALL)]
    return ["| model type | what was found |", "|---|---|", *rows]


def _outcome(family: str) -> str:
    if family in REFUSED:
        return f"refused: {REFUSED[family][1]}"
    if family in PENDING:
        return f"not right yet: {PENDING[family]}"
    return "right" + (f"; {NOTES[family]}" if family in NOTES else "")


def _write() -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(_START)
    after = rest.split(_END)[1]
    PAGE.write_text(f"{before}{_START}\n\n" + "\n".join(lines()) + f"\n\n{_END}{after}", encoding="utf-8")


if __name__ == "__main__":
    assert set(IMAGE_TEXT_TO_TEXT) <= set(ALL)
    _write()
