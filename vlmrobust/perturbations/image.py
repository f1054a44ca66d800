"""Blank, swap, remove or corrupt the image; text and options are unchanged.

Derived images are computed when a model needs their pixels. The settings are those of ImageNet-C (Hendrycks and
Dietterich, arXiv:1903.12261), whose images are 224 pixels wide and high. Sizes (the radius of a blur, the grain of
noise) are scaled by the image's shorter side, since models downscale large images.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator, Field, PlainSerializer, field_validator

from ..prompting import IMAGE_MARK
from ..text import snake_case
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
    """A perturbation with a severity from 1 to 5, the suffix of its condition's name.

    All severities of one sample share their random numbers, so that they differ only in severity.
    """

    severity: Severity = 3

    @property
    def condition(self) -> str:
        """The class name in snake case and the severity, such as `typos_3`, unless a name was given."""
        return self.name or f"{snake_case(type(self).__name__)}_{self.severity}"


_SIDE = 224
_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)  # standard deviation, for pixels in [0, 1]
_BLUR = (1.0, 2.0, 3.0, 4.0, 6.0)  # standard deviation, in pixels
_CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)  # factor of the distance to the mean


class Blank(DerivedImage):
    """An image of one colour and the same size."""

    colour: str

    def derive(self, image: "Image") -> "Image":
        """Return the blank image."""
        from PIL import Image

        return Image.new("RGB", image.size, self.colour)


class Noisy(DerivedImage):
    """An image with Gaussian noise; severities differ only in its scale."""

    severity: Severity
    seed: int

    def derive(self, image: "Image") -> "Image":
        """Return the noisy image."""
        from PIL import Image

        # One value per square of `grain` pixels: downscaling a large image would average out noise per pixel.
        grain = max(1, round(min(image.size) / _SIDE))
        width, height = (-(-side // grain) for side in image.size)
        noise = np.random.default_rng(self.seed).standard_normal((height, width, 3)) * _NOISE[self.severity - 1]
        noise = noise.repeat(grain, axis=0).repeat(grain, axis=1)[: image.height, : image.width]
        pixels = np.asarray(image) / 255 + noise
        return Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8))


class Blurred(DerivedImage):
    """An image with a Gaussian blur."""

    severity: Severity

    def derive(self, image: "Image") -> "Image":
        """Return the blurred image."""
        from PIL import ImageFilter

        return image.filter(ImageFilter.GaussianBlur(_BLUR[self.severity - 1] * min(image.size) / _SIDE))


class LowContrast(DerivedImage):
    """An image whose pixels are moved towards the mean of each colour channel."""

    severity: Severity

    def derive(self, image: "Image") -> "Image":
        """Return the image of low contrast."""
        from PIL import Image

        pixels = np.asarray(image, dtype=np.float64)
        mean = pixels.mean(axis=(0, 1), keepdims=True)
        reduced = mean + (pixels - mean) * _CONTRAST[self.severity - 1]
        return Image.fromarray(reduced.round().clip(0, 255).astype(np.uint8))


def _shown_images(prompt: Prompt, condition: str) -> tuple[ImageLike, ...]:
    if not prompt.images:
        raise NotApplicable(f"condition {condition!r} changes an image, and none is shown")
    return prompt.images


class BlankImage(Perturbation):
    """Replace every image by a uniform one of the same size, to measure what the text alone reveals.

    Accuracy under it may exceed chance: options and question often give the answer away.

    Attributes:
        colour: a colour name or code known to PIL, such as "grey" or "#808080".

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
    def _check_colour(cls, colour: str) -> str:
        from PIL import ImageColor

        ImageColor.getrgb(colour)
        return colour

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Blank every image."""
        shown = _shown_images(prompt, self.condition)
        return prompt.replace(images=[Blank(source=image, colour=self.colour) for image in shown])


def _flatten_pool(value: Any) -> Any:
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
    """Replace every image by an image of another sample, drawn from a pool: a real image that does not match.

    The sample's own images, and equal ones, are skipped; an image for which the text happens to be true is not.

    Attributes:
        pool: the images to draw from: images, or samples, whose images are all included. A run's manifest stores their
            number and a digest of their content.

    Raises:
        OSError: an image that is drawn cannot be read, or, when a run begins, any image of the pool.

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

    pool: Annotated[
        tuple[ImageLike, ...], BeforeValidator(_flatten_pool), PlainSerializer(_pool_identity, return_type=str)
    ] = Field(min_length=1, repr=False)

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
    """Show no image, and remove `<image>` marks from question and options: the question without vision.

    Not every model was trained to answer without an image, and some processors raise; such rows are errors.

    Source: Goyal et al., arXiv:1612.00837, on answers that need no image.

    Example:
        >>> from vlmrobust import Prompt, Sample
        >>> sample = Sample(id="q1", images=["x.png"], question="<image> Where?", options=["red", "blue"], answer=1)
        >>> prompt = RemovedImage()(Prompt.of(sample))
        >>> prompt.images, prompt.question
        ((), 'Where?')
    """

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Remove images and marks."""
        shown = _shown_images(prompt, self.condition)
        question, *options = map(_without_marks, (prompt.question, *prompt.options))
        if not question or not all(options) or len(set(options)) < len(options):
            raise NotApplicable("without its images, the question or an option says nothing")
        return prompt.replace(images=shown[:0], question=question, options=options)


def _without_marks(text: str) -> str:
    pieces = text.split(IMAGE_MARK)
    return text if len(pieces) == 1 else " ".join(piece.strip() for piece in pieces if piece.strip())


class _Corrupted(Graded):
    """Corrupt every image."""

    @abstractmethod
    def _corrupt(self, image: ImageLike, rng: np.random.Generator) -> DerivedImage:
        """Return the corrupted image."""

    def perturb(self, prompt: Prompt, rng: np.random.Generator) -> Prompt:
        """Corrupt every image."""
        shown = _shown_images(prompt, self.condition)
        return prompt.replace(images=[self._corrupt(image, rng) for image in shown])


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

    def _corrupt(self, image: ImageLike, rng: np.random.Generator) -> DerivedImage:
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

    def _corrupt(self, image: ImageLike, rng: np.random.Generator) -> DerivedImage:
        return Blurred(source=image, severity=self.severity)


class LowContrastImage(_Corrupted):
    """Reduced contrast in every image: each pixel moves towards the mean of its colour channel.

    Attributes:
        severity: 1 to 5; 0.4, 0.3, 0.2, 0.1 or 0.05 of the distance to the mean remains.

    Source: Hendrycks and Dietterich, arXiv:1903.12261, "contrast".

    Example:
        >>> LowContrastImage(severity=2).condition
        'low_contrast_image_2'
    """

    def _corrupt(self, image: ImageLike, rng: np.random.Generator) -> DerivedImage:
        return LowContrast(source=image, severity=self.severity)
