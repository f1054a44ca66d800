"""How a processor is called: families differ in how images are handed over, what is returned, and what is added."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["FAULTS", "Processing", "last_tokens", "probe_image"]

# What a processor raises on an input, and a model on a cache, that are not for it.
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

_OF_TOKENS = ("_ids", "_mask")  # kinds, positions and masks of tokens
_OF_OTHERS = ("audio", "feature", "frame", "speech", "video")  # what processors add for sounds and videos
_LONGEST_ADDITION = 8
_COMPARED = 8  # tokens at the end of a prompt that tell whether it is the rendered text


def probe_image(width: int, height: int, *, turned: bool = False) -> "Image.Image":
    """Return a picture to try a processor or a model with."""
    from PIL import Image

    picture = Image.linear_gradient("L").rotate(90 if turned else 0)
    return Image.merge("RGB", (picture, picture.transpose(Image.Transpose.ROTATE_90), picture)).resize((width, height))


def last_tokens(tokens: Sequence[int], image_tokens: Collection[int]) -> tuple[int, ...]:
    """Return the last few tokens of a text, behind its last image."""
    behind = next((place for place, token in enumerate(reversed(tokens)) if token in image_tokens), len(tokens))
    return tuple(tokens[max(0, len(tokens) - min(behind, _COMPARED)) :])


@dataclass(frozen=True, slots=True)
class Processing:
    """A processor, and how it is called.

    Attributes:
        processor: a Hugging Face processor.
        is_nested: whether it takes a list of images for each text; else one list of all.
        extra: options that make it return what the model asks for.
        appended: how many tokens it adds behind the text, which are taken off again.
        missing: inputs of tokens and images that it promises, that the model takes, and that it does not return.
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
        """Find out how a processor is called, with one text and one image.

        Args:
            processor: a Hugging Face processor.
            text: a rendered text with one image.
            tokens: of it, its placeholder not yet expanded.
            image_tokens: tokens that stand for an image.
            accepted: the inputs that the model takes.
            ends_prompts: whether what it adds behind the text is meant to stay.

        Raises:
            ValueError: the processor takes no image with a text, or puts another text in its place.
        """
        found, inputs, image = cls(processor)._working(text)
        missing = (_promised(processor) & set(accepted) | {"attention_mask"}) - set(inputs)
        for name in sorted(missing) if not ends_prompts else ():
            asking = cls(processor, found.is_nested, {**found.extra, f"return_{name}": True})
            try:
                returned = asking.call([text], [[image]])
            except FAULTS:  # it knows no such option
                continue
            if name in returned:
                found = asking
                missing = missing - set(returned)
        if "attention_mask" in missing:
            raise ValueError(
                f"expected {type(processor).__name__} to return an attention mask, got {', '.join(inputs)}"
            )
        if missing:
            missing = missing - found._returned(text, probe_image(1344, 896))  # some inputs are of large images alone
        added = 0 if ends_prompts else found._addition(inputs, tokens, image_tokens)
        return cls(processor, found.is_nested, found.extra, added, tuple(sorted(missing)))

    def call(self, texts: Sequence[str], images: Sequence[Sequence[Any]], **options: Any) -> dict[str, Any]:
        """Return what the processor makes of texts and the images of each, padded on the left."""
        padded = {"return_tensors": "pt", "padding": True, "padding_side": "left", "add_special_tokens": False}
        given: dict[str, Any] = {}
        if any(images):
            given["images"] = [list(shown) for shown in images] if self.is_nested else [i for s in images for i in s]
        return dict(self.processor(text=list(texts), **padded, **self.extra, **given, **options))

    def _returned(self, text: str, image: "Image.Image") -> set[str]:
        try:
            return set(self.call([text], [[image]]))
        except FAULTS:
            return set()

    def _working(self, text: str) -> tuple["Processing", dict[str, Any], "Image.Image"]:
        first: Exception | None = None
        # Some processors refuse small images, such as those of fewer pixels than a tile has.
        for size in ((84, 56), (448, 336)):
            for nested in (True, False):
                way = Processing(self.processor, nested)
                try:
                    image = probe_image(*size)
                    return way, way.call([text], [[image]]), image
                except FAULTS as error:
                    first = first or error
        assert first is not None
        raise ValueError(
            f"expected {type(self.processor).__name__} to take a text and an image, got {type(first).__name__}: {first}"
        ) from first

    def _addition(self, inputs: Mapping[str, Any], tokens: Sequence[int], image_tokens: Collection[int]) -> int:
        """Return how many tokens stand behind those of the text."""
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
            "prompt: it puts texts of its own in place of what the model is asked"
        )


def _promised(processor: Any) -> set[str]:
    """Return the inputs of tokens and images that a processor promises, pixels left out.

    These bear other names in some models, and their absence shows: another image makes no difference then.
    """
    parts = {name: set(getattr(part, "model_input_names", None) or ()) for name, part in vars(processor).items()}
    of_images = parts.get("image_processor", set())
    ours = of_images | parts.get("tokenizer", set())
    others = set().union(*parts.values()) - ours
    return {
        name
        for name in set(getattr(processor, "model_input_names", ())) - others
        if (name in of_images or name.endswith(_OF_TOKENS))
        and not name.startswith("pixel_values")
        and not any(word in name for word in _OF_OTHERS)
    }
