"""Numbers that no picture gives: refused by the image, with what was found, what was expected and how it came about."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import torch
from torch import Tensor

from app.engine import Engine
from app.errors import FieldError
from app.models.hosted import Preprocessing
from app.serving.decoding.input_range import InputRange
from app.types import Call
from tests.app.small import small_engine

pytestmark = pytest.mark.anyio
IMAGENET = Preprocessing(16, 16, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
MEAN, STD = (torch.tensor(part)[:, None, None] for part in (IMAGENET.mean, IMAGENET.std))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def picture() -> Tensor:
    """Pixels from 0 to 1, all but black and white included."""
    drawn = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    drawn[0, :, 0, 0], drawn[0, :, 0, 1] = 0.004, 0.996
    return drawn


def normalized(pixels: Tensor) -> Tensor:
    return (pixels - MEAN) / STD


def with_one(value: float) -> Tensor:
    image = normalized(picture())
    image[0, 1, 3, 3] = value
    return image


IMPOSSIBLE: dict[str, tuple[Tensor, str]] = {
    "raw pixels": ((255 * picture()).round(), "raw pixels, 0 to 255"),
    "raw pixels, resized": (255 * picture(), "raw pixels, 0 to 255"),
    "raw pixels of 16 bits": ((65535 * picture()).round(), "16-bit"),
    "normalized without the division": (normalized(255 * picture()), "check the preprocessing"),
    "divided by the deviation only": (255 * picture() / STD, "check the preprocessing"),
    "less the mean of 0 to 255": (255 * (picture() - MEAN), "check the preprocessing"),
    "normalized twice": (normalized(normalized(picture())), "normalized twice"),
    "one pixel": (with_one(1000.0), "check the preprocessing"),
    "one pixel, below": (with_one(-30.0), "check the preprocessing"),
    "as large as a float can be": (with_one(3e38), "check the preprocessing"),
    "one channel": (normalized(picture()) - torch.tensor([0.0, 90.0, 0.0])[:, None, None], "check the preprocessing"),
}


@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_values_that_no_picture_gives_are_refused_with_the_likely_cause(kind: str) -> None:
    bad, mistake = IMPOSSIBLE[kind]
    with pytest.raises(FieldError, match=r"of an image normalized for this model from -2\.118 to 2\.64") as caught:
        InputRange(IMAGENET).check(torch.cat([normalized(picture()), bad, bad]))
    assert caught.value.image == 1
    assert f"{float(bad.min()):.4g} to {float(bad.max()):.4g}" in caught.value.message
    assert mistake in caught.value.hint
    assert "(x / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)" in caught.value.hint
    assert "RENORM_INPUT_RANGE=off" in caught.value.hint


POSSIBLE: dict[str, Tensor] = {
    "a picture": normalized(picture()),
    "black": normalized(torch.zeros(1, 3, 16, 16)),
    "white": normalized(torch.ones(1, 3, 16, 16)),
    "half precision": normalized(picture().round()).half().float(),
    "padded with zeros": torch.zeros(1, 3, 16, 16),
    "resampled as floats, which overshoots": torch.nn.functional.interpolate(
        normalized(picture().round()), scale_factor=2.3, mode="bicubic"
    ),
    "normalized for another data set": (picture() - 0.5) / 0.2,
    "0 to 1, which cannot be told from a picture": picture(),
    "-1 to 1": 2 * picture() - 1,
    "numbers next to zero": torch.full((1, 3, 16, 16), 1e-40),
}


@pytest.mark.parametrize("kind", POSSIBLE)
def test_values_that_a_picture_may_give_are_accepted(kind: str) -> None:
    InputRange(IMAGENET).check(POSSIBLE[kind])


@pytest.fixture
async def engines() -> AsyncIterator[dict[str, Engine]]:
    both = {way: small_engine(input_range=way) for way in ("check", "off")}
    yield both
    for engine in both.values():
        await engine.close()


async def test_a_refused_image_moves_no_state_and_a_setting_takes_it(engines: dict[str, Engine]) -> None:
    good, raw = Call(torch.zeros(1, 3, 8, 8), "s"), Call(torch.full((1, 3, 8, 8), 200.0), "s")
    await engines["check"].predict(good)
    before = await engines["check"].snapshot()
    with pytest.raises(FieldError, match="from 200 to 200"):
        await engines["check"].predict(raw)
    assert str(await engines["check"].snapshot()) == str(before)
    assert (await engines["off"].predict(raw)).entropy >= 0
