"""Tiny random models of real architectures, with real processors and chat templates; built offline in a moment."""

from .building import ALL, IMAGE_TEXT_TO_TEXT, build
from .families import FAMILIES
from .parts import Tiny
from .tokenizers import byte_level_tokenizer, sentence_piece_tokenizer
from .weights import favour, redraw

__all__ = [
    "ALL",
    "FAMILIES",
    "IMAGE_TEXT_TO_TEXT",
    "Tiny",
    "build",
    "byte_level_tokenizer",
    "favour",
    "redraw",
    "sentence_piece_tokenizer",
]
