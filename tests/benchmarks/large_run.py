"""The work of a large run, counted from a model's shape and from stated assumptions; nothing here is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """Layers and widths of a Qwen2.5-VL, from its configuration; weights are of 2 bytes."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    mlp: int
    vocabulary: int
    head_width: int = 128
    vision_layers: int = 32
    vision_width: int = 1280
    vision_mlp: int = 3420

    @property
    def layer_weights(self) -> int:
        """Weights of all layers' matrices, which every token meets."""
        attention = self.width * self.head_width * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.width * self.mlp)

    @property
    def weights(self) -> int:
        """The same with the LM head, which only tokens that are read or written meet."""
        return self.layer_weights + self.vocabulary * self.width

    @property
    def vision_weights(self) -> int:
        """Weights that every patch meets; four patches make an image token."""
        return self.vision_layers * (4 * self.vision_width**2 + 3 * self.vision_width * self.vision_mlp)

    @property
    def cache_bytes(self) -> int:
        """Bytes of keys and values per token."""
        return 2 * 2 * self.layers * self.kv_heads * self.head_width


SHAPES = {
    "Qwen2.5-VL-3B": Shape(36, 2048, 16, 2, 11008, 151936),
    "Qwen2.5-VL-7B": Shape(28, 3584, 28, 4, 18944, 152064),
}


@dataclass(frozen=True)
class Assumed:
    """What a run is assumed to look like, and a GPU to reach.

    Attributes:
        image_tokens: per sample; 1,024 are an image of 896 x 896 pixels.
        shared_tokens: of the prompts of a sample beside the image.
        own_tokens: of each condition's prompt behind what is shared.
        new_tokens: that a condition's answer takes.
        operations: per second that prefill reaches.
        bytes: per second that decoding reads.
        rows: that are decoded together.
        image_bytes: of a file.
    """

    image_tokens: int = 1024
    shared_tokens: int = 60
    own_tokens: int = 80
    new_tokens: int = 150
    operations: float = 0.4 * 989e12
    bytes: float = 0.5 * 3.35e12
    rows: int = 128
    image_bytes: float = 200e3


@dataclass(frozen=True)
class Count:
    """Work of one sample: 2 operations per weight and token, and 4 per width of the heads and pair attended."""

    prefill: float
    alone: float
    decode_operations: float
    decode_bytes: float
    cache: float

    @classmethod
    def of(cls, shape: Shape, conditions: int, assumed: Assumed) -> "Count":
        """Count vision tower and shared prefix once; every condition's own and new tokens; nothing padded."""
        prefix = assumed.image_tokens + assumed.shared_tokens
        vision = 4 * assumed.image_tokens * 2 * shape.vision_weights

        def run(tokens: int, before: int) -> float:
            pairs = tokens * before + tokens * (tokens + 1) / 2
            return 2 * shape.layer_weights * tokens + 4 * shape.layers * shape.heads * shape.head_width * pairs

        head = 2 * shape.vocabulary * shape.width
        seen = prefix + assumed.own_tokens + (assumed.new_tokens + 1) / 2
        attended = 4 * shape.layers * shape.heads * shape.head_width * seen
        tokens = conditions * assumed.new_tokens
        return cls(
            prefill=vision + run(prefix, 0) + conditions * (run(assumed.own_tokens, prefix) + head),
            alone=conditions * (vision + run(prefix + assumed.own_tokens, 0) + head),
            decode_operations=tokens * (2 * shape.weights + attended),
            decode_bytes=tokens * (2 * shape.weights / assumed.rows + shape.cache_bytes * seen),
            cache=assumed.rows * shape.cache_bytes * (prefix + assumed.own_tokens + assumed.new_tokens),
        )

    def seconds(self, assumed: Assumed) -> tuple[float, float]:
        """Return GPU seconds of prefill and of decoding, the longer of operations and bytes."""
        decoding = max(self.decode_operations / assumed.operations, self.decode_bytes / assumed.bytes)
        return self.prefill / assumed.operations, decoding


def plan(samples: int, conditions: int, gpus: int, row_bytes: float) -> str:
    """Return the plan of a run as lines of text."""
    assumed = Assumed()
    rows = samples * conditions
    lines = [f"{samples:,} samples x {conditions} conditions = {rows:,} rows on {gpus} GPUs; {assumed}"]
    for name, shape in SHAPES.items():
        count = Count.of(shape, conditions, assumed)
        prefill, decoding = count.seconds(assumed)
        hours = samples * (prefill + decoding) / gpus / 3600
        lines += [
            f"{name}: per sample {count.prefill / 1e12:.1f} TFLOP to prefill (unshared {count.alone / 1e12:.1f}), "
            f"{count.decode_operations / 1e12:.1f} TFLOP and {count.decode_bytes / 1e9:.0f} GB to decode",
            f"    {prefill:.3f} s + {decoding:.3f} s = {hours:.1f} h of {gpus} GPUs; weights "
            f"{2 * (shape.weights + shape.vision_weights) / 1e9:.1f} GB, cache of {assumed.rows} rows "
            f"{count.cache / 1e9:.1f} GB",
        ]
    images = samples * assumed.image_bytes
    lines.append(f"images read {images / 1e9:,.0f} GB, responses written {rows * row_bytes / 1e9:,.0f} GB")
    return "\n".join(lines)
