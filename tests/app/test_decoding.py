"""The decode stage: order, the first bad image, and what closing and cancelling leave behind."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import app.decoding
from app.decoding import Decoders
from app.errors import EngineClosedError, ImageError
from app.images import Limits
from app.models.hosted import Preprocessing

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def decoders() -> AsyncIterator[Decoders]:
    decoders = Decoders(Preprocessing(8, 8, "bilinear", (0, 0, 0), (1, 1, 1)), Limits(10_000, 10_000))
    yield decoders
    decoders.close()


def noise(n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(n).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)


IMAGE = np.zeros((8, 8, 3), np.uint8)


def png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("n", [1, 2, 3, 17])
async def test_images_lie_in_one_tensor_in_the_order_they_were_sent(decoders: Decoders, n: int) -> None:
    images = noise(n)
    pixels = await decoders([png(image) for image in images])
    assert pixels.is_contiguous()
    assert np.array_equal(pixels.numpy(), images)
    assert pixels.untyped_storage().nbytes() == n * decoders.image_bytes


async def test_the_first_bad_image_is_named_whichever_thread_meets_it(decoders: Decoders) -> None:
    files = [png(image) for image in noise(30)]
    for i in (7, 8, 9, 20):
        files[i] = b"no image"
    with pytest.raises(ImageError) as caught:
        await decoders(files)
    assert caught.value.where == "images[7]"


async def test_what_decoding_did_not_foresee_is_raised_too(decoders: Decoders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.decoding, "decode", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await decoders([b"a", b"b"])


async def test_what_is_cancelled_before_it_began_is_never_decoded(
    decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, begun = threading.Event(), []

    def slow(data: bytes, *_: object) -> NDArray[np.uint8]:
        begun.append(data)
        gate.wait(10)
        return IMAGE

    monkeypatch.setattr(app.decoding, "decode", slow)
    monkeypatch.setattr(decoders, "_threads", 1)
    running = [asyncio.ensure_future(decoders([b"first"])) for _ in range(decoders._pool._max_workers)]
    gone = asyncio.ensure_future(decoders([b"gone"]))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    gate.set()
    await asyncio.gather(*running)
    assert set(begun) == {b"first"}


async def test_a_closed_pool_refuses(decoders: Decoders) -> None:
    decoders.close()
    with pytest.raises(EngineClosedError):
        await decoders([png(noise(1)[0])])


async def test_closing_refuses_what_has_not_begun(decoders: Decoders, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    def slow(*_: object) -> NDArray[np.uint8]:
        gate.wait(10)
        return IMAGE

    monkeypatch.setattr(app.decoding, "decode", slow)
    running = [asyncio.ensure_future(decoders([b"x"])) for _ in range(decoders._pool._max_workers)]
    waiting = asyncio.ensure_future(decoders([b"x"]))
    await asyncio.sleep(0)
    threading.Timer(0.05, gate.set).start()
    decoders.close()
    await asyncio.gather(*running)
    with pytest.raises(EngineClosedError):
        await waiting
