"""Run vLLM in this process."""

from .model import VLLMModel, VLLMText

__all__ = ["VLLMModel", "VLLMText"]
