"""Find out how to call a processor: families differ in the form of images, in their inputs and in added tokens.

`probe_image` makes the synthetic images for this and for other checks.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["FAULTS", "Processing", "last_tokens", "probe_image"]

# Exceptions that processors raise on unsuitable inputs, and models on unsuitable caches.
FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)

_TOKEN_INPUTS = ("_ids", "_mask")  # token types, positions and masks
_OTHER_INPUTS = ("audio", "feature", "frame", "speech", "video")  # for audio and video
_LONGEST_ADDITION = 8
_COMPARED = 8  # tokens at the end of a prompt that are compared with the rendered text


def probe_image(width: int, height: int, *, turned: bool = False) -> "Image.Image":
    """Return a synthetic image for testing a processor or a model."""
    from PIL import Image

    picture = Image.linear_gradient("L").rotate(90 if turned else 0)
    return Image.merge("RGB", (picture, picture.transpose(Image.Transpose.ROTATE_90), picture)).resize((width, height))


def last_tokens(tokens: Sequence[int], image_tokens: Collection[int]) -> tuple[int, ...]:
    """Return the last few tokens of a text, after its last image."""
    behind = next((place for place, token in enumerate(reversed(tokens)) if token in image_tokens), len(tokens))
    return tuple(tokens[max(0, len(tokens) - min(behind, _COMPARED)) :])


@dataclass(frozen=True, slots=True)
class Processing:
    """A processor and how to call it.

    Attributes:
        processor: a Hugging Face processor.
        is_nested: whether it takes a list of images per text; else one list of all images.
        extra: options that make it return inputs that the model takes.
        appended: number of tokens that it appends to the text, to be removed.
        missing: inputs of tokens and images that it promises and the model takes, but that it does not return.
    """

    processor: Any
    is_nested: bool = True
    extra: Mapping[str, bool] = field(default_factory=dict)
    appended: int = 0
    missing: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        processor: Any,
        text: str,
        tokens: Sequence[int],
        image_tokens: Collection[int],
        accepted: Collection[str],
        *,
        ends_prompts: bool,
    ) -> "Processing":
        """Find out how to call a processor, with one text and one image.

        Args:
            processor: a Hugging Face processor.
            text: a rendered text with one image.
            tokens: its tokens, the placeholder not yet expanded.
            image_tokens: the tokens of image placeholders.
            accepted: the inputs that the model takes.
            ends_prompts: whether tokens that it appends to the text belong there.

        Raises:
            ValueError: the processor takes no image with a text, or replaces the text.
        """
        found, inputs, image = cls(processor)._working(text)
        missing = (_promised(processor) & set(accepted) | {"attention_mask"}) - set(inputs)
        for name in sorted(missing) if not ends_prompts else ():
            asking = cls(processor, found.is_nested, {**found.extra, f"return_{name}": True})
            try:
                returned = asking.call([text], [[image]])
            except FAULTS:  # it has no such option
                continue
            if name in returned:
                found = asking
                missing = missing - set(returned)
        if "attention_mask" in missing:
            raise ValueError(
                f"expected {type(processor).__name__} to return an attention mask, got {', '.join(inputs)}"
            )
        if missing:
            missing = missing - found._returned(text, probe_image(1344, 896))  # some inputs are for large images only
        added = 0 if ends_prompts else found._addition(inputs, tokens, image_tokens)
        return cls(processor, found.is_nested, found.extra, added, tuple(sorted(missing)))

    def call(self, texts: Sequence[str], images: Sequence[Sequence[Any]], **options: Any) -> dict[str, Any]:
        """Return the inputs for texts and the images of each, padded on the left."""
        padded = {"return_tensors": "pt", "padding": True, "padding_side": "left", "add_special_tokens": False}
        image_options: dict[str, Any] = {}
        if any(images):
            nested = [list(group) for group in images]
            image_options["images"] = nested if self.is_nested else [image for group in nested for image in group]
        return dict(self.processor(text=list(texts), **padded, **self.extra, **image_options, **options))

    def _returned(self, text: str, image: "Image.Image") -> set[str]:
        try:
            return set(self.call([text], [[image]]))
        except FAULTS:
            return set()

    def _working(self, text: str) -> tuple["Processing", dict[str, Any], "Image.Image"]:
        first: Exception | None = None
        # Some processors refuse images that are smaller than a tile.
        for size in ((84, 56), (448, 336)):
            for nested in (True, False):
                candidate = Processing(self.processor, nested)
                try:
                    image = probe_image(*size)
                    return candidate, candidate.call([text], [[image]]), image
                except FAULTS as error:
                    first = first or error
        assert first is not None
        raise ValueError(
            f"expected {type(self.processor).__name__} to take a text and an image, got {type(first).__name__}: {first}"
        ) from first

    def _addition(self, inputs: Mapping[str, Any], tokens: Sequence[int], image_tokens: Collection[int]) -> int:
        """Return the number of tokens after those of the text."""
        row = inputs["input_ids"][0].tolist()
        wanted = list(last_tokens(tokens, image_tokens))
        for added in range(_LONGEST_ADDITION + 1):
            end = len(row) - added
            if row[end - len(wanted) : end] == wanted:
                return added
        tokenizer = self.processor.tokenizer
        raise ValueError(
            f"expected {type(self.processor).__name__} to keep the rendered text, whose end is "
            f"{tokenizer.decode(wanted)!r}, got {tokenizer.decode(row[-len(wanted) :])!r} at the end of the encoded "
            "prompt: it replaces the text of the prompt"
        )


def _promised(processor: Any) -> set[str]:
    """Return the token and image inputs that a processor promises, except pixels.

    Pixels have other names in some models, and their absence shows: another image makes no difference then.
    """
    parts = {name: set(getattr(part, "model_input_names", None) or ()) for name, part in vars(processor).items()}
    of_images = parts.get("image_processor", set())
    token_and_image = of_images | parts.get("tokenizer", set())
    others = set().union(*parts.values()) - token_and_image
    return {
        name
        for name in set(getattr(processor, "model_input_names", ())) - others
        if (name in of_images or name.endswith(_TOKEN_INPUTS))
        and not name.startswith("pixel_values")
        and not any(word in name for word in _OTHER_INPUTS)
    }
