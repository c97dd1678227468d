"""Decoder processes: the same pixels, and an end to whatever takes too long, on whoever's word."""

from __future__ import annotations

import asyncio
import io
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import app.serving.decoding.pool
from app.errors import EngineClosedError, ImageError, TooExpensiveError, TooLargeError
from app.images import ImageLimits, decode
from app.models.hosted import Preprocessing
from app.serving.decoding.pool import DecoderPool
from app.serving.decoding.process import SERVE

pytestmark = pytest.mark.anyio

HOW = Preprocessing(8, 8, "bilinear", (0, 0, 0), (1, 1, 1))
LIMITS = ImageLimits(100_000, 10_000)

HANGS = """
import pathlib, signal
from app.images import worker
def hang(data, *_):
    pathlib.Path(data.decode()).write_bytes(b"begun")
    signal.pause()
worker.main(hang)
"""
SPINS = """
from app.images import worker
def spin(*_):
    while True: pass
worker.main(spin)
"""
ENDS = "import os, sys; from app.images import worker; worker.main(lambda *_: os._exit(7))"
CRASHES = (
    "import os, signal; from app.images import worker; worker.main(lambda *_: os.kill(os.getpid(), signal.SIGTERM))"
)
PRINTS = """
import os
from app.images import worker
def prints(*arguments):
    os.write(2, b"a library's own line\\n"); os.write(1, b"another\\n")
    return worker.decode(*arguments)
worker.main(prints)
"""
TELLS = """
import os
from app.errors import ImageError
from app.images import worker
def tell(*_): raise ImageError(str(os.environ.get("RENORM_ADMIN_KEY")))
worker.main(tell)
"""
STARVES = """
from app.images import worker
def starve(*_): raise MemoryError
worker.main(starve)
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


Make = Callable[..., DecoderPool]


@pytest.fixture
def make() -> Iterator[Make]:
    pools: list[DecoderPool] = []

    def made(program: str | None = None, seconds: float = 60.0) -> DecoderPool:
        pools.append(DecoderPool(HOW, LIMITS, seconds, program or ""))
        return pools[-1]

    yield made
    for pool in pools:
        pool.close()


def tiff() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "TIFF", compression="tiff_lzw")
    return buffer.getvalue()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_process_gives_what_a_thread_gives_and_serves_again(make: Make) -> None:
    pool = make()
    for _ in range(3):
        assert np.array_equal(await pool.decode(tiff()), decode(tiff(), HOW, LIMITS))
    assert len(pool._idle) == 1


async def test_refusals_come_through_with_their_hint_and_the_process_goes_on(make: Make) -> None:
    pool = make()
    large = io.BytesIO()
    Image.new("L", (200, 200)).save(large, "TIFF")
    for data, error in ((b"no image", ImageError), (large.getvalue(), TooLargeError), (tiff()[:300], ImageError)):
        with pytest.raises(error) as caught:
            await pool.decode(data)
        assert caught.value.hint
    assert len(pool._idle) == 1


async def begun(pipe: Path) -> None:
    """Wait until the decoder that is to hang has opened this end of a named pipe."""
    await asyncio.to_thread(pipe.read_bytes)


async def test_cancelled_caller_ends_the_process(make: Make, tmp_path: Path) -> None:
    pool = make(HANGS)
    os.mkfifo(tmp_path / "begun")
    task = asyncio.ensure_future(pool.decode(str(tmp_path / "begun").encode()))
    await begun(tmp_path / "begun")
    (job,) = pool._jobs
    process = job._process
    assert process is not None
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    process.close()  # waits for its end
    assert not alive(process.pid)
    assert pool.memory.lent == 0


async def test_closing_ends_the_process_and_answers_who_waits(make: Make, tmp_path: Path) -> None:
    pool = make(HANGS)
    os.mkfifo(tmp_path / "0")
    tasks = [asyncio.ensure_future(pool.decode(str(tmp_path / f"{i}").encode())) for i in range(pool.count + 1)]
    await begun(tmp_path / "0")
    pool.close()
    for task in tasks:
        with pytest.raises(EngineClosedError):
            await task
    with pytest.raises(EngineClosedError):
        await pool.decode(tiff())


@pytest.mark.parametrize("program", [SPINS, HANGS], ids=["by its CPU time", "by the clock"])
async def test_an_image_that_takes_too_long_is_refused_and_the_pool_goes_on(
    make: Make, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make(program, seconds=0.05)
    with pytest.raises(TooExpensiveError) as caught:
        await pool.decode(str(tmp_path / "begun").encode())
    assert "RENORM_MAX_DECODE_SECONDS" in caught.value.hint
    assert not pool._idle
    monkeypatch.setattr(pool, "_program", make()._program)
    monkeypatch.setattr(pool, "_seconds", 60.0)
    assert (await pool.decode(tiff())).shape == (8, 8, 3)
    assert await pool.check()


SLOW = f"import time; time.sleep(0.5); {SERVE.replace('{pixels}', '1000')}"


async def test_the_start_of_a_process_does_not_count(make: Make) -> None:
    assert (await make(SLOW, seconds=0.1).decode(tiff())).shape == (8, 8, 3)


async def test_a_process_that_does_not_start_is_not_the_images_fault(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.serving.decoding.pool, "START_S", 0.01)
    pool = make("import time; time.sleep(60)")
    with pytest.raises(EngineClosedError):
        await pool.decode(tiff())
    assert pool.is_broken


async def test_too_much_memory_is_too_expensive(make: Make) -> None:
    with pytest.raises(TooExpensiveError, match="memory"):
        await make(STARVES).decode(tiff())


async def test_a_decoder_that_crashes_on_an_image_is_that_images_fault(make: Make) -> None:
    pool = make(CRASHES)
    with pytest.raises(ImageError, match="crashed"):
        await pool.decode(tiff())
    assert await pool.check()


async def test_a_decoder_that_cannot_start_makes_the_pool_not_ready_until_it_can(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make(ENDS)
    assert await pool.check()
    with pytest.raises(EngineClosedError):
        await pool.decode(tiff())
    assert not await pool.check()
    monkeypatch.setattr(pool, "_program", make()._program)
    assert await pool.check()


async def test_output_of_libraries_goes_to_the_log(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "renorm.decoder")
    pool = make(PRINTS)
    assert (await pool.decode(tiff())).shape == (8, 8, 3)
    (process,) = pool._idle
    process.kill()
    process.close()
    process.lines.join()
    lines = [record.getMessage() for record in caplog.records if record.name == "renorm.decoder"]
    assert lines == ["a library's own line", "another"]


async def test_a_process_sees_none_of_the_servers_settings(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENORM_ADMIN_KEY", "a-long-secret")
    with pytest.raises(ImageError, match="None"):
        await make(TELLS).decode(tiff())
