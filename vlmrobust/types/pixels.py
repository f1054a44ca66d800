"""Any picture → the RGB pixels that a model is shown; what PIL alone would make white, black or wrap is scaled.

PIL's own conversion cuts off what is above 255, so that a picture of 16 bits is white and one of fractions black, and
drops transparency, so that a black drawing on a transparent ground is all black.
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as PILImage

__all__ = ["Converted", "as_rgb"]

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
