"""Who answers the batches of a run: this process, the ranks of torchrun or accelerate, or the actors of a Ray cluster.

Whoever answers, the batches are the same, every worker appends to files of its own in the run directory, and what is
recorded is not asked again; so the number of workers may change whenever a run is resumed.
"""

from .processes import Ranks, ThisProcess, Workers
from .ray import RayWorkers

__all__ = ["Ranks", "RayWorkers", "ThisProcess", "Workers"]
