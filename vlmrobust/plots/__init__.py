"""A report in pictures: one function per plot, each on axes of its own or on yours.

matplotlib is the extra `plot`; it is imported when something is drawn. Nothing here touches `pyplot` or the global
settings, and no display is needed. Text is drawn as it stands, never read as a formula.
"""

from .curve import robustness_curve
from .letters import entropies, probabilities, reliability
from .look import NothingToPlot
from .panels import drops, quadrants
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
