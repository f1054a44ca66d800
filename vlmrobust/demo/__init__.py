"""Provide a bundled demo: scenes of coloured shapes with questions, and a small model trained on them.

Heavy dependencies are imported only when used.

Example:
    >>> from vlmrobust import demo
    >>> demo.samples(3)[2].metadata
    {'kind': 'count'}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlmrobust.models.huggingface import HFModel
    from vlmrobust.types import Sample

__all__ = ["model", "samples"]


def samples(n: int, seed: int = 0) -> list[Sample]:
    """Draw `n` samples that the demo model was not trained on; the first ones are the same for every `n`.

    Args:
        n: number of samples.
        seed: another seed gives other scenes.

    Returns:
        Samples with ready-made true and false captions and thoughts; `metadata["kind"]` is one of colour, shape,
        count, position and relation.
    """
    from vlmrobust.demo.scenes import to_sample

    if n < 0 or seed < 0:
        raise ValueError(f"n and seed must not be negative, got n={n}, seed={seed}")
    return [to_sample(index, seed) for index in range(n)]


def model(**kwargs: Any) -> HFModel:
    """Load the bundled model, a small Qwen2.5-VL, in float32.

    Args:
        **kwargs: passed on to `HFModel.from_pretrained`; they override the defaults.
    """
    from pathlib import Path

    from transformers.utils import logging

    from vlmrobust.models.huggingface import HFModel

    options: dict[str, Any] = {"dtype": "float32", **kwargs}
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # loading the weights is fast
    try:
        return HFModel.from_pretrained(str(Path(__file__).parent / "weights"), **options)
    finally:
        if shown:
            logging.enable_progress_bar()
