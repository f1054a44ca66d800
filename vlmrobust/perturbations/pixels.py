"""Images made of others: blank, noisy, blurred, of low contrast; references until a model needs the pixels.

The settings are those of ImageNet-C (Hendrycks and Dietterich, arXiv:1903.12261), whose images are 224 pixels wide and
high. What has a size there (a blur's radius, the grain of noise) grows with the image's shorter side, since models
scale large images down.
"""

from typing import TYPE_CHECKING

import numpy as np

from ..types.image import DerivedImage
from .severity import Severity

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Blank", "Blurred", "LowContrast", "Noisy"]

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
