"""vLLM in this process."""

from .model import VLLMModel

__all__ = ["VLLMModel"]
