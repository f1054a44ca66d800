"""Run models behind an OpenAI-compatible server: build requests, send them and read replies."""

from .capabilities import ServerCheck
from .openai import OpenAIModel

__all__ = ["OpenAIModel", "ServerCheck"]
