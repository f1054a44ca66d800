"""A model behind an OpenAI-compatible server: what is sent, what comes back, and what is read from it."""

from .openai import OpenAIModel

__all__ = ["OpenAIModel"]
