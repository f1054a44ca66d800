"""Models: anything with `respond(prompts) -> list[Response]`."""

from .base import Model
from .huggingface import HFModel

__all__ = ["HFModel", "Model"]
