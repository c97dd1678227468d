"""Images that come as tensors: checked, cut as files are, or passed on as they are."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from app.errors import FieldError, TooLargeError
from app.images import ImageLimits
from app.models.hosted import Preprocessing
from app.serving.decoding.stage import DecodeStage

pytestmark = pytest.mark.anyio
CUT = Preprocessing(8, 10, "bilinear", (0, 0, 0), (1, 1, 1))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def decoders() -> AsyncIterator[DecodeStage]:
    decoders = DecodeStage(CUT, ImageLimits(10_000, 1000))
    yield decoders
    decoders.close()


def pixels(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (10, 10), (20, 30), (9, 50)])
async def test_pixels_are_cut_as_files_are(decoders: DecodeStage, height: int, width: int) -> None:
    images, files = pixels(3, height, width, 3), []
    for image in images.numpy():
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        files.append(buffer.getvalue())
    assert torch.equal(await decoders(images), await decoders(files))


async def test_prepared_inputs_pass_as_they_are(decoders: DecodeStage) -> None:
    images = torch.rand(2, 3, 8, 8)
    assert await decoders(images) is images
    assert decoders.bytes_of(images) == images.nbytes
    assert decoders.bytes_of(pixels(2, 50, 50, 3)) == 2 * 8 * 8 * 3


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.zeros(2, 3, 9, 8), r"float32 \[n, 3, 8, 8\] or uint8"),
        (torch.zeros(3, 8, 8), "must be float32"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.float64), "torch.float64"),
        (torch.zeros(1, 8, 8, 4, dtype=torch.uint8), r"must be \[n, height, width, 3\]"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), r"not \[8, 8, 3\]"),
        (torch.zeros(1, 0, 8, 3, dtype=torch.uint8), "height"),
    ],
)
async def test_other_shapes_and_types_are_refused(decoders: DecodeStage, images: Tensor, words: str) -> None:
    with pytest.raises(FieldError, match=words):
        await decoders(images)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
async def test_numbers_that_are_not_finite_are_refused_by_the_image(decoders: DecodeStage, bad: float) -> None:
    images = torch.zeros(3, 3, 8, 8)
    images[2, 1, 4, 4] = bad
    with pytest.raises(FieldError) as caught:
        await decoders(images)
    assert caught.value.image == 2


async def test_large_numbers_are_finite_where_any_are_taken() -> None:
    anything = DecodeStage(CUT, ImageLimits(10_000, 1000), input_range="off")
    large = torch.full((1, 3, 8, 8), 3e38)
    assert await anything(large) is large
    anything.close()


async def test_too_many_pixels_are_refused_by_the_image(decoders: DecodeStage) -> None:
    with pytest.raises(TooLargeError) as caught:
        await decoders(pixels(2, 50, 50, 3))
    assert caught.value.image == 0
