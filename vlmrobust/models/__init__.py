"""Models: anything with `respond(prompts) -> list[Response]`."""

from .base import ConcurrentModel, Model
from .huggingface import HFModel
from .server import OpenAIModel
from .vllm import VLLMModel

__all__ = ["ConcurrentModel", "HFModel", "Model", "OpenAIModel", "VLLMModel"]
