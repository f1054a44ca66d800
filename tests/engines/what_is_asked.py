"""How much engines are asked, in whatever environment."""

__all__ = ["SAMPLES", "TOKENS"]

SAMPLES = 20
TOKENS = 96
