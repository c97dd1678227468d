"""Images that clients have decoded or prepared themselves, beside those that come as files."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator

import numpy as np
import pytest
import torch
from PIL import Image

from app.engine import Engine
from app.errors import FieldError
from app.types import Call, Prediction
from tests.app.small import burst, png, small_engine

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = small_engine()
    yield engine
    await engine.close()


async def test_prepared_inputs_and_pixels_are_answered_as_the_files_are(engine: Engine) -> None:
    files = [png(1), png(2)]
    pixels = torch.from_numpy(np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files]))
    how = engine.hosted.preprocessing
    mean, std = (torch.tensor(part)[:, None, None] for part in (how.mean, how.std))
    prepared = (pixels.permute(0, 3, 1, 2) / 255 - mean) / std
    expected = await engine.predict(Call(files, "files"))
    for name, images in (("pixels", pixels), ("prepared", prepared.contiguous())):
        before = images.clone()
        answer = await engine.predict(Call(images, name))
        assert torch.allclose(answer.probabilities, expected.probabilities, atol=1e-6)
        assert torch.equal(images, before)
    mixed = await burst(engine, [Call(files, "a"), Call(prepared, "b"), Call(pixels, "c")])
    for one in mixed:
        assert isinstance(one, Prediction)
        assert torch.allclose(one.probabilities, expected.probabilities, atol=1e-6)


async def test_prepared_inputs_that_are_not_finite_are_refused_and_harm_nobody(engine: Engine) -> None:
    bad = torch.zeros(2, 3, 8, 8)
    bad[1, 0, 0, 0] = float("nan")
    calls = [Call(torch.ones(1, 3, 8, 8), "a"), Call(bad, "b"), Call(torch.ones(1, 3, 8, 8), "c")]
    found = await asyncio.gather(*map(engine.predict, calls), return_exceptions=True)
    assert isinstance(found[1], FieldError)
    assert found[1].image == 1
    assert isinstance(found[0], Prediction)
    assert isinstance(found[2], Prediction)
    assert {info.stream for info in (await engine.streams()).streams} == {"a", "c"}
