"""Draws the picture of the architecture page from the table in it: `python docs/architecture.py`."""

import re
from pathlib import Path

PAGE = Path(__file__).parent / "pages" / "architecture.md"
PICTURE = Path(__file__).parent / "pages" / "images" / "architecture.svg"

_WIDTH, _HEIGHT, _GAP, _LEFT, _PAD = 940, 34, 12, 70, 10
_LETTER = 7.9  # the width of one, at 13 px in a monospaced font


def layers(page: str) -> list[list[str]]:
    """Return the parts of each layer in the page's table, the highest layer first."""
    rows = re.findall(r"^\| (?:\d+) \|([^|]+)\|.*\|$", page, re.MULTILINE)
    return [parts for row in rows if (parts := re.findall(r"`(\w+)`", row))]


def picture(found: list[list[str]]) -> str:
    """Return the layers as an SVG, one row each; an arrow beside them says which way imports point."""
    height = len(found) * (_HEIGHT + _GAP) + _GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        'aria-label="The parts of the package in layers; imports point downwards">',
        "<style>text { font: 13px monospace; fill: #222 } .layer { fill: #eef2f7 } "
        ".part { fill: #fff; stroke: #5b7083 } .arrow { stroke: #5b7083; stroke-width: 2; fill: none }</style>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<path class="arrow" d="M 24 {_GAP} V {height - _GAP} m -6 -9 l 6 9 l 6 -9"/>',
        f'<text transform="translate(46 {height / 2 + 28:.0f}) rotate(-90)">imports</text>',
    ]
    width = _WIDTH - _LEFT - _GAP
    for number, parts in enumerate(found):
        top = _GAP + number * (_HEIGHT + _GAP)
        lines.append(f'<rect class="layer" x="{_LEFT}" y="{top}" width="{width}" height="{_HEIGHT}" rx="4"/>')
        widths = [len(part) * _LETTER + 2 * _PAD for part in parts]
        left = _LEFT + (width - sum(widths) - _GAP * (len(parts) - 1)) / 2
        for part, own in zip(parts, widths, strict=True):
            lines += [
                f'<rect class="part" x="{left:.0f}" y="{top + 5}" width="{own:.0f}" height="{_HEIGHT - 10}" rx="3"/>',
                f'<text x="{left + own / 2:.0f}" y="{top + 22}" text-anchor="middle">{part}</text>',
            ]
            left += own + _GAP
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(picture(layers(PAGE.read_text(encoding="utf-8"))), encoding="utf-8")
