"""Networks of grey images and of images that are not square, from a file to an answer."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from app.engine import Engine
from app.errors import FieldError, ModelError
from app.images import ImageLimits, decode
from app.images.preprocessing import Preprocessing, Sides
from app.main import create_app
from app.models import load
from app.settings import Settings
from app.types import Call

SIZES: list[Sides] = [16, (12, 20), (20, 12)]
LIMITS = ImageLimits(1_000_000, 1_000_000)


def build(channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(4, 3)).eval()


def build_grey() -> nn.Module:
    return build(1)


def build_for_size() -> nn.Module:
    """Takes 12 x 20 pixels and nothing else."""
    return nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 12 * 20, 3)).eval()


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


PHOTO = np.random.default_rng(0).integers(0, 256, (30, 48, 3), dtype=np.uint8)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("crop", ["center", "squash", "border"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pixels_have_the_form_of_the_input(size: Sides, channels: int, crop: str) -> None:
    how = Preprocessing(size, size, "bilinear", (0.5,) * channels, (0.5,) * channels, crop)
    pixels = decode(png(PHOTO), how, LIMITS)
    assert pixels.shape == (how.height, how.width, channels)
    assert pixels.dtype == np.uint8


def test_an_image_of_the_right_size_is_left_alone() -> None:
    how = Preprocessing((30, 48), (30, 48), "bicubic", (0.5,) * 3, (0.5,) * 3)
    np.testing.assert_array_equal(decode(png(PHOTO), how, LIMITS), PHOTO)


def test_a_wide_input_covers_a_tall_image_and_cuts_its_ends() -> None:
    tall = np.zeros((60, 20, 3), np.uint8)
    tall[20:40] = 255
    how = Preprocessing((10, 20), (10, 20), "bilinear", (0.5,) * 3, (0.5,) * 3)
    assert decode(png(tall), how, LIMITS).min() == 255


def test_grey_is_the_luma_of_colours() -> None:
    how = Preprocessing((30, 48), (30, 48), "bilinear", (0.5,), (0.5,))
    luma = PHOTO.astype(float) @ (0.299, 0.587, 0.114)
    np.testing.assert_allclose(decode(png(PHOTO), how, LIMITS)[:, :, 0], luma, atol=1)


async def opened(factory: str, **settings: Any) -> Engine:
    return await Engine.open(Settings(model=f"python:tests.app.models.test_inputs:{factory}", **settings))


@pytest.mark.anyio
@pytest.mark.parametrize("size", [16, "12x20"])
@pytest.mark.parametrize("factory", ["build", "build_grey"])
async def test_every_kind_of_input_gives_one_answer(factory: str, size: int | str) -> None:
    engine = await opened(factory, size=size, strategy="source")
    how = engine.hosted.preprocessing
    assert (how.height, how.width) == ((16, 16) if size == 16 else (12, 20))
    pixels = torch.from_numpy(np.ascontiguousarray(PHOTO[: how.height, : how.width]))[None]
    answers = [await engine.predict(Call([png(pixels[0].numpy())]))]
    answers += [await engine.predict(Call(pixels))]
    seen = torch.from_numpy(np.array(decode(png(pixels[0].numpy()), how, LIMITS)))[None]
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (how.mean, how.std))
    prepared = (seen.permute(0, 3, 1, 2).float() / 255 - mean) / std
    answers += [await engine.predict(Call(seen)), await engine.predict(Call(prepared.contiguous()))]
    for answer in answers[1:]:
        torch.testing.assert_close(answer.probabilities, answers[0].probabilities, rtol=1e-4, atol=1e-4)
    with pytest.raises(FieldError, match=rf"{how.channels}, {how.height}, {how.width}\]"):
        await engine.predict(Call(torch.zeros(1, how.channels, how.height + 1, how.width)))
    await engine.close()


def test_the_size_is_height_and_width() -> None:
    location = "python:tests.app.models.test_inputs:build_for_size"
    assert load(Settings(model=location, size="12x20")).preprocessing.input_shape == (3, 12, 20)
    with pytest.raises(ModelError, match="fails on two RGB images of 20 x 20 pixels") as refused:
        load(Settings(model=location, size=20))
    assert "--size" in refused.value.hint


@pytest.mark.parametrize("size", ["0", "12x", "x12", "12x20x3", "1e3", "-4", "5000", "12 x 20", True, (1, 2, 3)])
def test_invalid_sizes_are_refused(size: Any) -> None:
    with pytest.raises(ValueError, match="HEIGHTxWIDTH"):
        Settings(size=size)


def test_the_part_that_is_cut_out_stays_the_same() -> None:
    hosted = load(Settings(model="python:tests.app.models.test_inputs:build", size=(120, 160)))
    assert hosted.preprocessing.resize == (120, 160)


@pytest.mark.anyio
async def test_the_protocol_tells_the_input(tmp_path: Path) -> None:
    app = create_app(Settings(model="python:tests.app.models.test_inputs:build_grey", size="12x20"))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            name = (await client.get("/v1/model")).json()["name"]
            described = (await client.get(f"/v2/models/{name}")).json()
            config = (await client.get(f"/v2/models/{name}/config")).json()
            data = [0.0] * (12 * 20)
            body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1, 12, 20], "data": data}]}
            answer = await client.post(f"/v2/models/{name}/infer", json=body)
    assert described["inputs"][0]["shape"] == [-1, 1, 12, 20]
    assert config["input"][0]["dims"] == [1, 12, 20]
    assert answer.status_code == 200, answer.text
