"""Styles by name, for configuration files and the command line: the one table of them."""

from . import styles
from .naming import unknown_name
from .types import Style

__all__ = ["STYLES", "named_style"]

STYLES: dict[str, Style] = {
    "think": Style(),
    "direct": Style(mode="direct"),
    **{name: style for name in styles.__all__ if isinstance(style := getattr(styles, name), Style)},
}


def named_style(name: str) -> Style:
    """Return the library's own style that asks for a thought ("think") or not ("direct"), or one of `vlmrobust.styles`.

    Raises:
        ValueError: there is none of this name; the message has the nearest, and lists all.

    Example:
        >>> named_style("vigorl_spatial").answer_by
        'text'
    """
    if name not in STYLES:
        raise ValueError(f"expected a style, {unknown_name(name, STYLES)}")
    return STYLES[name]
