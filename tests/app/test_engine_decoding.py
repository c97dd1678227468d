"""A request whose image does not end keeps nobody else, and nothing of it is left behind when it is called off."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import app.serving.decoding.pool
from app.engine import Engine
from app.errors import DeadlineError, EngineClosedError, TooExpensiveError
from app.types import Call
from tests.app.small import png, small_engine, until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("core_kind")]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def tiff() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(buffer, "TIFF")
    return buffer.getvalue()


@pytest.fixture
async def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Engine]:
    """One whose decoder processes say through a named pipe that they have begun, and then hang."""
    os.mkfifo(tmp_path / "begun")
    program = f"""
import pathlib, signal
from app.images import worker
def hang(*_):
    pathlib.Path({str(tmp_path / "begun")!r}).write_bytes(b"x")
    signal.pause()
worker.main(hang)
"""
    monkeypatch.setattr(app.serving.decoding.pool, "SERVE", program)
    engine = small_engine()
    yield engine
    await engine.close()


async def begun(tmp_path: Path) -> None:
    await asyncio.to_thread((tmp_path / "begun").read_bytes)


async def test_others_are_answered_while_every_decoder_hangs(engine: Engine, tmp_path: Path) -> None:
    stuck = [asyncio.ensure_future(engine.predict(Call([tiff()], "slow"))) for _ in range(8)]
    await begun(tmp_path)
    assert (await engine.predict(Call([png(1), png(2)], "fast"))).step == 1
    assert await engine.ping(60)
    for task in stuck:
        task.cancel()
    await asyncio.wait(stuck)
    assert all(task.cancelled() for task in stuck)
    assert [info.stream for info in (await engine.streams()).streams] == ["fast"]


async def test_a_requests_own_time_limit_ends_its_decoder(engine: Engine) -> None:
    with pytest.raises(DeadlineError):
        await engine.predict(Call([tiff()], timeout_s=0.2))
    assert not engine._decode_stage._processes._idle


async def test_closing_does_not_wait_for_decoders(engine: Engine, tmp_path: Path) -> None:
    stuck = asyncio.ensure_future(engine.predict(Call([tiff()])))
    await begun(tmp_path)
    await engine.close()
    with pytest.raises(EngineClosedError):
        await stuck


async def test_an_image_that_takes_too_long_is_refused_and_moves_no_state(engine: Engine) -> None:
    engine._decode_stage._processes._seconds = 0.05
    for images in ([tiff()], [png(1), tiff()]):
        with pytest.raises(TooExpensiveError) as caught:
            await engine.predict(Call(images))
        assert caught.value.image == len(images) - 1
    assert (await engine.streams()).streams == []


@pytest.mark.parametrize("streams", [1, 20], ids=["one_stream", "many_streams"])
async def test_images_that_take_long_do_not_hold_all_memory_for_decoded_ones(engine: Engine, streams: int) -> None:
    engine._budget.capacity = 16 * engine._decode_stage.image_bytes
    slow = [Call([tiff()], f"slow-{i % streams}", client="slow") for i in range(20)]
    stuck = [asyncio.ensure_future(engine.predict(call)) for call in slow]
    await asyncio.sleep(0)
    assert (await asyncio.wait_for(engine.predict(Call([png(1)], "fast", client="fast")), 10)).step == 1
    if streams == 1:
        assert (await asyncio.wait_for(engine.predict(Call([png(1)], "own", client="slow")), 10)).step == 1
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)
    await until(lambda: (engine._budget.lent, len(engine._budget)) == (0, 0))
