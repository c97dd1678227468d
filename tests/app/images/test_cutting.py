"""What a network sees of a picture: exactly what timm's own transform gives, for every way to crop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.images import ImageLimits, cut_pixels
from app.models.hosted import CROPS, Preprocessing

transforms = pytest.importorskip("timm.data.transforms_factory")

MEAN = (0.485, 0.456, 0.406)
LIMITS = ImageLimits(1_000_000, 10_000_000)
SHAPES = [(480, 640), (640, 480), (97, 61), (61, 97), (300, 300), (240, 320), (40, 500), (500, 40), (57, 57), (1, 9)]


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / (9 + i)) * np.cos(columns / (7 + 2 * i)) for i in range(3)]
    return np.stack([127.5 + 120 * wave for wave in waves], 2).astype(np.uint8)


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("share", [1.0, 0.875, 0.9])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equal_to_timms_transform(shape: tuple[int, int], interpolation: str, share: float, crop: str) -> None:
    transform = transforms.transforms_imagenet_eval(
        56, crop_pct=share, crop_mode=crop, interpolation=interpolation, mean=MEAN, normalize=False
    )
    how = Preprocessing(56, math.floor(56 / share), interpolation, MEAN, (1.0, 1.0, 1.0), crop)
    image = smooth(*shape)
    expected = transform(Image.fromarray(image)).permute(1, 2, 0).numpy().astype(int)
    differences = np.abs(cut_pixels(image, how, LIMITS) - expected)
    # Resizing and cutting are one step here: each of Pillow's two passes may round the other way.
    assert differences.max() <= 2
    assert differences.mean() < 0.1


def test_an_unknown_crop_is_refused() -> None:
    with pytest.raises(ValueError, match="crop 'top': expected one of center, squash, border"):
        Preprocessing(56, 64, "bilinear", MEAN, MEAN, "top")
