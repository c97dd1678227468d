"""An engine that answers at once and remembers what it was asked, and a client that talks to the doors in process."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
import torch
from fastapi import FastAPI

from adapters import UnknownStrategyError
from app.engine import Engine
from app.errors import StreamNotFoundError
from app.main import create_app
from app.models.hosted import Hosted, Preprocessing
from app.observability.meter import Meter
from app.observability.statistics import EngineCounters
from app.resources.memory import MemoryUse
from app.server_state import state_of
from app.serving.outputs import read_outputs
from app.settings import Settings
from app.types import (
    Call,
    EngineProcess,
    ModelInfo,
    Prediction,
    SiteInfo,
    StreamExplanation,
    StreamInfo,
    StreamsInfo,
    Timing,
)

CLASSES = ["ant", "bee", "cow", "dog", "emu", "fox", "gnu"]
PROBABILITIES = [0.05, 0.1, 0.4, 0.2, 0.15, 0.06, 0.04]

STATE = StreamInfo(
    stream="camera-7",
    strategy="adabn",
    params={"momentum": 0.1},
    steps=3,
    images=9,
    bytes=512,
    drift=0.5,
    adaptation=0.25,
    entropy=0.25,
    age_s=1.5,
)

EXPLANATION = StreamExplanation(
    words="The next image is normalized with statistics of the training data (40 %) and of this stream (60 %).",
    request=0.0,
    memory=0.6,
    trained=0.4,
    averaged_images=9.0,
    independent_images=1.0,
    changed_layers=0.0,
    change_alarm=False,
    is_mixture=False,
    images=None,
    independence=None,
    persistence=None,
    diversity=None,
    is_corrected=False,
    corrector=None,
)


@dataclass
class FakeEngine:
    """The engine's surface. ``failure`` is raised by whatever is called; ``calls`` are those that `predict` saw."""

    settings: Settings
    failure: Exception | None = None
    ready: bool = True
    drift: float = 0.5
    probabilities: list[float] = field(default_factory=lambda: list(PROBABILITIES))
    calls: list[Call] = field(default_factory=list)
    resets: list[tuple[str | None, str | None]] = field(default_factory=list)
    deadlines: list[float] = field(default_factory=list)
    closed: int = 0
    living: bool = True
    reason: str = "the model thread has ended"
    counts: EngineCounters = field(default_factory=EngineCounters)
    metrics: Meter = field(default_factory=Meter)
    hosted: Hosted = field(
        default_factory=lambda: Hosted(
            name="fake-net",
            network=torch.nn.Identity(),
            classes=CLASSES,
            preprocessing=Preprocessing(32, 32, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
            architecture="Identity",
            card="",
        )
    )

    async def predict(self, call: Call) -> Prediction:
        self.calls.append(call)
        self._fail()
        logits = torch.tensor([self.probabilities] * len(call.images)).log()
        (output,) = read_outputs([logits], [min(call.top_k, len(self.probabilities))])
        return Prediction(
            **output._asdict(),
            strategy=call.strategy or "adabn",
            params=dict(call.params),
            step=len(self.calls),
            updated=call.update,
            drift=self.drift,
            adaptation=0.25,
            timing=Timing(1.0, 0.5, 2.0, 3.5),
            state_origin="live" if call.update else "new",
            explanation=EXPLANATION if call.explain else None,
        )

    async def reset(self, stream: str | None = None, strategy: str | None = None) -> int:
        self._fail()
        if strategy == "unheard-of":
            raise UnknownStrategyError("unknown strategy 'unheard-of': choose one of auto, source, bn")
        self.resets.append((stream, strategy))
        return 2

    async def streams(self) -> StreamsInfo:
        self._fail()
        return StreamsInfo([STATE], bytes=512, capacity_bytes=1000, evictions=1)

    async def stream(self, name: str) -> list[StreamInfo]:
        self._fail()
        if name != STATE.stream:
            raise StreamNotFoundError(f"stream '{name}' has no state", hint="it begins with its first request")
        return [STATE]

    async def explanations(self, limit: int) -> list[tuple[str, StreamExplanation]]:
        self._fail()
        return [("adabn", EXPLANATION)][:limit]

    async def memory(self) -> list[MemoryUse]:
        self._fail()
        return [MemoryUse("decoded", 10, 100), MemoryUse("decoding", 0, 50), MemoryUse("lessons", 5, 60)]

    def describe(self) -> ModelInfo:
        self._fail()
        return ModelInfo(
            name="fake-net",
            architecture="Identity",
            parameters=7,
            classes=CLASSES,
            preprocessing={"size": 32, "mean": (0.5, 0.5, 0.5)},
            sites=[SiteInfo("bn1", "BatchNorm2d", 16)],
            channels=16,
            state_bytes={"source": 0, "adabn": 132},
            device="cpu",
            dtype="float32",
            default_strategy="adabn",
            card="",
            drift_baseline="measured",
        )

    async def ping(self, deadline_s: float) -> bool:
        self._fail()
        self.deadlines.append(deadline_s)
        return self.ready

    @property
    def outage(self) -> str:
        return "" if self.living else self.reason

    @property
    def alive(self) -> bool:
        return not self.outage

    @property
    def processes(self) -> list[EngineProcess]:
        return [EngineProcess(0, os.getpid(), 1), EngineProcess(1, os.getpid(), 2)]

    def statistics(self) -> EngineCounters:
        self._fail()
        return self.counts

    async def snapshot(self) -> dict[str, Any]:
        return {"format": 3, "sites": [], "streams": []}

    async def close(self, patience_s: float | None = None) -> None:
        self.closed += 1

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


class Client:
    """Requests against an application in this process; each opens and closes the application's lifespan."""

    def __init__(self, started: bool = True, **settings: Any) -> None:
        self.settings = Settings(**settings)
        self.engine = FakeEngine(self.settings)
        self.started = started

        async def open_engine(_: Settings, metrics: Meter) -> Engine:
            self.engine.metrics = metrics
            return cast(Engine, self.engine)

        self.app: FastAPI = create_app(self.settings, open_engine)
        self.state = state_of(self.app)

    def request(self, method: str, url: str, **said: Any) -> httpx.Response:
        async def exchange() -> httpx.Response:
            if not self.started:
                return await self._send(method, url, **said)
            async with self.app.router.lifespan_context(self.app):
                return await self._send(method, url, **said)

        return asyncio.run(exchange())

    def get(self, url: str, **said: Any) -> httpx.Response:
        return self.request("GET", url, **said)

    def post(self, url: str, **said: Any) -> httpx.Response:
        return self.request("POST", url, **said)

    def predict(self, content: bytes, kind: str | None = "image/png", query: str = "") -> httpx.Response:
        headers = {} if kind is None else {"Content-Type": kind}
        return self.post(f"/v1/predict{query}", content=content, headers=headers)

    async def _send(self, method: str, url: str, **said: Any) -> httpx.Response:
        # A failing application answers 500 to its clients and raises to its server: here only the answer matters.
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
            return await client.request(method, url, **said)


def refusal(response: httpx.Response, status: int, code: str, location: str | None = None) -> str:
    """Check that a response is an error of the one shape; its message."""
    said = response.json()
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert said["code"] == code, said
    assert said.get("where") == location, said
    assert set(said) == {"error", "code"} | ({"where"} if location is not None else set())
    assert isinstance(said["error"], str)
    assert said["error"]
    return str(said["error"])
