"""Conversion to RGB keeps the content of images in every mode; none turns entirely white or black."""

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vlmrobust.data import read_rows
from vlmrobust.types import image as image_module
from vlmrobust.types import image_digest, open_image
from vlmrobust.types.image import decoded

RAMP = np.arange(256, dtype=np.float64).reshape(16, 16)


def drawing(mode: str, **options: Any) -> Image.Image:
    """Return a black square on a transparent background."""
    layers = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    layers.paste((0, 0, 0, 255), (4, 4, 12, 12))
    if mode == "P":
        palette = layers.convert("RGB").convert("P")
        palette.paste(1, (0, 0, 16, 16))
        palette.paste(0, (4, 4, 12, 12))
        palette.putpalette([0, 0, 0, 0, 0, 0])
        palette.info["transparency"] = options.get("transparency", 1)
        return palette
    return layers.convert(mode)


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def keyed(mode: str, ground: Any, ink: Any) -> bytes:
    picture = Image.new(mode, (16, 16), ground)
    picture.paste(ink, (4, 4, 12, 12))
    return saved(picture, "PNG", transparency=ground)


TRANSPARENT = {
    "RGBA": drawing("RGBA"),
    "LA": drawing("LA"),
    "PA": drawing("RGBA").convert("PA"),
    "RGBA, PNG": saved(drawing("RGBA"), "PNG"),
    "LA, PNG": saved(drawing("LA"), "PNG"),
    "palette, PNG": saved(drawing("P"), "PNG", transparency=1),
    "palette with an alpha of each colour, PNG": saved(drawing("P"), "PNG", transparency=b"\xff\x00"),
    "WebP": saved(drawing("RGBA"), "WEBP", lossless=True),
    "GIF": saved(drawing("RGBA"), "GIF"),
    "TIFF": saved(drawing("RGBA"), "TIFF"),
    "one colour of RGB": keyed("RGB", (1, 0, 0), (0, 0, 0)),
    "one grey": keyed("L", 1, 0),
}


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_transparent_background_becomes_white(kind: str) -> None:
    picture, change = decoded(TRANSPARENT[kind])
    seen = np.asarray(picture)
    assert picture.mode == "RGB"
    assert (seen[5:11, 5:11] == 0).all()
    assert (seen[:3] == 255).all()
    assert change == "transparent parts are shown on white"


def test_half_transparent_is_half_white_and_opaque_is_unchanged() -> None:
    assert decoded(Image.new("RGBA", (1, 1), (0, 0, 0, 128))).picture.getpixel((0, 0)) == (127, 127, 127)
    assert decoded(Image.new("RGBA", (2, 2), (9, 8, 7, 255))) == (Image.new("RGB", (2, 2), (9, 8, 7)), "")


SIXTEEN = (RAMP * 257).astype("uint16")
SCALED: dict[str, tuple[Any, str]] = {
    "I;16": (Image.fromarray(SIXTEEN), "grey of 16 bits is scaled to 8"),
    "I;16, PNG": (saved(Image.fromarray(SIXTEEN), "PNG"), "grey of 16 bits is scaled to 8"),
    "I;16, TIFF": (saved(Image.fromarray(SIXTEEN), "TIFF"), "grey of 16 bits is scaled to 8"),
    "I;16B": (Image.frombytes("I;16B", (16, 16), SIXTEEN.astype(">u2").tobytes()), "grey of 16 bits is scaled to 8"),
    "I, 16 bits": (Image.fromarray(SIXTEEN.astype("int32")), "grey of 16 bits is scaled to 8"),
    "I, 8 bits": (Image.fromarray(RAMP.astype("int32")), ""),
    "F, 0 to 1": (Image.fromarray((RAMP / 255).astype("float32")), "grey from 0 to 1 is scaled to 255"),
    "F, TIFF": (saved(Image.fromarray((RAMP / 255).astype("float32")), "TIFF"), "grey from 0 to 1 is scaled to 255"),
    "F, 0 to 255": (Image.fromarray(RAMP.astype("float32")), ""),
    "L": (Image.fromarray(RAMP.astype("uint8")), ""),
}  # fmt: skip


@pytest.mark.parametrize("kind", SCALED)
def test_grey_ramp_is_preserved(kind: str) -> None:
    image, expected = SCALED[kind]
    picture, change = decoded(image)
    assert (np.asarray(picture)[:, :, 0] == RAMP).all()
    assert change == expected


def test_dark_16_bit_image_stays_dark() -> None:
    dark = saved(Image.fromarray(np.full((4, 4), 200, "uint16")), "PNG")
    assert open_image(dark).getextrema() == ((1, 1),) * 3


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (RAMP - 1, "got values from -1 to 254 in mode F"),
        (RAMP * 1e6, "got values from 0 to 2.55e\\+08 in mode F"),
        (RAMP * 3, "fractions from 0 to 1, or to 255, got values from 0 to 765 in mode F"),
        (np.full((4, 4), np.nan), "got values from nan to nan"),
        (np.full((4, 4), np.inf), "got values from inf to inf"),
    ],
)
def test_ambiguous_grey_values_are_rejected(numbers: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(
        OSError, match=f"expected a readable image in a PIL image, got ValueError: expected .*{message}"
    ):
        open_image(Image.fromarray(numbers.astype("float32")))


@pytest.mark.parametrize("factor", [1 + 1e-7, 1.05, 1.1])
def test_fractions_slightly_out_of_range_are_clipped(factor: float) -> None:
    """Rounding and resizing cause them; interpreted as grey to 255 the image would be black."""
    numbers = (RAMP / 255 * factor).astype("float32")
    picture, change = decoded(Image.fromarray(numbers))
    expected = np.rint(numbers.astype("float64").clip(0, 1) * 255)
    assert (np.asarray(picture)[:, :, 0] == expected).all()
    assert change == "grey from 0 to 1 is scaled to 255"


def test_resized_image_of_fractions_keeps_its_contrast() -> None:
    step = np.where(np.arange(64) < 32, 0.02, 1.0).astype("float32")
    resized = Image.fromarray(np.tile(step, (64, 1))).resize((100, 100), Image.Resampling.LANCZOS)
    low, high = resized.getextrema()
    assert low < 0
    assert high > 1
    assert decoded(resized).picture.getextrema() == ((0, 255),) * 3


@pytest.mark.parametrize("most", [1.2, 2.0, 10.0, 15.9])
def test_fractions_on_an_unknown_scale_are_rejected(most: float) -> None:
    with pytest.raises(
        OSError, match=f"expected fractions from 0 to 1, or to 255, got values from 0 to {most:g} in mode F"
    ):
        decoded(Image.fromarray((RAMP / 255 * most).astype("float32")))
    whole = np.minimum(RAMP, 15)  # integers: few, but intended levels
    assert (np.asarray(decoded(Image.fromarray(whole.astype("float32"))).picture)[:, :, 0] == whole).all()


def test_transparent_16_bit_grey_value_becomes_white() -> None:
    numbers = np.full((8, 8), 100, "uint16")
    numbers[2:6, 2:6] = 40_000
    shown, change = decoded(saved(Image.fromarray(numbers), "PNG", transparency=100))
    assert (np.asarray(shown)[:, :, 0] == np.where(numbers == 100, 255, 156)).all()
    assert change == "grey of 16 bits is scaled to 8, transparent parts are shown on white"
    _, change = decoded(saved(Image.fromarray(numbers), "PNG", transparency=101))
    assert change == "grey of 16 bits is scaled to 8"


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV"])
def test_other_modes_convert_without_a_reported_change(mode: str) -> None:
    picture = Image.radial_gradient("L").resize((16, 16)).convert("RGB").convert(mode)
    assert decoded(picture) == (picture.convert("RGB"), "")


def test_exif_orientation_of_a_16_bit_image_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_image(saved(Image.new("I;16", (3, 2)), "PNG", exif=exif)).size == (2, 3)


def test_each_change_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    image_module._log_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            open_image(TRANSPARENT["RGBA"])
            open_image(SCALED["I;16"][0])
        image_digest(TRANSPARENT["LA"])
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "transparent parts are shown on white",
        "grey of 16 bits is scaled to 8",
    ]


def test_checked_images_report_their_changes(tmp_path: Path) -> None:
    drawing("RGBA").save(tmp_path / "drawing.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    head = "id,image,question,options,answer\n"
    row = '{},{}.png,Which?,"[""a"", ""b""]",0\n'
    (tmp_path / "rows.csv").write_text(head + row.format("1", "drawing") + row.format("2", "plain"))
    samples = read_rows(tmp_path / "rows.csv", check_images=True)
    assert samples.changes == ("rows.csv, line 2: sample '1', field 'images.0': transparent parts are shown on white",)
    assert read_rows(tmp_path / "rows.csv").changes == ()
