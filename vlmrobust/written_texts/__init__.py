"""Let a model write captions and thoughts once, check them with a judge, and keep them in a file for all runs."""

from .collection import WrittenTexts
from .drafts import TextModel, WrittenText

__all__ = ["TextModel", "WrittenText", "WrittenTexts"]
