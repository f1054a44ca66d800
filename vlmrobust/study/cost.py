"""Count the cost of prompts before a run: tokens, and lower bounds on operations and bytes.

Decoding reads all weights at every step, whatever the batch size. On most machines that takes longer than the
operations, so that a count of operations alone is too optimistic.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from ..models.batch_planning import Family, families
from ..models.encoding import Rendered
from ..models.response_building import forced_text
from ..perturbations import NotApplicable, Perturbation
from ..perturbations.expansion import Prompts
from ..types import Prompt, Sample, Style, open_image
from ..types.image import image_key
from .entries import Size

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Cost", "Counts", "Passes", "Rates", "StandInEncoder", "cost_of", "count", "size_of"]


_MARK = "\x00"
_CHARACTERS = 4
_TILE_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Passes:
    """Forward passes over prompts.

    Attributes:
        tokens: number of tokens through the language model, including image tokens.
        attended: number of pairs of a token and one it attends to, including itself.
        image_tokens: number of image tokens, with every image encoded anew.
    """

    tokens: float = 0
    attended: float = 0
    image_tokens: float = 0

    def then(self, tokens: int, before: int = 0, images: int = 0) -> "Passes":
        """Add a pass over some tokens that follow `before` others, `images` of them image tokens."""
        attended = tokens * before + tokens * (tokens + 1) / 2
        return Passes(self.tokens + tokens, self.attended + attended, self.image_tokens + images)

    def times(self, factor: float) -> "Passes":
        """Multiply all counts by a factor."""
        return Passes(factor * self.tokens, factor * self.attended, factor * self.image_tokens)


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of prompts and tokens.

    Attributes:
        prompts: number of prompts.
        texts: number of prompts whose response is decoded; from the others only a letter is read.
        text_context: total number of their tokens.
        plain: passes with one per prompt.
        shared: passes with the common prefix of a sample's prompts computed once.
    """

    prompts: float = 0
    texts: float = 0
    text_context: float = 0
    plain: Passes = Passes()
    shared: Passes = Passes()

    def times(self, factor: float) -> "Counts":
        """Multiply all counts by a factor."""
        prompts, texts, context = factor * self.prompts, factor * self.texts, factor * self.text_context
        return Counts(prompts, texts, context, self.plain.times(factor), self.shared.times(factor))


def count(
    encoder: Any, samples: Sequence[Sample], conditions: Sequence[Perturbation], *, style: Style, seed: int, draws: int
) -> Counts:
    """Count the prompts of samples under conditions, without those not applicable or with unreadable images.

    A condition that needs the base answer is counted as the unperturbed prompt.

    Args:
        encoder: an `Encoder` or a stand-in.
        samples: the samples to count.
        conditions: the conditions, including `Base()`.
        style: style of the prompts.
        seed: seed of the texts.
        draws: number of responses per prompt.
    """
    prompts = Prompts(samples, conditions, seed=seed, style=style, draws=draws)
    counts = Counts()
    for sample in samples:
        opened: dict[Any, Image] = {}
        items = {}
        for place, prompt in enumerate(_of_sample(prompts, sample)):
            try:
                rendered = encoder.render(prompt, opened)
            except (OSError, ValueError):  # an error row in a run
                continue
            items[place] = replace(rendered, forced=forced_text(rendered.prompt))
        tokens = {place: encoder.tokens(item.text) for place, item in items.items()}
        for family in families(items, tokens, image_tokens=encoder.image_tokens):
            counts = _with_family(counts, family, tokens, encoder.image_length(family.items[0].images))
    return counts


def _of_sample(prompts: Prompts, sample: Sample) -> list[Prompt]:
    found = []
    for condition in prompts.conditions:
        for draw in range(prompts.draws):
            try:
                make = prompts.stand_in if prompts.needs_base(condition) else prompts.make
                found.append(make(sample, condition, draw))
            except NotApplicable:
                continue
    return found


def _with_family(counts: Counts, family: Family, tokens: Mapping[int, Sequence[Any]], images: int) -> Counts:
    plain, shared = counts.plain, counts.shared
    texts, context = counts.texts, counts.text_context
    expansion = images - len(family.items[0].images)  # in the text, each image is one placeholder
    prefix = family.prefix + expansion if family.prefix else 0
    if prefix:
        shared = shared.then(prefix, images=images)
    for item, position in zip(family.items, family.positions, strict=True):
        length = len(tokens[position]) + expansion
        plain = plain.then(length, images=images)
        shared = shared.then(length - prefix, before=prefix, images=0 if prefix else images)
        if item.forced is None:
            texts, context = texts + 1, context + length
    return Counts(counts.prompts + len(family.items), texts, context, plain, shared)


class StandInEncoder:
    """Replace an unavailable processor: four characters are a token, and images follow a rule.

    Args:
        image: Qwen2.5-VL's rule (28 × 28 pixels per token, within the processor's own limits) or InternVL's (tiles of
            448 × 448 pixels and a thumbnail, 256 tokens each).
    """

    image_tokens: frozenset[str] = frozenset(_MARK)

    def __init__(self, image: Literal["qwen2_5_vl", "internvl"] = "qwen2_5_vl") -> None:
        self._image = image

    def render(self, prompt: Prompt, opened: dict[Any, "Image"]) -> Rendered:
        """Concatenate the turns, with a mark for each image."""
        for image in prompt.images:
            key = image_key(image)
            if key not in opened:
                opened[key] = open_image(image)
        turns = [
            turn["role"] + "".join(_MARK if part["type"] == "image" else part["text"] for part in turn["content"])
            for turn in prompt.messages()
        ]
        images = tuple(opened[image_key(image)] for image in prompt.images)
        return Rendered(prompt, f"{''.join(turns)}assistant{prompt.prefill}", images)

    def tokens(self, text: str) -> list[str]:
        """Split a text into pieces of four characters."""
        return re.findall(f"{_MARK}|[^{_MARK}]{{1,{_CHARACTERS}}}", text)

    def image_length(self, images: Sequence["Image"]) -> int:
        """Return the number of tokens of images by the rule."""
        patches = [
            self._processor.get_number_of_image_patches(image.height, image.width, self._settings) for image in images
        ]
        if self._image == "internvl":
            return sum(_TILE_TOKENS * tiles + 2 for tiles in patches)
        return sum(count // self._processor.merge_size**2 for count in patches)

    @property
    def _settings(self) -> dict[str, Any]:
        return {"crop_to_patches": True, "max_patches": 12} if self._image == "internvl" else {}

    @cached_property
    def _processor(self) -> Any:
        from transformers import GotOcr2ImageProcessor, Qwen2VLImageProcessor

        if self._image == "internvl":
            return GotOcr2ImageProcessor(size={"height": 448, "width": 448}, crop_to_patches=True)
        return Qwen2VLImageProcessor()


@dataclass(frozen=True, slots=True)
class Rates:
    """The speed of a machine, as stated by the user.

    Attributes:
        operations: floating-point operations per second.
        bytes: bytes of weights and cache read per second.

    Raises:
        ValueError: one of them is not above 0.
    """

    operations: float
    bytes: float

    def __post_init__(self) -> None:
        if not (self.operations > 0 and self.bytes > 0):
            raise ValueError(
                f"expected rates above 0, got {self.operations} operations and {self.bytes} bytes per second"
            )


@dataclass(frozen=True, slots=True)
class Cost:
    """Operations and bytes of inference.

    Attributes:
        prefill: operations of the forward passes over prompts and images, 2 per multiplication and addition.
        decoding: operations of all decoding steps.
        weight_bytes: bytes of weights that these steps read.
        cache_bytes: bytes of keys and values that they read.
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
        """Return the duration at these rates, where decoding takes the longer of its operations and its reads."""
        read = (self.weight_bytes + self.cache_bytes) / rates.bytes
        return self.prefill / rates.operations + max(self.decoding / rates.operations, read)


def cost_of(
    size: Size, counts: Counts, *, shared: bool, new_tokens: int, rows: float, bytes_per_value: float = 2
) -> Cost:
    r"""Return the cost of a run's prompts.

    A prompt token takes $2 (W - H)$ operations in the matrices and $4 L d$ per token that it attends to, and the last
    one of a prompt $2 H$ in the LM head; a patch takes $2 V$ and an image token $2 P$ in vision tower and projector. A
    decoded token takes $2 W + 4 L d c$ at a context of c tokens; a step reads W weights once for the whole batch, and
    $2 L k c$ values of the cache for each row. The norms and the attention of the vision tower, which most models limit
    to windows, are left out.

    Args:
        size: W, H, V, P, L, d and k.
        counts: counts of the prompts.
        shared: whether the common prefix of a sample's prompts is computed once.
        new_tokens: number of tokens decoded per text.
        rows: batch size of decoding.
        bytes_per_value: bytes per value of weights and cache.
    """
    passes = counts.shared if shared else counts.plain
    per_attended = 4 * size.layers * size.width
    prefill = (
        2 * (size.language - size.head) * passes.tokens
        + per_attended * passes.attended
        + 2 * size.head * counts.prompts
        + 2 * (size.vision * size.patches_per_token + size.projector) * passes.image_tokens
    )
    # The forward pass over the prompt gives the first new token.
    steps = max(0, new_tokens - 1)
    decoded = counts.texts * steps
    context = steps * (counts.text_context + counts.texts * (steps + 1) / 2)
    return Cost(
        prefill=prefill,
        decoding=2 * size.language * decoded + per_attended * context,
        weight_bytes=bytes_per_value * (size.language + size.experts) * decoded / max(1.0, rows),
        cache_bytes=bytes_per_value * 2 * size.layers * size.kv_width * context,
    )


def size_of(model: Any) -> Size:
    """Return the size of a Hugging Face model, whose weights may be on the device `meta`.

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
