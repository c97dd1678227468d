"""A small network that can be held up and broken, an engine with it, and images for it."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from app.engine import Engine
from app.models.hosted import Hosted, Preprocessing
from app.observability.statistics import CountingMeter
from app.serving.core import EngineCore
from app.serving.processes.core_server import RelayMeter
from app.serving.tickets import Ticket
from app.settings import Settings
from app.types import Call, Prediction
from tests.app.linked import LinkedCore

IS_LINKED = False
"""Whether small engines have their core at the other end of a link; tests set it by the fixture ``core_kind``."""

PREPROCESSING = Preprocessing(8, 8, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class Net(nn.Module):
    """Two convolutions with BatchNorm; all-black images break it in the way ``trouble`` says."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.head = nn.Linear(8, 4)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5
        self.trouble = ""
        self.gate = threading.Event()
        self.gate.set()

    def forward(self, x: Tensor) -> Tensor:
        self.gate.wait(10)
        features = self.body(x).mean((2, 3))
        black = (x == -2).flatten(1).all(1)
        if self.trouble == "raise" and black.any():
            raise RuntimeError("a black image")
        if self.trouble == "exit" and black.any():
            raise SystemExit(3)
        logits: Tensor = self.head(features)
        return torch.where(black[:, None], torch.nan, logits) if self.trouble == "nan" else logits

    def __deepcopy__(self, memo: dict[int, object]) -> Net:
        # The engine's copy shares the switches of the test's.
        copied = Net()
        copied.__dict__.update({name: self.__dict__[name] for name in ("gate",)})
        copied.load_state_dict(self.state_dict())
        copied.trouble = self.trouble
        return copied


def png(seed: int, low: int = 0, high: int = 256) -> bytes:
    pixels = np.random.default_rng(seed).integers(low, high, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


BLACK = png(0, 0, 1)


def hosted(trouble: str = "") -> Hosted:
    network = Net()
    network.trouble = trouble
    return Hosted("net", network, ["a", "b", "c", "d"], PREPROCESSING, "Net", "")


TEMPERATURES = Path(__file__).parent.parent / "golden" / "temperatures.json"
"""A temperature of 1 for the small network, so that every strategy can be asked for by its name."""


def small_engine(trouble: str = "", **settings: Any) -> Engine:
    # What shares a forward is not to depend on how fast the machine is.
    usual = {"strategy": "adabn", "device": "cpu", "temperatures": TEMPERATURES, "max_forward_seconds": 60}
    values = Settings(**{**usual, **settings})
    meter, relay = CountingMeter(), RelayMeter()
    core = EngineCore(values, hosted(trouble), relay if IS_LINKED else meter)
    engine = Engine(values, core, meter)
    # As `Engine.open` does, with an image that makes no trouble.
    core.model.warm_up(torch.randint(1, 256, (1, 8, 8, 3), dtype=torch.uint8))
    if IS_LINKED:
        engine.core = LinkedCore(core, relay, meter, values)
    return engine


def core_of(engine: Engine) -> EngineCore:
    """The core of an engine, in this process or at the other end of a link."""
    core = engine.core.inner if isinstance(engine.core, LinkedCore) else engine.core
    assert isinstance(core, EngineCore)
    return core


def same(a: Prediction, b: Prediction) -> bool:
    close = torch.allclose(a.probabilities, b.probabilities, rtol=0, atol=1e-5)
    return close and (a.step, a.updated) == (b.step, b.updated) and abs(a.drift - b.drift) < 1e-4


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that comes by itself."""
    for _ in range(10_000):
        if holds():
            return
        await asyncio.sleep(0.001)
    pytest.fail("it did not come")


async def burst(engine: Engine, calls: list[Call]) -> list[Prediction | BaseException]:
    """All calls at once behind a forward that is kept running until they wait together."""
    network = engine.hosted.network
    assert isinstance(network, Net)
    batcher = core_of(engine).batcher
    await until(lambda: not (batcher._running or batcher._lessons))  # lessons of what came before
    network.gate.clear()
    first = asyncio.ensure_future(engine.predict(Call([png(99)], "first")))
    await until(lambda: batcher._running is not None)  # else some of the calls would share its forward
    tasks = [asyncio.ensure_future(engine.predict(call)) for call in calls]
    for _ in range(1000):
        waiting = [place for place in batcher._queue if isinstance(place, Ticket) and place.images is not None]
        if len(waiting) == len(calls):
            break
        await asyncio.sleep(0.01)
    network.gate.set()
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)
