"""Images blanked, swapped, removed and corrupted: lazily, deterministically, by the formulas of ImageNet-C."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
from PIL import Image
from pydantic import ValidationError

from vlmrobust import NotApplicable, Perturbation, Prompt, Sample
from vlmrobust.manifest import config_of, prompt_digest
from vlmrobust.perturbations import (
    AbstainOption,
    BlankImage,
    BlurredImage,
    LowContrastImage,
    NoisyImage,
    RemovedImage,
    SwappedImage,
)
from vlmrobust.perturbations.image import Blurred, LowContrast, Noisy
from vlmrobust.types import open_image

Make = Callable[..., Sample]
CORRUPTIONS = (NoisyImage, BlurredImage, LowContrastImage)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def picture(side: int = 64, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (side, side * 2, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "condition", [BlankImage(), NoisyImage(), BlurredImage(), LowContrastImage()], ids=lambda c: c.condition
)
def test_nothing_is_read_until_the_pixels_are_needed(
    condition: Perturbation, make_sample: Make, tmp_path: Path
) -> None:
    path = tmp_path / "later.png"
    prompt = condition(Prompt.of(make_sample(images=(path,))))
    with pytest.raises(FileNotFoundError, match=r"later\.png"):
        open_image(prompt.images[0])
    picture().save(path)
    assert open_image(prompt.images[0]).size == (128, 64)


@pytest.mark.parametrize("condition", [BlankImage(), NoisyImage(), BlurredImage(), LowContrastImage()], ids=repr)
def test_image_changes_are_deterministic(condition: Perturbation, make_sample: Make) -> None:
    images = (picture(), png(picture(48, seed=1)))
    sample = make_sample(images=images)
    one, other = (condition(Prompt.of(sample), seed=5) for _ in range(2))
    for image, again, original in zip(one.images, other.images, images, strict=True):
        made = open_image(image)
        assert made.mode == "RGB"
        assert made.size == open_image(original).size
        assert made.tobytes() == open_image(again).tobytes() != open_image(original).tobytes()
    assert (one.question, one.options, one.prefill, one.asserted) == (sample.question, sample.options, "", None)


def test_blank_images_have_one_colour(make_sample: Make) -> None:
    sample = make_sample(images=(picture(),))
    for colour, expected in (("grey", (128, 128, 128)), ("#102030", (16, 32, 48))):
        made = open_image(BlankImage(colour=colour)(Prompt.of(sample)).images[0])
        assert made.getcolors() == [(128 * 64, expected)]
    with pytest.raises(ValidationError, match="unknown color"):
        BlankImage(colour="greyish")


def test_severity_changes_name_and_digest_but_not_the_draw(make_sample: Make) -> None:
    prompt = Prompt.of(make_sample(images=(picture(),)))
    known = ["of the sample's image"]
    for corruption in CORRUPTIONS:
        made = [corruption(severity=severity) for severity in range(1, 6)]
        stem = made[0].condition.removesuffix("_1")
        assert [condition.condition for condition in made] == [f"{stem}_{severity}" for severity in range(1, 6)]
        assert len({prompt_digest(condition(prompt), known) for condition in made}) == 5
        with pytest.raises(ValidationError, match="less than or equal to 5"):
            corruption(severity=6)
    seeds = {NoisyImage(severity=severity)(prompt, seed=1).images[0].seed for severity in range(1, 6)}  # type: ignore[union-attr]
    assert len(seeds) == 1
    assert NoisyImage()(prompt, seed=2).images[0].seed not in seeds  # type: ignore[union-attr]


def test_images_of_a_sample_have_different_noise(make_sample: Make) -> None:
    grey = Image.new("RGB", (32, 32), "grey")
    one, other = map(open_image, NoisyImage()(Prompt.of(make_sample(images=(grey, grey)))).images)
    assert one.tobytes() != other.tobytes()


# ---------------------------------------------------------------------------------------------------- swapped images


def test_swapped_images_are_of_other_samples_and_keyed(make_sample: Make) -> None:
    samples = [make_sample(f"q{number}", images=(bytes([65 + number]),)) for number in range(12)]
    condition = SwappedImage(pool=samples)
    shown = {sample.id: condition(Prompt.of(sample), seed=3).images for sample in samples}
    for sample in reversed(samples):
        assert shown[sample.id] == condition(Prompt.of(sample, draw=2), seed=3).images
        assert shown[sample.id][0] != sample.images[0]
    assert len(set(shown.values())) > 4
    assert shown != {sample.id: condition(Prompt.of(sample), seed=4).images for sample in samples}


def test_images_equal_to_the_samples_own_are_skipped(make_sample: Make, tmp_path: Path) -> None:
    own, other = picture(), picture(seed=1)
    path = tmp_path / "own.png"
    own.save(path)
    pool = [own.copy(), path, png(own), str(path), other]
    for form in (own, path, png(own)):
        for seed in range(8):
            shown = SwappedImage(pool=pool)(Prompt.of(make_sample(images=(form,))), seed).images
            assert open_image(shown[0]).tobytes() == other.tobytes()


def test_several_images_are_swapped(make_sample: Make) -> None:
    sample = make_sample(images=(b"A", b"B"))
    for seed in range(8):
        shown = SwappedImage(pool=[b"C", b"A", b"D", b"D", sample])(Prompt.of(sample), seed).images
        assert set(shown) == {b"C", b"D"}
    with pytest.raises(NotApplicable, match="needs 2 images that are not the sample's own, and the pool has 1"):
        SwappedImage(pool=[b"C", b"C", sample])(Prompt.of(sample))


def test_pool_is_identified_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    path.write_bytes(b"one")
    one, same, more = (config_of(SwappedImage(pool=pool))["pool"] for pool in ([path], [b"one"], [b"one", b"two"]))
    assert one == same != more
    assert more.startswith("2 images, sha256:")
    assert "pool" not in repr(SwappedImage(pool=[b"one"]))
    with pytest.raises(ValidationError, match="at least 1"):
        SwappedImage(pool=[])
    with pytest.raises(ValidationError, match="expected a path, bytes or a PIL image, got int"):
        SwappedImage(pool=[1])


# ---------------------------------------------------------------------------------------------------- removed images


def test_removed_images_are_not_in_the_turn(make_sample: Make) -> None:
    prompt = RemovedImage()(Prompt.of(make_sample(images=(b"x", b"y"))))
    assert prompt.images == ()
    assert [part["type"] for part in prompt.messages()[0]["content"]] == ["text"]


def test_marks_are_removed_with_their_images(make_sample: Make) -> None:
    sample = make_sample(
        images=(b"x", b"y"),
        question="<image> Is this <image> larger?",
        options=("yes  indeed", "no"),
    )
    prompt = RemovedImage()(Prompt.of(sample))
    assert (prompt.question, prompt.options) == ("Is this larger?", sample.options)
    assert "<image>" not in prompt.text


@pytest.mark.parametrize(
    "fields",
    [
        {"question": "<image>", "images": (b"x",)},
        {"options": ("<image>", "<image> too"), "images": (b"x", b"y"), "answer": 0},
        {"options": ("a <image>", "<image> a"), "images": (b"x", b"y"), "answer": 0},
    ],
)
def test_removal_is_not_applicable_if_images_are_the_only_content(fields: dict[str, object], make_sample: Make) -> None:
    with pytest.raises(NotApplicable, match="without its images, the question or an option says nothing"):
        RemovedImage()(Prompt.of(make_sample(**fields)))


def test_prompt_without_images_is_not_applicable(make_sample: Make) -> None:
    none = (RemovedImage() + AbstainOption())(Prompt.of(make_sample()))
    for condition in (BlankImage(), NoisyImage(), RemovedImage(), SwappedImage(pool=[b"x"])):
        with pytest.raises(NotApplicable, match=f"'{condition.condition}' changes an image, and none is shown"):
            condition(none)


SEVERITIES = range(1, 6)


def scene(width: int = 224, height: int = 224) -> Image.Image:
    rng = np.random.default_rng(1)
    small = Image.fromarray(rng.integers(30, 226, (7, 9, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def pixels(image: Image.Image) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    return np.asarray(image, dtype=np.float64)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_the_standard_deviation_of_imagenet_c(severity: int) -> None:
    grey = Image.new("RGB", (224, 224), (128, 128, 128))
    noise = pixels(open_image(Noisy(source=grey, severity=severity, seed=3)))
    c = (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
    normal = np.random.default_rng(0).normal(128 / 255, c, 10**6).clip(0, 1) * 255
    assert noise.mean() == pytest.approx(128, abs=2)
    assert noise.std() == pytest.approx(normal.std(), rel=0.02)


def test_severities_scale_the_same_noise() -> None:
    grey = Image.new("RGB", (40, 40), (128, 128, 128))
    weak, strong = (pixels(open_image(Noisy(source=grey, severity=s, seed=3))) - 128 for s in (1, 2))
    inside = np.abs(strong) < 120
    assert np.abs(strong * 0.08 / 0.12 - weak)[inside].max() <= 1.0


def test_noise_survives_downscaling() -> None:
    sizes = {}
    for side in (224, 896):
        grey = Image.new("RGB", (side, side), (128, 128, 128))
        noisy = open_image(Noisy(source=grey, severity=2, seed=3))
        sizes[side] = pixels(noisy.resize((224, 224), Image.Resampling.BOX)).std()
    assert sizes[896] == pytest.approx(sizes[224], rel=0.02)


@pytest.mark.parametrize("size", [(225, 300), (447, 460), (500, 449), (10, 1000)])
def test_noise_fills_images_of_any_size(size: tuple[int, int]) -> None:
    noisy = open_image(Noisy(source=Image.new("RGB", size, "grey"), severity=5, seed=0))
    assert noisy.size == size
    assert np.ptp(pixels(noisy)[-3:, -3:]) > 0


@pytest.mark.parametrize("severity", SEVERITIES)
def test_blur_is_a_gaussian_of_imagenet_cs_width(severity: int) -> None:
    image = scene()
    sigma = (1, 2, 3, 4, 6)[severity - 1]
    expected = scipy.ndimage.gaussian_filter(pixels(image), (sigma, sigma, 0), mode="nearest")
    blurred = pixels(open_image(Blurred(source=image, severity=severity)))
    inner = (slice(24, -24), slice(24, -24))
    assert np.abs(blurred - expected)[inner].max() < 3  # Pillow's is a sum of three boxes


def test_blur_grows_with_the_image() -> None:
    small, large = (open_image(Blurred(source=scene(side, side), severity=4)) for side in (224, 448))
    difference = pixels(large.resize((224, 224), Image.Resampling.BOX)) - pixels(small)
    assert np.abs(difference)[24:-24, 24:-24].max() < 4


@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast_is_imagenet_cs_formula(severity: int) -> None:
    image = scene(60, 40)
    c = (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1]
    x = pixels(image) / 255
    expected = np.clip((x - x.mean(axis=(0, 1))) * c + x.mean(axis=(0, 1)), 0, 1) * 255
    assert np.abs(pixels(open_image(LowContrast(source=image, severity=severity))) - expected).max() <= 0.5 + 1e-9
