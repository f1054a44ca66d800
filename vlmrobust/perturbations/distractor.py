"""Which wrong option the conditions of a sample assert."""

import math
from typing import Literal

from ..keyed import generator
from ..types import Response, Sample

__all__ = ["Distractor", "draw_distractor", "runner_up"]

Distractor = Literal["random", "runner_up"]


def draw_distractor(sample: Sample, seed: int) -> int:
    """Return the wrong option that all conditions of a sample assert: its own, or one drawn by seed and sample.

    Example:
        >>> sample = Sample(id="q1", images=["x.png"], question="Which?", options=["red", "blue"], answer=1)
        >>> draw_distractor(sample, seed=0)
        0
    """
    if sample.distractor is not None:
        return sample.distractor
    wrong = [index for index in range(len(sample.options)) if index != sample.answer]
    return wrong[int(generator(seed, sample.id, "distractor").integers(len(wrong)))]


def runner_up(sample: Sample, base: Response) -> int | None:
    """Return the wrong option that was likeliest under base, the first of equals; None where no letters were read.

    Where the model is right it is its second choice, where it is wrong, its answer. A sample's own distractor wins.

    Example:
        >>> sample = Sample(id="q1", images=["x.png"], question="Which?", options=["red", "blue", "green"], answer=1)
        >>> base = Response(sample_id="q1", condition="base", status="answered", answer=1,
        ...                 option_logprobs=(-3.0, -0.1, -2.5))
        >>> runner_up(sample, base)
        2
    """
    if sample.distractor is not None:
        return sample.distractor
    logprobs = base.option_logprobs or ()
    wrong = [index for index, value in enumerate(logprobs) if index != sample.answer and value > -math.inf]
    return max(wrong, key=logprobs.__getitem__, default=None)
