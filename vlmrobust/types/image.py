"""Images as the user has them: a path, the bytes of a file, or a PIL image; decoded when a model needs the pixels."""

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
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import PlainSerializer, PlainValidator

from ..secrecy import error_text
from .pixels import Converted, as_rgb
from .validated import Frozen

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

logger = logging.getLogger(__name__)

__all__ = ["DerivedImage", "ImageLike", "decoded", "image_digest", "image_key", "is_pil", "needs_no_care", "open_image"]


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
