"""Plot reports: one function per plot, each on new axes or on yours.

matplotlib is the extra `plot`; it is imported when something is drawn. The plots use neither `pyplot` nor global
settings, and need no display. Text is drawn literally, never parsed as a formula.
"""

from .letters import entropies, probabilities, reliability
from .look import NothingToPlot
from .panels import drops, quadrants, robustness_curve
from .trajectory import trajectory

__all__ = [
    "NothingToPlot",
    "drops",
    "entropies",
    "probabilities",
    "quadrants",
    "reliability",
    "robustness_curve",
    "trajectory",
]
