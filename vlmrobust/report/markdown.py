"""Text that others wrote, as Markdown that shows it and does nothing else."""

import re

from ..text import printable

__all__ = ["block", "inline"]

# A character that may begin markup; an underscore inside a word does not, and a bracket does where a target follows.
_MARKUP = re.compile(r"[\\`*<&|~$]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])")
_BEGINNING = re.compile(r"^(?:[#>+=-]|\d+(?=[.)]))")


def inline(text: str) -> str:
    r"""Return text for the middle of a line or a cell of a table: on one line, without markup and control characters.

    Example:
        >>> print(inline("wrong_think <b> [a](b) x|y"))
        wrong_think \<b> [a\](b) x\|y
    """
    return _MARKUP.sub(r"\\\g<0>", printable(" ".join(text.split())))


def block(text: str) -> str:
    r"""Return text for the beginning of a line: no heading, list or quotation.

    Example:
        >>> print(block("# 1"), block("1. a"))
        \# 1 1\. a
    """
    escaped = inline(text)
    begun = _BEGINNING.match(escaped)
    if begun is None:
        return escaped
    end = begun.end()
    return f"{escaped[:end]}\\{escaped[end:]}" if escaped[0].isdigit() else f"\\{escaped}"
