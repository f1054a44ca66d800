"""Images sent to a server: the file itself where possible, otherwise the same pixels as for other models."""

import base64
import io

import pytest
from PIL import Image

from vlmrobust.models.server.messages import data_url
from vlmrobust.types import open_image
from vlmrobust.types.image import DerivedImage

PICTURE = Image.radial_gradient("L").convert("RGB").resize((40, 30))


def encode(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def rotated_by_exif():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(PICTURE, "JPEG", exif=exif)


def decode_url(url):
    kind, _, data = url.partition(";base64,")
    return kind, base64.b64decode(data, validate=True)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (encode(PICTURE, "PNG"), "data:image/png"),
        (encode(PICTURE.convert("L"), "PNG"), "data:image/png"),
        (encode(PICTURE, "JPEG"), "data:image/jpeg"),
        (encode(PICTURE, "WEBP", lossless=True), "data:image/webp"),
    ],
    ids=["png", "grey", "jpeg", "webp"],
)
def test_plain_files_are_sent_unchanged(image, kind, tmp_path):
    assert decode_url(data_url(image)) == (kind, image)
    (tmp_path / "x.dat").write_bytes(image)  # the type comes from the content, not from the name
    assert data_url(tmp_path / "x.dat") == data_url(str(tmp_path / "x.dat")) == data_url(image)


@pytest.mark.parametrize(
    "image",
    [
        PICTURE,
        rotated_by_exif(),
        encode(PICTURE.convert("RGBA"), "PNG"),
        encode(PICTURE.convert("P"), "PNG"),
        encode(PICTURE, "PNG", transparency=(1, 2, 3)),
        encode(PICTURE.convert("CMYK"), "JPEG"),
        encode(PICTURE, "BMP"),
        encode(PICTURE, "GIF"),
        encode(PICTURE, "PNG", save_all=True, append_images=[PICTURE.rotate(90)]),
    ],
    ids=["pil", "turned", "alpha", "palette", "transparent", "cmyk", "bmp", "gif", "moving"],
)
def test_files_that_servers_decode_differently_are_sent_as_png(image):
    kind, data = decode_url(data_url(image))
    assert kind == "data:image/png"
    assert data != image
    with Image.open(io.BytesIO(data)) as sent:
        assert (sent.mode, sent.tobytes()) == ("RGB", open_image(image).tobytes())


class Turned(DerivedImage):
    def derive(self, image):
        return image.rotate(180)


def test_a_derived_image_is_derived():
    _, data = decode_url(data_url(Turned(source=encode(PICTURE, "PNG"))))
    with Image.open(io.BytesIO(data)) as sent:
        assert sent.tobytes() == PICTURE.rotate(180).tobytes()


def test_the_error_for_a_broken_image_describes_it():
    with pytest.raises(OSError, match="expected a readable image in 9 bytes"):
        data_url(b"not a png")
