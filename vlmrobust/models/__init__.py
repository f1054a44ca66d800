"""Models: anything with `respond(prompts) -> list[Response]`."""

from .base import Model
from .huggingface import HFModel
from .server import OpenAIModel

__all__ = ["HFModel", "Model", "OpenAIModel"]
