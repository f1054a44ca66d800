"""Build a model from a builder's config."""

import importlib.util
from collections.abc import Callable
from typing import Any
from unittest import SkipTest

import torch
import transformers as hf
from transformers.models.auto import modeling_auto

from . import crops, gemmas, glms, grids, grids_more, llavas, omnis, refused, slices, tokens
from .families import FAMILIES
from .parts import BUILDERS, Tiny
from .weights import redraw

__all__ = ["ALL", "IMAGE_TEXT_TO_TEXT", "build"]

# Whoever imports a module of builders registers them.
assert all((crops, gemmas, glms, grids, grids_more, llavas, omnis, refused, slices, tokens))
ALL: dict[str, Callable[[], tuple[Any, Any]]] = {**FAMILIES, **BUILDERS}
IMAGE_TEXT_TO_TEXT: dict[str, str] = dict(modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
_MULTIMODAL: dict[str, str] = dict(getattr(modeling_auto, "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES", {}))
_NEEDS_TIMM = ("fast_vlm", "gemma3n", "perception_lm")


def build(family: str) -> Tiny:
    """Return a new model of a family, always with the same weights; skip a test whose family is not installed."""
    if reason := _missing(family):
        raise SkipTest(reason)  # pytest's, too; engines' environments have no pytest
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # for what is not drawn anew: gates, biases, time constants
        made, processor = ALL[family]()
        if isinstance(made, hf.PretrainedConfig):
            auto = hf.AutoModelForImageTextToText if family in IMAGE_TEXT_TO_TEXT else hf.AutoModelForMultimodalLM
            made = auto.from_config(made)
    redraw(made)
    tokenizer = getattr(processor, "tokenizer", processor)
    if hasattr(made, "generation_config"):
        made.generation_config.eos_token_id = tokenizer.eos_token_id
        made.generation_config.pad_token_id = tokenizer.pad_token_id
    return Tiny(family, made.eval(), processor)


def _missing(family: str) -> str | None:
    """Return what a family needs and is not installed, None if nothing."""
    if family not in IMAGE_TEXT_TO_TEXT and family not in _MULTIMODAL:
        return f"transformers {hf.__version__} does not know it"
    if family == "llama4" and not hasattr(hf, "Llama4ImageProcessor"):
        return f"transformers {hf.__version__} has no image processor of it without torchvision's"
    if family in _NEEDS_TIMM and importlib.util.find_spec("timm") is None:
        return "its image encoder needs timm"
    if family == "fuyu" and hf.__version__.startswith("4."):
        return "its processor of transformers 4 counts on its own tokenizer"
    return None
