"""The image changed: blank, another, none, or one that is harder to see. Text and options stay.

Images made of others are references until a model needs the pixels. The settings are those of ImageNet-C (Hendrycks and
Dietterich, arXiv:1903.12261), whose images are 224 pixels wide and high. What has a size there (a blur's radius, the
grain of noise) grows with the image's shorter side, since models scale large images down.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator, Field, PlainSerializer, field_validator

from ..naming import snake_case
from ..prompting import IMAGE_MARK
from ..types import ImageLike, Prompt, Sample, image_digest
from ..types.image import DerivedImage, is_pil, open_image
from .base import NotApplicable, Perturbation

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "Blank",
    "BlankImage",
    "Blurred",
    "BlurredImage",
    "Graded",
    "LowContrast",
    "LowContrastImage",
    "Noisy",
    "NoisyImage",
    "RemovedImage",
    "Severity",
    "SwappedImage",
]


Severity = Annotated[int, Field(ge=1, le=5)]


class Graded(Perturbation):
    """A perturbation of a strength from 1 to 5, which its condition's name ends in.

    Strengths of one sample share their random numbers, so that they differ in the strength alone.
    """

    severity: Severity = 3

    @property
    def condition(self) -> str:
        """The class name in snake case and the severity, such as `typos_3`, unless a name was given."""
        return self.name or f"{snake_case(type(self).__name__)}_{self.severity}"


_SIDE = 224
_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)  # standard deviation, of a range of 1
_BLUR = (1.0, 2.0, 3.0, 4.0, 6.0)  # standard deviation, in pixels
_CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)  # what is left of the distance to the mean


class Blank(DerivedImage):
    """An image of one colour and the same size."""

    colour: str

    def derive(self, image: "Image") -> "Image":
        """Return the blank image."""
        from PIL import Image

        return Image.new("RGB", image.size, self.colour)


class Noisy(DerivedImage):
    """An image with Gaussian noise, the same for every severity but for its strength."""

    severity: Severity
    seed: int

    def derive(self, image: "Image") -> "Image":
        """Return the noisy image."""
        from PIL import Image

        # One draw per square of `grain` pixels: noise per pixel of a large image is gone once it is scaled down.
        grain = max(1, round(min(image.size) / _SIDE))
        width, height = (-(-side // grain) for side in image.size)
        noise = np.random.default_rng(self.seed).standard_normal((height, width, 3)) * _NOISE[self.severity - 1]
        noise = noise.repeat(grain, axis=0).repeat(grain, axis=1)[: image.height, : image.width]
        pixels = np.asarray(image) / 255 + noise
        return Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8))


class Blurred(DerivedImage):
    """An image under a Gaussian blur."""

    severity: Severity

    def derive(self, image: "Image") -> "Image":
        """Return the blurred image."""
        from PIL import ImageFilter

        return image.filter(ImageFilter.GaussianBlur(_BLUR[self.severity - 1] * min(image.size) / _SIDE))


class LowContrast(DerivedImage):
    """An image drawn towards the mean of each colour channel."""

    severity: Severity

    def derive(self, image: "Image") -> "Image":
        """Return the image of low contrast."""
        from PIL import Image

        pixels = np.asarray(image, dtype=np.float64)
        mean = pixels.mean(axis=(0, 1), keepdims=True)
        flat = mean + (pixels - mean) * _CONTRAST[self.severity - 1]
        return Image.fromarray(flat.round().clip(0, 255).astype(np.uint8))


def _shown_images(prompt: Prompt, condition: str) -> tuple[ImageLike, ...]:
    if not prompt.images:
        raise NotApplicable(f"condition {condition!r} changes an image, and none is shown")
    return prompt.images


class BlankImage(Perturbation):
    """Every image is replaced by one colour, of the same size: what the text alone gives away.

    Accuracy under it is no chance level: options and question often give the answer away.

    Attributes:
        colour: a name or code that PIL knows, such as "grey" or "#808080".

    Source: Goyal et al., arXiv:1612.00837, on answers that need no image.

    Example:
        >>> from vlmrobust import Prompt, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="Which colour?", options=["red", "blue"], answer=1)
        >>> BlankImage()(Prompt.of(sample)).images
        (Blank(source='x.png', colour='grey'),)
    """

    colour: str = "grey"

    @field_validator("colour")
    @classmethod
    def _is_a_colour(cls, colour: str) -> str:
        from PIL import ImageColor

        ImageColor.getrgb(colour)
        return colour

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Blank every image."""
        shown = _shown_images(prompt, self.condition)
        return prompt.replace(images=[Blank(source=image, colour=self.colour) for image in shown])


def _pool(value: Any) -> Any:
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        parts = [part.images if isinstance(part, Sample) else (part,) for part in value]
        return tuple(image for images in parts for image in images)
    return value


def _pool_identity(images: tuple[ImageLike, ...]) -> str:
    digest = hashlib.sha256("".join(map(image_digest, images)).encode())
    return f"{len(images)} images, sha256:{digest.hexdigest()}"


def _is_same(one: ImageLike, other: ImageLike) -> bool:
    if is_pil(one) != is_pil(other):  # a file's digest is that of its bytes, not of its pixels
        one, other = open_image(one), open_image(other)
    return image_digest(one) == image_digest(other)


class SwappedImage(Perturbation):
    """Every image is replaced by one of another sample, drawn from a pool: a real image that does not fit.

    The sample's own images, and any that equal them, are passed over; a text that happens to be true of the new image
    is not.

    Attributes:
        pool: where images are drawn from: samples, of which all images are taken, or images. A run's manifest holds
            how many there are and a digest of their content.

    Raises:
        OSError: an image that is drawn cannot be read; so is, when a run begins, any of the pool.

    Source: the foil of Thrush et al., arXiv:2204.03162, drawn at random.

    Example:
        >>> from vlmrobust import Prompt, Sample
        >>> samples = [
        ...     Sample(id=name, images=[name.encode()], question="Which colour?", options=["red", "blue"], answer=1)
        ...     for name in ("q1", "q2")
        ... ]
        >>> SwappedImage(pool=samples)(Prompt.of(samples[0])).images
        (b'q2',)
    """

    pool: Annotated[tuple[ImageLike, ...], BeforeValidator(_pool), PlainSerializer(_pool_identity, return_type=str)] = (
        Field(min_length=1, repr=False)
    )

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Draw other images."""
        drawn: list[ImageLike] = []
        shown = _shown_images(prompt, self.condition)
        for position in rng.permutation(len(self.pool)):
            candidate = self.pool[position]
            if not any(_is_same(candidate, known) for known in (*prompt.sample.images, *drawn)):
                drawn.append(candidate)
            if len(drawn) == len(shown):
                return prompt.replace(images=drawn)
        raise NotApplicable(
            f"condition {self.condition!r} needs {len(shown)} images that are not the sample's own, "
            f"and the pool has {len(drawn)}"
        )


class RemovedImage(Perturbation):
    """No image is shown, and `<image>` marks are taken out of question and options: the question read blind.

    Not every model was trained to answer without an image, and some processors refuse to: such rows are errors.

    Source: Goyal et al., arXiv:1612.00837, on answers that need no image.

    Example:
        >>> from vlmrobust import Prompt, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="<image> Where?", options=["red", "blue"], answer=1)
        >>> prompt = RemovedImage()(Prompt.of(sample))
        >>> prompt.images, prompt.question
        ((), 'Where?')
    """

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Take out images and marks."""
        shown = _shown_images(prompt, self.condition)
        question, *options = map(_without_marks, (prompt.question, *prompt.options))
        if not question or not all(options) or len(set(options)) < len(options):
            raise NotApplicable("without its images, the question or an option says nothing")
        return prompt.replace(images=shown[:0], question=question, options=options)


def _without_marks(text: str) -> str:
    pieces = text.split(IMAGE_MARK)
    return text if len(pieces) == 1 else " ".join(piece.strip() for piece in pieces if piece.strip())


class _Corrupted(Graded):
    """Every image is harder to see."""

    @abstractmethod
    def _corrupted(self, image: ImageLike, rng: np.random.Generator) -> DerivedImage:
        """Return the corrupted image."""

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Corrupt every image."""
        shown = _shown_images(prompt, self.condition)
        return prompt.replace(images=[self._corrupted(image, rng) for image in shown])


class NoisyImage(_Corrupted):
    """Gaussian noise on every image.

    Attributes:
        severity: 1 to 5; the noise's standard deviation is 0.08, 0.12, 0.18, 0.26 or 0.38 of the pixels' range. Its
            grain is one pixel per 224 of the image's shorter side.

    Source: Hendrycks and Dietterich, arXiv:1903.12261, "gaussian noise".

    Example:
        >>> NoisyImage(severity=5).condition
        'noisy_image_5'
    """

    draw: ClassVar[str | None] = "noise"

    def _corrupted(self, image: ImageLike, rng: np.random.Generator) -> DerivedImage:
        return Noisy(source=image, severity=self.severity, seed=int(rng.integers(2**63)))


class BlurredImage(_Corrupted):
    """A Gaussian blur on every image.

    Attributes:
        severity: 1 to 5; the blur's standard deviation is 1, 2, 3, 4 or 6 pixels per 224 of the image's shorter side.

    Source: Hendrycks and Dietterich, arXiv:1903.12261, "gaussian blur".

    Example:
        >>> BlurredImage(severity=1).condition
        'blurred_image_1'
    """

    def _corrupted(self, image: ImageLike, rng: np.random.Generator) -> DerivedImage:
        return Blurred(source=image, severity=self.severity)


class LowContrastImage(_Corrupted):
    """Little contrast in every image: each pixel moves towards the mean of its colour channel.

    Attributes:
        severity: 1 to 5; 0.4, 0.3, 0.2, 0.1 or 0.05 of the distance to the mean is left.

    Source: Hendrycks and Dietterich, arXiv:1903.12261, "contrast".

    Example:
        >>> LowContrastImage(severity=2).condition
        'low_contrast_image_2'
    """

    def _corrupted(self, image: ImageLike, rng: np.random.Generator) -> DerivedImage:
        return LowContrast(source=image, severity=self.severity)
