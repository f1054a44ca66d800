"""Styles by name, for configuration files and the command line: the one table of them."""

from . import styles
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
        ValueError: there is none of this name; the message lists those there are.

    Example:
        >>> named_style("vigorl_spatial").answer_by
        'text'
    """
    if name not in STYLES:
        raise ValueError(f"expected one of the styles {', '.join(STYLES)}, got {name!r}")
    return STYLES[name]
