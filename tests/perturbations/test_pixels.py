"""Corrupted pixels against the formulas of ImageNet-C, for images of any size."""

import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from vlmrobust.perturbations.image import Blurred, LowContrast, Noisy
from vlmrobust.types import open_image

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
