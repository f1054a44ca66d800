"""Tiny random models of real architectures, with real processors and chat templates; built offline in a moment."""

from .families import FAMILIES, build
from .parts import BUILDERS, Tiny
from .tokenizers import byte_level_tokenizer, sentence_piece_tokenizer
from .weights import favour, redraw

__all__ = ["BUILDERS", "FAMILIES", "Tiny", "build", "byte_level_tokenizer", "favour", "redraw", "sentence_piece_tokenizer"]
