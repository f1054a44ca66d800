"""Images as the user has them – path, bytes or PIL image – and the RGB pixels that a model is shown.

What PIL alone would make white, black or wrap is scaled: its own conversion cuts off what is above 255, so that a
picture of 16 bits is white and one of fractions black, and drops transparency, so that a black drawing on a transparent
ground is all black.
"""

import hashlib
import io
import json
import logging
import os
import stat
import sys
from abc import ABC, abstractmethod
from collections.abc import Hashable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

from pydantic import PlainSerializer, PlainValidator

from ..secrecy import error_text
from .frozen import Frozen

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as PILImage

__all__ = [
    "Converted",
    "DerivedImage",
    "ImageLike",
    "as_rgb",
    "decoded",
    "image_digest",
    "image_key",
    "is_pil",
    "needs_no_care",
    "open_image",
]


_BYTE, _SHORT = 255, 65535
_OVERSHOOT = 0.15  # by which resizing (Lanczos: 0.115 at an edge from 0 to 1) goes beyond the fractions that it got
_DARK = 16.0  # of 255: fractions that stay below are more likely those of another scale
_ON_WHITE = "transparent parts are shown on white"


class Converted(NamedTuple):
    """A picture as RGB.

    Attributes:
        picture: upright, 8 bits a channel.
        change: what was done to it beyond naming its colours otherwise; empty = nothing.
    """

    picture: "PILImage"
    change: str


def as_rgb(picture: "PILImage") -> Converted:
    """Return a picture as RGB, turned upright by its EXIF tag.

    Transparent parts are shown on white. Grey of 16 bits is scaled by its full range, fractions of 0 to 1 by 255;
    of fractions, what resizing has left a little beyond is cut off.

    Raises:
        ValueError: its numbers have no one meaning as grey: below 0, NaN, or beyond 16 bits.

    Example:
        >>> from PIL import Image
        >>> as_rgb(Image.new("RGBA", (1, 1), (0, 0, 0, 0))).picture.getpixel((0, 0))
        (255, 255, 255)
        >>> as_rgb(Image.new("I;16", (1, 1), 32896)).picture.getpixel((0, 0))
        (128, 128, 128)
    """
    from PIL import Image, ImageOps

    bits = picture.mode.partition(";")[0]
    if bits in ("I", "F"):
        import numpy as np

        numbers = np.asarray(picture.convert("I") if ";" in picture.mode else picture)
        grey, change = _scaled(numbers, picture)
        ground = picture.info.get("transparency")
        if isinstance(ground, int) and (keyed := numbers == ground).any():
            grey, change = np.where(keyed, np.uint8(_BYTE), grey), ", ".join(filter(None, (change, _ON_WHITE)))
        upright = Image.fromarray(grey)
        upright.info |= {key: value for key, value in picture.info.items() if key == "exif"}
        return Converted(ImageOps.exif_transpose(upright).convert("RGB"), change)
    upright = ImageOps.exif_transpose(picture)
    if not upright.has_transparency_data:
        return Converted(upright.convert("RGB"), "")
    layers = upright.convert("RGBA")
    lowest, _ = layers.getchannel("A").getextrema()
    ground = Image.new("RGBA", layers.size, "white")
    shown = Image.alpha_composite(ground, layers).convert("RGB")
    return Converted(shown, "" if lowest == _BYTE else _ON_WHITE)


def _scaled(
    values: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]", picture: "PILImage"
) -> "tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], str]":
    """Return grey in 8 bits, and how it was scaled."""
    import numpy as np

    numbers = values.astype(np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    are_fractions = picture.mode == "F" and high <= 1 + _OVERSHOOT
    if not (low >= (-_OVERSHOOT if are_fractions else 0) and high <= _SHORT):  # NaN as well
        raise ValueError(
            f"expected grey from 0 to 1, to {_BYTE} or to {_SHORT}, got values from {low:g} to {high:g} in mode "
            f"{picture.mode}; scale the picture to 8 bits"
        )
    if are_fractions:
        factor, change = float(_BYTE), f"grey from 0 to 1 is scaled to {_BYTE}"
        numbers = numbers.clip(0, 1)
    elif ";" in picture.mode or picture.format in ("PNG", "PPM") or (high > _BYTE and picture.mode == "I"):
        factor, change = _BYTE / _SHORT, "grey of 16 bits is scaled to 8"
    elif high <= _BYTE and (picture.mode != "F" or high >= _DARK or bool((numbers == numbers.round()).all())):
        factor, change = 1.0, ""
    else:
        raise ValueError(
            f"expected fractions from 0 to 1, or to {_BYTE}, got values from {low:g} to {high:g} in mode F; scale the "
            "picture to 8 bits"
        )
    return np.rint(numbers * factor).astype(np.uint8), change


logger = logging.getLogger(__name__)


def is_pil(value: object) -> bool:
    """Return whether a value is a PIL image."""
    # A PIL image can only exist where PIL has been imported already, so looking costs no import.
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def _check(value: object) -> object:
    if isinstance(value, str | Path | bytes) and not value:
        raise ValueError("expected an image, got an empty value")
    if isinstance(value, str | Path | bytes | DerivedImage) or is_pil(value):
        return value
    raise ValueError(f"expected a path, bytes or a PIL image, got {type(value).__name__}")


def _serialize(value: Any) -> str:
    return str(value) if isinstance(value, str | Path) else f"sha256:{image_digest(value)}"


if TYPE_CHECKING:
    ImageLike: TypeAlias = "str | Path | bytes | PILImage | DerivedImage"
else:
    ImageLike = Annotated[Any, PlainValidator(_check), PlainSerializer(_serialize, return_type=str)]


class DerivedImage(Frozen, ABC):
    """An image that is made of another, such as a blurred copy, when a model needs its pixels.

    Prompts outnumber samples by far and a run keeps all of them: what they hold of an image is how to make it. Its
    other fields decide the pixels, and are part of its digest.

    Attributes:
        source: the image that it is made of.
    """

    source: ImageLike

    @abstractmethod
    def derive(self, image: "PILImage") -> "PILImage":
        """Return the pixels, made of those of `source` (RGB, upright)."""


def open_image(image: "ImageLike") -> "PILImage":
    """Decode an image to an RGB PIL image of 8 bits a channel, turned upright by its EXIF tag.

    Transparent parts are shown on white, and grey of 16 bits or of fractions is scaled (`types.pixels`); the first time
    that something of this kind is done, a line in the log says so.

    Args:
        image: a path, the bytes of an image file, a PIL image, or one derived of these.

    Raises:
        OSError: the file is missing or cannot be decoded; the message names the file.
    """
    picture, change = decoded(image)
    if change:
        _tell_once(change)
    return picture


@cache
def _tell_once(change: str) -> None:
    logger.warning("%s; this is said once, however many images it is done to", change)


def decoded(image: "ImageLike") -> Converted:
    """Return what `open_image` returns, and what was done to it.

    Raises:
        OSError: as `open_image`.
    """
    from PIL import Image

    if isinstance(image, DerivedImage):
        source, change = decoded(image.source)
        return Converted(image.derive(source), change)
    shown = f"{len(image)} bytes" if isinstance(image, bytes) else "a picture" if is_pil(image) else repr(str(image))
    _refuse_endless(image)
    try:
        if is_pil(image):
            return as_rgb(image)  # type: ignore[arg-type]
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as file:  # type: ignore[arg-type]
            return as_rgb(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"expected an image file at {shown}, found none") from None
    except Exception as error:  # decoders raise whatever a broken file makes them stumble over
        raise OSError(f"expected a readable image in {shown}, got {error_text(error)}") from error


def _endless(image: object) -> str | None:
    """Return what is at a path that opens like a file and may never end; None = a file, a folder or nothing."""
    try:
        mode = os.stat(image).st_mode if isinstance(image, str | Path) else 0  # noqa: PTH116 - a path for each is slow
    except (OSError, ValueError):  # opening it will say what is wrong
        return None
    kinds = (
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISSOCK, "a socket"),
    )
    return next((kind for is_one, kind in kinds if is_one(mode)), None)


def _refuse_endless(image: object) -> None:
    if (kind := _endless(image)) is not None:
        raise OSError(f"expected an image file at {str(image)!r}, got {kind}")


def needs_no_care(image: str | Path | bytes) -> bool:
    """Return whether any decoder makes the same RGB of a file, by its header alone; of what cannot be read, too.

    Example:
        >>> needs_no_care(b"not an image")
        True
    """
    from PIL import Image

    try:
        _refuse_endless(image)
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as file:
            return file.mode[0] not in "IF" and not file.has_transparency_data
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return True


def image_key(image: "ImageLike") -> Hashable:
    """Return what two references to one image have in common within a process; nothing is read for it.

    Example:
        >>> image_key("cube.png") == image_key("cube.png")
        True
    """
    if isinstance(image, DerivedImage):
        return type(image), image.model_dump_json(exclude={"source"}), image_key(image.source)
    return image if isinstance(image, str | Path | bytes) else id(image)


def image_digest(image: "ImageLike") -> str:
    """Return the sha256 of an image's content: of the file's bytes, or of a PIL image's pixels as a model sees them.

    A derived image is not made for it: its digest is that of its source's digest and its own fields.

    Raises:
        OSError: the file is missing or cannot be read.

    Example:
        >>> image_digest(b"abc")[:8]
        'ba7816bf'
    """
    if isinstance(image, bytes):
        return hashlib.sha256(image).hexdigest()
    if isinstance(image, str | Path):
        _refuse_endless(image)
        with Path(image).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if isinstance(image, DerivedImage):
        made = [type(image).__qualname__, image.model_dump(mode="json", exclude={"source"}), image_digest(image.source)]
        return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()
    seen, _ = decoded(image)  # the raw bytes of a palette image are indices: two palettes would be one image
    return hashlib.sha256(f"{seen.size}:".encode() + seen.tobytes()).hexdigest()
