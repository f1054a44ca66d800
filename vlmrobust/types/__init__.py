"""Export the library's value types: samples, styles, prompts and responses."""

from .image import ImageLike, image_digest, open_image
from .prompt import Prompt, Turn
from .response import Carrier, Readout, Response, Status
from .responses import Responses
from .sample import Sample, Style, check_samples

__all__ = [
    "Carrier",
    "ImageLike",
    "Prompt",
    "Readout",
    "Response",
    "Responses",
    "Sample",
    "Status",
    "Style",
    "Turn",
    "check_samples",
    "image_digest",
    "open_image",
]
