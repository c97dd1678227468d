"""What the device makes of pixels equals what decoding made of them, one image at a time, before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from app.models.bundled import CIFAR10
from app.models.hosted import Preprocessing
from app.models.pixels import Pixels

IMAGENET = Preprocessing(224, 256, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def batch(n: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, height, width, 3), dtype=torch.uint8, generator=generator)


def by_image(pixels: Tensor, how: Preprocessing) -> Tensor:
    """The formula image by image, channels first, in numpy."""
    scaled = pixels.numpy().transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    mean, std = (np.array(numbers, np.float32).reshape(3, 1, 1) for numbers in (how.mean, how.std))
    return torch.tensor((scaled - mean) / std)


@pytest.mark.parametrize("how", [CIFAR10, IMAGENET])
@pytest.mark.parametrize("shape", [(1, 32, 32), (5, 7, 9), (2, 1, 1)])
def test_pixels_are_normalized_bit_for_bit_as_image_by_image(how: Preprocessing, shape: tuple[int, int, int]) -> None:
    pixels = batch(*shape)
    out = Pixels(how)(pixels)
    assert out.dtype == torch.float32
    assert torch.equal(out, by_image(pixels, how))


def test_every_value_of_every_channel_is_normalized_as_in_training() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    assert torch.equal(Pixels(CIFAR10)(every), by_image(every, CIFAR10))


def test_the_input_has_its_channels_innermost_and_the_pixels_stay_as_they_are() -> None:
    pixels = batch(4, 16, 16)
    before = pixels.clone()
    out = Pixels(CIFAR10)(pixels)
    assert out.shape == (4, 3, 16, 16)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(pixels, before)


def test_prepared_float_inputs_pass_through() -> None:
    prepared = torch.randn(2, 3, 4, 4)
    assert Pixels(CIFAR10)(prepared) is prepared


def test_the_constants_travel_with_the_module() -> None:
    assert {buffer.device.type for buffer in Pixels(CIFAR10).to("meta").buffers()} == {"meta"}
