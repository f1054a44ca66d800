"""An image as the data URL that a server takes."""

import base64
import io
from pathlib import Path

from ...types import ImageLike, open_image

__all__ = ["data_url"]

_KEPT_FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_KEPT_MODES = ("RGB", "L")
_ORIENTATION = 0x0112  # the EXIF tag


def data_url(image: ImageLike) -> str:
    """Return an image as a `data:` URL.

    A file, or its bytes, goes as it is where every server decodes it to the same pixels: a JPEG, PNG or WebP file of
    one upright RGB or grey picture. Anything else (transparency, palettes, CMYK, other formats, PIL images) goes as the
    PNG of what `open_image` makes of it, so that a server sees what any other model here sees.

    Raises:
        OSError: the file is missing or cannot be decoded; the message names the file.
    """
    picture = open_image(image)
    if isinstance(image, str | Path | bytes):
        content = image if isinstance(image, bytes) else Path(image).read_bytes()
        if (mime := _kept_type(content)) is not None:
            return f"data:{mime};base64,{base64.b64encode(content).decode()}"
    from PIL import Image

    buffer = io.BytesIO()
    # The pixels alone: a picture keeps what its file said about transparency, and a PNG would say it again.
    Image.frombytes(picture.mode, picture.size, picture.tobytes()).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _kept_type(content: bytes) -> str | None:
    from PIL import Image

    with Image.open(io.BytesIO(content)) as file:
        turned = file.getexif().get(_ORIENTATION, 1) != 1
        plain = file.mode in _KEPT_MODES and "transparency" not in file.info and getattr(file, "n_frames", 1) == 1
        return _KEPT_FORMATS.get(file.format or "") if plain and not turned else None
