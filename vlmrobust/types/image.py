"""Decode images (path, bytes or PIL image) to the RGB pixels that a model sees, and identify them by key and digest.

Values beyond 8 bits are scaled and transparency is composited on white. The conversion of PIL clips at 255, so that
16-bit images turn white and images of fractions black, and drops transparency, so that a black drawing on a transparent
background turns entirely black.
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

logger = logging.getLogger(__name__)

_BYTE, _SHORT = 255, 65535
_OVERSHOOT = 0.15  # tolerance for resizing artefacts (Lanczos overshoots by 0.115 at an edge from 0 to 1)
_DARK = 16.0  # of 255: fractional values that all stay below are more likely on another scale
_ON_WHITE = "transparent parts are shown on white"


class Converted(NamedTuple):
    """An image converted to RGB.

    Attributes:
        picture: upright, 8 bits per channel.
        change: what was done beyond the change of colour mode; empty = nothing.
    """

    picture: "PILImage"
    change: str


def as_rgb(picture: "PILImage") -> Converted:
    """Convert an image to RGB, turned upright by its EXIF tag.

    Transparent parts are composited on white. 16-bit grey is scaled by its full range, fractions of 0 to 1 by 255;
    fractions slightly out of range, as resizing leaves them, are clipped.

    Raises:
        ValueError: the values are ambiguous as grey: below 0, NaN, or beyond 16 bits.

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
        grey, change = _scale_grey(numbers, picture)
        key = picture.info.get("transparency")
        if isinstance(key, int) and (is_transparent := numbers == key).any():
            grey, change = np.where(is_transparent, np.uint8(_BYTE), grey), ", ".join(filter(None, (change, _ON_WHITE)))
        upright = Image.fromarray(grey)
        upright.info |= {name: value for name, value in picture.info.items() if name == "exif"}
        return Converted(ImageOps.exif_transpose(upright).convert("RGB"), change)
    upright = ImageOps.exif_transpose(picture)
    if not upright.has_transparency_data:
        return Converted(upright.convert("RGB"), "")
    layers = upright.convert("RGBA")
    lowest, _ = layers.getchannel("A").getextrema()
    white = Image.new("RGBA", layers.size, "white")
    composite = Image.alpha_composite(white, layers).convert("RGB")
    return Converted(composite, "" if lowest == _BYTE else _ON_WHITE)


def _scale_grey(
    values: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]", picture: "PILImage"
) -> "tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], str]":
    """Return 8-bit grey, and how it was scaled."""
    import numpy as np

    numbers = values.astype(np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    are_fractions = picture.mode == "F" and high <= 1 + _OVERSHOOT
    if not (low >= (-_OVERSHOOT if are_fractions else 0) and high <= _SHORT):  # NaN as well
        raise ValueError(
            f"expected grey from 0 to 1, {_BYTE} or {_SHORT}, got values from {low:g} to {high:g} in mode "
            f"{picture.mode}; scale the image to 8 bits"
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
            "image to 8 bits"
        )
    return np.rint(numbers * factor).astype(np.uint8), change


def is_pil(value: object) -> bool:
    """Return whether a value is a PIL image."""
    # A PIL image can only exist if PIL is imported already.
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
    """An image computed from another, such as a blurred copy, when a model needs its pixels.

    A run keeps all prompts, and these far outnumber samples, so a prompt holds the recipe instead of the pixels.
    The fields other than `source` determine the pixels and are part of the digest.

    Attributes:
        source: the image that it is computed from.
    """

    source: ImageLike

    @abstractmethod
    def derive(self, image: "PILImage") -> "PILImage":
        """Return the pixels, computed from those of `source` (RGB, upright)."""


def open_image(image: "ImageLike") -> "PILImage":
    """Decode an image to an RGB PIL image of 8 bits per channel, turned upright by its EXIF tag.

    Transparent parts are composited on white, and 16-bit or fractional grey is scaled (`as_rgb`). The first change of
    each kind is logged.

    Args:
        image: a path, the bytes of an image file, a PIL image, or an image derived from one of these.

    Raises:
        OSError: the file is missing or cannot be decoded; the message names the file.
    """
    picture, change = decoded(image)
    if change:
        _log_once(change)
    return picture


@cache
def _log_once(change: str) -> None:
    logger.warning("%s; this is logged once for all images", change)


def decoded(image: "ImageLike") -> Converted:
    """Decode like `open_image`, and also return what was changed.

    Raises:
        OSError: as `open_image`.
    """
    from PIL import Image

    if isinstance(image, DerivedImage):
        source, change = decoded(image.source)
        return Converted(image.derive(source), change)
    shown = f"{len(image)} bytes" if isinstance(image, bytes) else "a PIL image" if is_pil(image) else repr(str(image))
    _reject_endless(image)
    try:
        if is_pil(image):
            return as_rgb(image)  # type: ignore[arg-type]
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as file:  # type: ignore[arg-type]
            return as_rgb(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"expected an image file at {shown}, found none") from None
    except Exception as error:  # decoders raise any exception on a broken file
        raise OSError(f"expected a readable image in {shown}, got {error_text(error)}") from error


_ENDLESS = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}


def _reject_endless(image: object) -> None:
    """Refuse a path whose reading may never end, such as a pipe."""
    try:
        mode = os.stat(image).st_mode if isinstance(image, str | Path) else 0  # noqa: PTH116 - Path objects are slow
    except (OSError, ValueError):  # opening it raises a better error
        return
    if (kind := _ENDLESS.get(stat.S_IFMT(mode))) is not None:
        raise OSError(f"expected an image file at {str(image)!r}, got {kind}")


def needs_no_care(image: str | Path | bytes) -> bool:
    """Return whether any decoder yields the same RGB, judged by the file's header; True for unreadable images.

    Example:
        >>> needs_no_care(b"not an image")
        True
    """
    from PIL import Image

    try:
        _reject_endless(image)
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as file:
            return file.mode[0] not in "IF" and not file.has_transparency_data
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return True


def image_key(image: "ImageLike") -> Hashable:
    """Return a key that is equal for references to the same image within a process; reads no file.

    Example:
        >>> image_key("cube.png") == image_key("cube.png")
        True
    """
    if isinstance(image, DerivedImage):
        return type(image), image.model_dump_json(exclude={"source"}), image_key(image.source)
    return image if isinstance(image, str | Path | bytes) else id(image)


def image_digest(image: "ImageLike") -> str:
    """Return the SHA-256 of an image's content: of the file's bytes, or of a PIL image's pixels as a model sees them.

    The digest of a derived image is computed from its source's digest and its own fields, without its pixels.

    Raises:
        OSError: the file is missing or cannot be read.

    Example:
        >>> image_digest(b"abc")[:8]
        'ba7816bf'
    """
    if isinstance(image, bytes):
        return hashlib.sha256(image).hexdigest()
    if isinstance(image, str | Path):
        _reject_endless(image)
        with Path(image).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if isinstance(image, DerivedImage):
        fields = image.model_dump(mode="json", exclude={"source"})
        recipe = [type(image).__qualname__, fields, image_digest(image.source)]
        return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    rgb, _ = decoded(image)  # the raw bytes of a palette image are indices, equal under different palettes
    return hashlib.sha256(f"{rgb.size}:".encode() + rgb.tobytes()).hexdigest()
