"""Images: paths, bytes and PIL images decode to the same pixels; errors describe broken ones."""

import io
import os
import socket
from pathlib import Path

import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from vlmrobust import Evaluator, Sample
from vlmrobust.testing import FakeModel
from vlmrobust.types import ImageLike, image_digest, open_image
from vlmrobust.types.image import DerivedImage, image_key, needs_no_care


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def two_pixels() -> Image.Image:
    image = Image.new("RGB", (2, 1), "red")
    image.putpixel((1, 0), (0, 0, 255))
    return image


def test_path_bytes_and_pil_image_decode_equally(tmp_path: Path) -> None:
    picture = two_pixels()
    path = tmp_path / "two.png"
    path.write_bytes(encoded(picture))
    for image in (picture, path, str(path), path.read_bytes()):
        opened = open_image(image)
        assert opened.mode == "RGB"
        assert opened.tobytes() == picture.tobytes()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "CMYK"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    assert open_image(two_pixels().convert(mode)).mode == "RGB"


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    sideways = encoded(two_pixels(), exif=exif)
    assert open_image(sideways).size == (1, 2)
    assert open_image(Image.open(io.BytesIO(sideways))).size == (1, 2)


def test_error_names_a_missing_file() -> None:
    with pytest.raises(FileNotFoundError, match=r"expected an image file at 'no\.png', found none"):
        open_image("no.png")


@pytest.mark.parametrize(
    "broken", [b"not an image", encoded(two_pixels())[:50], encoded(Image.new("RGB", (64, 64)), "JPEG")[:300]]
)
def test_broken_image_raises_oserror_with_its_source(broken: bytes, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=f"expected a readable image in {len(broken)} bytes, got "):
        open_image(broken)
    (tmp_path / "broken").write_bytes(broken)
    with pytest.raises(OSError, match=f"expected a readable image in '{tmp_path}/broken', got "):
        open_image(tmp_path / "broken")


def test_any_decoder_exception_becomes_an_oserror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    with pytest.raises(OSError, match="got DecompressionBombError"):
        open_image(encoded(Image.new("RGB", (8, 8))))


def test_folder_is_not_an_image(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="expected a readable image in"):
        open_image(tmp_path)


def test_digest_of_a_file_equals_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "two.png"
    path.write_bytes(encoded(two_pixels()))
    assert image_digest(path) == image_digest(str(path)) == image_digest(path.read_bytes())


def test_digest_depends_on_pixels_size_and_palette() -> None:
    indices = Image.new("P", (2, 1))
    other = indices.copy()
    indices.putpalette([255, 0, 0])
    other.putpalette([0, 0, 255])
    assert indices.tobytes() == other.tobytes()
    pictures = [indices, other, Image.new("RGB", (2, 2)), Image.new("RGB", (4, 1)), two_pixels()]
    assert len({image_digest(picture) for picture in pictures}) == len(pictures)
    assert image_digest(two_pixels()) == image_digest(two_pixels())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "expected a path, bytes or a PIL image, got int"),
        (None, "expected a path, bytes or a PIL image, got NoneType"),
        ("", "expected an image, got an empty value"),
        (b"", "expected an image, got an empty value"),
    ],
)
def test_other_types_are_rejected(value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(ImageLike).validate_python(value)


def test_images_are_serialized_as_paths_or_digests() -> None:
    sample = Sample(id="q", images=[Path("a.png"), "b.png", b"x"], question="?", options=["a", "b"], answer=0)
    assert sample.model_dump()["images"] == ("a.png", "b.png", f"sha256:{image_digest(b'x')}")


class Tinted(DerivedImage):
    """One channel is set to a value."""

    red: int

    def derive(self, image: Image.Image) -> Image.Image:
        return Image.merge("RGB", (Image.new("L", image.size, self.red), *image.split()[1:]))


def test_derived_image_is_computed_when_opened(tmp_path: Path) -> None:
    picture, path = two_pixels(), tmp_path / "later.png"
    derived = Tinted(source=path, red=7)
    with pytest.raises(FileNotFoundError, match=r"later\.png"):
        open_image(derived)
    with pytest.raises(FileNotFoundError):
        image_digest(derived)
    path.write_bytes(encoded(picture))
    assert [open_image(derived).getpixel((x, 0)) for x in (0, 1)] == [(7, 0, 0), (7, 0, 255)]
    twice = Tinted(source=derived, red=9)
    assert open_image(twice).getpixel((1, 0)) == (9, 0, 255)
    assert Sample(id="q", images=[twice], question="?", options=["a", "b"], answer=0).images == (twice,)


def test_derived_image_is_identified_by_source_and_fields(tmp_path: Path) -> None:
    path = tmp_path / "two.png"
    path.write_bytes(encoded(two_pixels()))
    known = image_digest(Tinted(source=path, red=7))
    assert known == image_digest(Tinted(source=path.read_bytes(), red=7))
    others = [
        Tinted(source=path, red=8),
        Tinted(source=Tinted(source=path, red=7), red=7),
        path,
        Tinted(source=two_pixels().rotate(180), red=7),
    ]
    assert known not in {image_digest(other) for other in others}
    keys = [image_key(image) for image in (Tinted(source=path, red=7), *others)]
    assert len(set(keys)) == len(keys)
    assert image_key(Tinted(source=path, red=7)) == keys[0]


@pytest.mark.parametrize(("name", "kind"), [("pipe", "a pipe"), ("/dev/zero", "a device"), ("socket", "a socket")])
def test_pipes_devices_and_sockets_are_rejected(tmp_path, name, kind):
    path = tmp_path / name  # `/` and an absolute path are the latter
    if name == "pipe":
        os.mkfifo(path)
    held = socket.socket(socket.AF_UNIX) if name == "socket" else None
    if held is not None:
        held.bind(str(path))
    for look in (open_image, image_digest):
        with pytest.raises(OSError, match=f"^expected an image file at '{path}', got {kind}$"):
            look(str(path))
    if held is not None:
        held.close()
    assert needs_no_care(str(path))


def test_pipe_as_image_becomes_an_error_row(tmp_path, make_sample):
    os.mkfifo(tmp_path / "pipe")
    sample = make_sample(images=[str(tmp_path / "pipe")])
    [error] = Evaluator(FakeModel(), []).run([sample], tmp_path / "run").responses.error
    assert "got a pipe" in error
