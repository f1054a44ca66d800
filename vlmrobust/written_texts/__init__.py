"""Let a model write captions and thoughts once, check them with a judge, and keep them in a file for all runs."""

from .collection import WrittenTexts
from .record import WrittenText
from .text_model import TextModel

__all__ = ["TextModel", "WrittenText", "WrittenTexts"]
