"""Models: anything with `respond(prompts) -> list[Response]`."""

from .base import Model

__all__ = ["Model"]
