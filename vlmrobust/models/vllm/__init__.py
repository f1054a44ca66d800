"""vLLM in this process."""

from .model import VLLMModel
from .text import VLLMText

__all__ = ["VLLMModel", "VLLMText"]
