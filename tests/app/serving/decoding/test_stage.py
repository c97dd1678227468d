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

import app.serving.decoding.stage
from app.errors import EngineClosedError, ImageError, TooLargeError
from app.images import ImageLimits
from app.models.hosted import Preprocessing
from app.serving.decoding.stage import DecodeStage

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def decoders() -> AsyncIterator[DecodeStage]:
    decoders = DecodeStage(Preprocessing(8, 8, "bilinear", (0, 0, 0), (1, 1, 1)), ImageLimits(10_000, 10_000))
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
async def test_images_lie_in_one_tensor_in_the_order_they_were_sent(decoders: DecodeStage, n: int) -> None:
    images = noise(n)
    pixels = await decoders([png(image) for image in images])
    assert pixels.is_contiguous()
    assert np.array_equal(pixels.numpy(), images)
    assert pixels.untyped_storage().nbytes() == n * decoders.image_bytes


async def test_the_first_bad_image_is_named_whichever_thread_meets_it(decoders: DecodeStage) -> None:
    files = [png(image) for image in noise(30)]
    for i in (7, 8, 9, 20):
        files[i] = b"no image"
    with pytest.raises(ImageError) as caught:
        await decoders(files)
    assert caught.value.image == 7


async def test_unforeseen_errors_of_decoding_are_raised(decoders: DecodeStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.serving.decoding.stage, "decode", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await decoders([b"a", b"b"])


async def test_image_cancelled_before_its_turn_is_never_decoded(
    decoders: DecodeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, begun = threading.Event(), []

    def slow(data: bytes, *_: object) -> NDArray[np.uint8]:
        begun.append(data)
        gate.wait(10)
        return IMAGE

    monkeypatch.setattr(app.serving.decoding.stage, "decode", slow)
    monkeypatch.setattr(decoders, "_threads", 1)
    running = [asyncio.ensure_future(decoders([b"first"])) for _ in range(decoders._pool._max_workers)]
    gone = asyncio.ensure_future(decoders([b"gone"]))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    gate.set()
    await asyncio.gather(*running)
    assert set(begun) == {b"first"}


async def test_a_single_tiny_image_is_decoded_where_it_is(
    decoders: DecodeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [image.numpy() for image in await decoders([png(image) for image in noise(3)])]
    decoders._pool.shutdown()
    for image, one in zip(noise(3), expected, strict=True):
        pixels = await decoders([png(image)])
        assert pixels.untyped_storage().nbytes() == decoders.image_bytes
        assert np.array_equal(pixels[0].numpy(), one)
    with pytest.raises(ImageError) as caught:
        await decoders([png(noise(1)[0])[:-30]])
    assert caught.value.image == 0


async def test_a_large_image_goes_to_a_thread(decoders: DecodeStage) -> None:
    large = png(np.zeros((90, 90, 3), np.uint8))
    assert np.array_equal((await decoders([large]))[0].numpy(), IMAGE)
    decoders._pool.shutdown()
    with pytest.raises(RuntimeError):
        await decoders([large])


async def test_a_closed_pool_refuses(decoders: DecodeStage) -> None:
    decoders.close()
    with pytest.raises(EngineClosedError):
        await decoders([png(noise(1)[0])])


async def test_closing_refuses_what_has_not_begun(decoders: DecodeStage, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    def slow(*_: object) -> NDArray[np.uint8]:
        gate.wait(10)
        return IMAGE

    monkeypatch.setattr(app.serving.decoding.stage, "decode", slow)
    running = [asyncio.ensure_future(decoders([b"x"])) for _ in range(decoders._pool._max_workers)]
    waiting = asyncio.ensure_future(decoders([b"x"]))
    await asyncio.sleep(0)
    threading.Timer(0.05, gate.set).start()
    decoders.close()
    await asyncio.gather(*running)
    with pytest.raises(EngineClosedError):
        await waiting


def tiff(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "TIFF")
    return buffer.getvalue()


async def test_costly_images_lie_among_cheap_ones_in_the_order_they_were_sent(decoders: DecodeStage) -> None:
    images = noise(9)
    files = [tiff(image) if i % 3 else png(image) for i, image in enumerate(images)]
    assert np.array_equal((await decoders(files)).numpy(), images)


@pytest.mark.parametrize("cheap_first", [True, False])
async def test_the_first_bad_image_is_named_whoever_decodes_it(decoders: DecodeStage, cheap_first: bool) -> None:
    files = [png(noise(1)[0]) for _ in range(8)]
    files[3], files[6] = (b"no image", tiff(noise(1)[0])[:90]) if cheap_first else (tiff(noise(1)[0])[:90], b"no image")
    with pytest.raises(ImageError) as caught:
        await decoders(files)
    assert caught.value.image == 3


async def test_more_pixels_than_a_thread_takes_go_to_a_process_and_too_many_are_refused(
    decoders: DecodeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "_cheap", ImageLimits(10_000, 50))
    image = noise(1)[0]
    assert np.array_equal((await decoders([png(image)])).numpy()[0], image)
    assert len(decoders._processes._idle) == 1
    with pytest.raises(TooLargeError, match="at most 10000 are accepted"):
        await decoders([png(np.zeros((101, 100, 3), np.uint8))])


async def test_threads_that_hang_are_no_progress(decoders: DecodeStage, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, inside = threading.Event(), threading.Barrier(decoders._threads + 1)

    def hang(*_: object) -> NDArray[np.uint8]:
        inside.wait(10)
        gate.wait(10)
        return IMAGE

    monkeypatch.setattr(app.serving.decoding.stage, "decode", hang)
    monkeypatch.setattr(app.serving.decoding.stage, "STUCK_S", 0.0)
    work = asyncio.ensure_future(decoders([b"x"] * decoders._threads))
    await asyncio.to_thread(inside.wait, 10)
    assert not await decoders.check()
    gate.set()
    await work
    monkeypatch.setattr(app.serving.decoding.stage, "STUCK_S", 1e9)
    assert await decoders.check()


async def test_cancelled_caller_keeps_no_thread_beyond_the_current_image(
    decoders: DecodeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, inside, begun = threading.Event(), threading.Event(), []

    def slow(data: bytes, *_: object) -> NDArray[np.uint8]:
        begun.append(data)
        inside.set()
        gate.wait(10)
        return IMAGE

    monkeypatch.setattr(app.serving.decoding.stage, "decode", slow)
    monkeypatch.setattr(decoders, "_threads", 1)
    gone = asyncio.ensure_future(decoders([b"first", b"second"]))
    await asyncio.to_thread(inside.wait, 10)
    gone.cancel()
    await asyncio.wait([gone])
    gate.set()
    await asyncio.to_thread(decoders._pool.shutdown)
    assert begun == [b"first"]
