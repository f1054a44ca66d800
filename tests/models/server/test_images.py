"""A server sees what every other model here sees, and the file itself where that is the same."""

import base64
import io

import pytest
from PIL import Image

from vlmrobust.models.server.messages import data_url
from vlmrobust.types import open_image
from vlmrobust.types.image import DerivedImage

PICTURE = Image.radial_gradient("L").convert("RGB").resize((40, 30))


def content(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return content(PICTURE, "JPEG", exif=exif)


def decoded(url):
    kind, _, data = url.partition(";base64,")
    return kind, base64.b64decode(data, validate=True)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (content(PICTURE, "PNG"), "data:image/png"),
        (content(PICTURE.convert("L"), "PNG"), "data:image/png"),
        (content(PICTURE, "JPEG"), "data:image/jpeg"),
        (content(PICTURE, "WEBP", lossless=True), "data:image/webp"),
    ],
    ids=["png", "grey", "jpeg", "webp"],
)
def test_files_go_as_they_are(image, kind, tmp_path):
    assert decoded(data_url(image)) == (kind, image)
    (tmp_path / "x.dat").write_bytes(image)  # the name says nothing
    assert data_url(tmp_path / "x.dat") == data_url(str(tmp_path / "x.dat")) == data_url(image)


@pytest.mark.parametrize(
    "image",
    [
        PICTURE,
        turned(),
        content(PICTURE.convert("RGBA"), "PNG"),
        content(PICTURE.convert("P"), "PNG"),
        content(PICTURE, "PNG", transparency=(1, 2, 3)),
        content(PICTURE.convert("CMYK"), "JPEG"),
        content(PICTURE, "BMP"),
        content(PICTURE, "GIF"),
        content(PICTURE, "PNG", save_all=True, append_images=[PICTURE.rotate(90)]),
    ],
    ids=["pil", "turned", "alpha", "palette", "transparent", "cmyk", "bmp", "gif", "moving"],
)
def test_what_servers_would_decode_in_different_ways_goes_decoded(image):
    kind, data = decoded(data_url(image))
    assert kind == "data:image/png"
    assert data != image
    with Image.open(io.BytesIO(data)) as sent:
        assert (sent.mode, sent.tobytes()) == ("RGB", open_image(image).tobytes())


class Turned(DerivedImage):
    def derive(self, image):
        return image.rotate(180)


def test_an_image_made_of_another_is_made():
    _, data = decoded(data_url(Turned(source=content(PICTURE, "PNG"))))
    with Image.open(io.BytesIO(data)) as sent:
        assert sent.tobytes() == PICTURE.rotate(180).tobytes()


def test_a_broken_image_is_named():
    with pytest.raises(OSError, match="expected a readable image in 9 bytes"):
        data_url(b"not a png")
