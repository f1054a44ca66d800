"""Answer a run's batches in this process, on the ranks of torchrun or accelerate, or on the actors of a Ray cluster.

Whichever workers answer, the batches are the same, each worker appends to its own files in the run directory, and what
is recorded is not asked again; so the number of workers may change whenever a run is resumed.
"""

from .processes import Ranks, ThisProcess, Workers
from .ray import RayWorkers

__all__ = ["Ranks", "RayWorkers", "ThisProcess", "Workers"]
