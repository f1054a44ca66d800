"""Process a run's batches in this process, on the ranks of torchrun or accelerate, or on the actors of a Ray cluster.

All workers use the same batches, append to files of their own in the run directory, and skip recorded prompts, so the
number of workers may change whenever a run is resumed.
"""

from .ranks import Ranks, ThisProcess, Workers
from .ray import RayWorkers

__all__ = ["Ranks", "RayWorkers", "ThisProcess", "Workers"]
