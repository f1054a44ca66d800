"""Sample with keyed noise, so that a text depends on its prompt and seed, not on other prompts of the batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..seeding import integer_key

__all__ = ["SAMPLING_OPTIONS", "GumbelNoise", "sampling_seed", "warpers"]

SAMPLING_OPTIONS = ("do_sample", "temperature", "top_k", "top_p", "min_p", "seed")


def sampling_seed(seed: int, key: tuple[str, str, int], bits: int = 63) -> int:
    """Return the seed of one text, from the run's seed and (sample id, condition, draw)."""
    return integer_key(seed, "sampling", *key) % (1 << bits)


class GumbelNoise:
    """A logits processor that adds Gumbel noise, so that the argmax is a sample (the Gumbel-max trick).

    If `g_v = −log(−log u_v)` with u uniform, then `argmax(z_v + g_v)` is distributed as `softmax(z)`.

    Each row has its own generator, seeded by (seed, sample, condition, draw), and draws from it once per step.

    Args:
        keys: one (sample id, condition, draw) per row of the batch.
        seed: the run's seed for sampling.
        device: the logits' device.
    """

    def __init__(self, keys: Sequence[tuple[str, str, int]], seed: int, device: torch.device) -> None:
        self._generators = [torch.Generator(device).manual_seed(sampling_seed(seed, key)) for key in keys]

    def __call__(self, input_ids: Tensor | None, scores: Tensor) -> Tensor:
        """Return `(B, V)` scores with noise added; -inf stays -inf."""
        noise = torch.stack(
            [
                torch.empty(scores.shape[-1], device=scores.device).exponential_(generator=generator)
                for generator in self._generators
            ]
        )
        return scores - noise.clamp_(min=torch.finfo(torch.float32).tiny).log_()


def warpers(options: Mapping[str, Any]) -> list[Any]:
    """Return Hugging Face's logits warpers for the given sampling options, in the order of `generate`."""
    from transformers.generation import logits_process

    temperature, top_k = options.get("temperature"), options.get("top_k")
    top_p, min_p = options.get("top_p"), options.get("min_p")
    made: list[Any] = []
    if temperature is not None and temperature != 1.0:
        made.append(logits_process.TemperatureLogitsWarper(float(temperature)))
    if top_k:
        made.append(logits_process.TopKLogitsWarper(int(top_k)))
    if top_p is not None and top_p < 1.0:
        made.append(logits_process.TopPLogitsWarper(float(top_p)))
    if min_p:
        made.append(logits_process.MinPLogitsWarper(float(min_p)))
    return made
