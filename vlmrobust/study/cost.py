"""What answering takes at least: floating-point operations, and bytes where tokens are decoded one by one.

Decoding reads all weights for every step, whatever the number of rows; on most machines that takes longer than the
operations do, so that a count of operations alone promises too much.
"""

from dataclasses import dataclass
from typing import Any, Self

from .counting import Counts
from .entries import Size

__all__ = ["Rates", "Work", "size_of", "work_of"]


@dataclass(frozen=True, slots=True)
class Rates:
    """What a machine does, as its user states it.

    Attributes:
        operations: floating-point operations per second.
        bytes: bytes of weights and cache that it reads per second.

    Raises:
        ValueError: one of them is not above 0.
    """

    operations: float
    bytes: float

    def __post_init__(self) -> None:
        if not (self.operations > 0 and self.bytes > 0):
            raise ValueError(
                f"expected rates above 0, got {self.operations} operations and {self.bytes} bytes a second"
            )


@dataclass(frozen=True, slots=True)
class Work:
    """What a way of answering takes.

    Attributes:
        prefill: operations of the forward passes over prompts and images, 2 per multiplication and addition.
        decoding: operations of all steps that decode.
        weight_bytes: that these steps read of the weights.
        cache_bytes: that they read of keys and values.
    """

    prefill: float
    decoding: float
    weight_bytes: float
    cache_bytes: float

    @property
    def operations(self) -> float:
        """All operations."""
        return self.prefill + self.decoding

    def seconds(self, rates: Rates) -> float:
        """Return how long it takes at these rates: decoding as long as the slower of its operations and its bytes."""
        read = (self.weight_bytes + self.cache_bytes) / rates.bytes
        return self.prefill / rates.operations + max(self.decoding / rates.operations, read)

    def plus(self, other: Self) -> "Work":
        """Return the sum of two."""
        return Work(
            self.prefill + other.prefill,
            self.decoding + other.decoding,
            self.weight_bytes + other.weight_bytes,
            self.cache_bytes + other.cache_bytes,
        )


def work_of(
    size: Size, counts: Counts, *, shared: bool, new_tokens: int, rows: float, bytes_per_value: float = 2
) -> Work:
    r"""Return what the prompts of a run take.

    A token of a prompt takes $2 (W - H)$ operations in the matrices and $4 L d$ for each token that it attends to, the
    last one of a prompt $2 H$ in the LM head; a patch $2 V$ and an image token $2 P$ in vision tower and projector. A
    decoded token takes $2 W + 4 L d c$ at a context of c tokens; a step reads W weights once for all rows, and
    $2 L k c$ values of the cache for each. The attention of the vision tower, which most models keep to windows, and
    the norms are left out.

    Args:
        size: W, H, V, P, L, d and k.
        counts: of the prompts.
        shared: what prompts of a sample have in common is computed once.
        new_tokens: decoded for each prompt that is not read off at once.
        rows: how many of them are decoded together.
        bytes_per_value: of weights and cache.
    """
    passes = counts.shared if shared else counts.plain
    per_attended = 4 * size.layers * size.width
    prefill = (
        2 * (size.language - size.head) * passes.tokens
        + per_attended * passes.attended
        + 2 * size.head * counts.prompts
        + 2 * (size.vision * size.patches_per_token + size.projector) * passes.image_tokens
    )
    # The first new token is read off the forward pass over the prompt.
    steps = max(0, new_tokens - 1)
    decoded = counts.texts * steps
    context = steps * (counts.text_context + counts.texts * (steps + 1) / 2)
    return Work(
        prefill=prefill,
        decoding=2 * size.language * decoded + per_attended * context,
        weight_bytes=bytes_per_value * (size.language + size.experts) * decoded / max(1.0, rows),
        cache_bytes=bytes_per_value * 2 * size.layers * size.kv_width * context,
    )


def size_of(model: Any) -> Size:
    """Return the size of a Hugging Face model; its weights may be on the device `meta`.

    Args:
        model: an image-text-to-text model.
    """
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    dimension = getattr(config, "head_dim", None) or config.hidden_size // heads
    tables = {id(module.weight) for module in model.modules() if type(module).__name__ == "Embedding"}
    head = model.get_output_embeddings().weight
    language = vision = projector = 0
    for name, weight in model.named_parameters():
        if weight.ndim < 2 or (id(weight) in tables and weight is not head):
            continue
        if "merger" in name or "projector" in name:
            projector += weight.numel()
        elif "visual" in name or "vision" in name:
            vision += weight.numel()
        elif weight is not head:
            language += weight.numel()
    return Size(
        language=language + head.numel(),
        head=head.numel(),
        vision=vision,
        projector=projector,
        layers=config.num_hidden_layers,
        width=heads * dimension,
        kv_width=(getattr(config, "num_key_value_heads", None) or heads) * dimension,
        patches_per_token=_patches_per_token(model.config),
    )


def _patches_per_token(config: Any) -> int:
    merge = getattr(config.vision_config, "spatial_merge_size", None)
    if merge is None:
        merge = round(1 / getattr(config, "downsample_ratio", 0.5))
    return int(merge) ** 2
