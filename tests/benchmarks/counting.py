"""What answering prompts takes at least: floating-point operations, and bytes where tokens are decoded one by one.

Decoding reads all weights for every token, whatever the number of rows; on most machines that takes longer than the
operations do, so that a count of operations alone promises too much.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from vlmrobust import Prompt


@dataclass(frozen=True)
class Rates:
    """How fast a machine is at best: operations per second of a large product, and bytes per second of weights read."""

    operations: float
    bytes: float

    @classmethod
    def measured(cls) -> "Rates":
        """Multiply many rows, and a single one, with 200 MB of weights."""
        weights = [torch.randn(2048, 512) for _ in range(50)]
        size = sum(weight.numel() for weight in weights)

        def best(rows: torch.Tensor) -> float:
            return min(
                seconds(lambda: [torch.nn.functional.linear(rows, weight) for weight in weights]) for _ in range(7)
            )

        return cls(2 * 2048 * size / best(torch.randn(2048, 512)), 4 * size / best(torch.randn(1, 512)))


@dataclass(frozen=True)
class Work:
    """What a way of answering takes.

    Attributes:
        forward: operations of the forward passes over prompts, 2 per multiplication and addition.
        decoding: operations and bytes of all steps, for each batch that is decoded.
    """

    forward: float
    decoding: tuple[tuple[float, float], ...] = ()

    @property
    def operations(self) -> float:
        """All operations."""
        return self.forward + sum(operations for operations, _ in self.decoding)

    def seconds(self, rates: Rates) -> float:
        """The time that it takes at the best rates."""
        steps = (max(operations / rates.operations, read / rates.bytes) for operations, read in self.decoding)
        return self.forward / rates.operations + sum(steps)


def seconds(call: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def count(
    model: Any, processor: Any, prompts: Sequence[Prompt], forward: Callable[[Sequence[Prompt]], Any], new_tokens: int
) -> dict[str, Work]:
    """Return the work of a loop over prompts, of a padded batch, and the least that no way can avoid.

    Args:
        model, processor: a Qwen2.5-VL.
        prompts: of one sample.
        forward: runs the model over a padded batch of prompts.
        new_tokens: how many tokens are decoded; 0 = none.
    """
    images = [list(prompt.images) for prompt in prompts]
    texts = [prompt.render(processor) for prompt in prompts]
    lengths = processor(text=texts, images=images, padding=True, return_tensors="pt")["attention_mask"].sum(1).tolist()

    def steps(lengths: Sequence[int]) -> tuple[tuple[float, float], ...]:
        # The first new token is read off the forward pass over the prompts.
        return (_decoding(model, lengths, new_tokens - 1),) if new_tokens else ()

    alone = tuple(part for length in lengths for part in steps([length]))
    return {
        "a": Work(sum(_operations(lambda: forward([prompt])) for prompt in prompts), alone),  # noqa: B023
        "b": Work(_operations(lambda: forward(prompts)), steps(lengths)),
        "least": Work(_least(model, processor, prompts), steps(lengths)),
    }


def _operations(call: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def _least(model: Any, processor: Any, prompts: Sequence[Prompt]) -> float:
    """Return the operations of vision tower and prefix once, and of every suffix, nothing padded."""
    config = model.config.text_config
    encoded = processor(text=[prompts[0].render(processor)], images=[list(prompts[0].images)], return_tensors="pt")
    with torch.inference_mode():
        vision = _operations(lambda: model.model.visual(encoded["pixel_values"], grid_thw=encoded["image_grid_thw"]))
    texts = [processor.tokenizer(prompt.render(processor))["input_ids"] for prompt in prompts]
    shared = next(i for i in range(len(texts[0])) if len({text[i] for text in texts}) > 1) if len(texts) > 1 else 0
    images = int((encoded["input_ids"] == model.config.image_token_id).sum()) - 1
    prefix = shared + images if shared else 0
    head = config.vocab_size * config.hidden_size
    matrices = [weight for weight in model.model.language_model.parameters() if weight.ndim == 2]
    per_token = 2 * (sum(weight.numel() for weight in matrices) - head)

    def run(tokens: int, before: int) -> float:
        # Each token attends to all before it and itself: scores and weighted values.
        seen = tokens * before + tokens * (tokens + 1) / 2
        return tokens * per_token + config.num_hidden_layers * 4 * config.hidden_size * seen

    rows = [len(text) - shared + (0 if shared else images) for text in texts]
    return vision + run(prefix, 0) + sum(run(row, prefix) + 2 * head for row in rows)


def _decoding(model: Any, lengths: Sequence[int], steps: int) -> tuple[float, float]:
    """Return operations and bytes of steps that decode rows with prompts of these lengths together."""
    config = model.config.text_config
    # Every weight meets every row once, the embeddings as the head.
    weights = sum(weight.numel() for weight in model.model.language_model.parameters())
    cached = sum(length + (steps + 1) / 2 for length in lengths)  # tokens, on average over the steps
    width = config.num_hidden_layers * config.hidden_size
    keys_and_values = 2 * width * config.num_key_value_heads / config.num_attention_heads
    return steps * (2 * weights * len(lengths) + 4 * width * cached), 4 * steps * (weights + keys_and_values * cached)
