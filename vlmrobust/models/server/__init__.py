"""A model behind an OpenAI-compatible server: what is sent, what comes back, and what is read from it."""

from .check import ServerCheck
from .openai import OpenAIModel

__all__ = ["OpenAIModel", "ServerCheck"]
