"""Show figures in notebooks without pyplot, and write them as SVG."""

from io import BytesIO, StringIO
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

__all__ = ["Picture", "svg_of"]


class Picture(Figure):
    """A matplotlib figure that is not registered in pyplot."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Return an image of twice the display size, for high-resolution screens, and the display size."""
        out = BytesIO()
        self.savefig(out, format="png", dpi=2 * self.dpi)
        width, height = (round(inches * self.dpi) for inches in self.get_size_inches())
        return out.getvalue(), {"width": width, "height": height}


def svg_of(figure: Figure, **options: Any) -> str:
    """Return a figure as SVG; equal figures give equal text.

    Args:
        figure: to write.
        **options: for `Figure.savefig`.
    """
    out = StringIO()
    with mpl.rc_context({"svg.hashsalt": "vlmrobust", "svg.fonttype": "path"}):
        figure.savefig(out, format="svg", metadata={"Date": None}, **options)
    return out.getvalue()
