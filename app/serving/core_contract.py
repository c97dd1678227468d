"""The contract between the face of an engine and its cores, in this process or in others."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from app.models.hosted import Hosted
from app.resources.memory import MemoryUse
from app.serving.shares import Flow
from app.serving.streams import ResetScope
from app.types import Call, EngineProcess, ModelInfo, Prediction, StreamExplanation, StreamInfo, StreamsInfo


class DecodedImages(NamedTuple):
    """The images of a call as a forward takes them, and the second of `time.perf_counter` when they were decoded."""

    pixels: Tensor
    ready: float


PixelSource = Callable[[Flow], AbstractAsyncContextManager[DecodedImages]]
"""Decodes the images of a call, in the turn of a stream. What it yields may be read until its block ends."""


@dataclass(frozen=True)
class CoreCall:
    """A call as a core sees it: everything but its images, of which it knows the number.

    ``arrived`` is the second of `time.perf_counter` at which it came; all processes of a machine share that clock.
    ``content`` is the `app.serving.replays.fingerprint` of a call that has a request id, and empty for others.
    """

    call: Call
    count: int
    content: bytes = b""
    arrived: float = field(default_factory=time.perf_counter)


class ServingCore(Protocol):
    """The owner of streams: see `app.serving.core.EngineCore`, which says what its methods do and raise."""

    @property
    def hosted(self) -> Hosted:
        """The hosted model; only a core in this process has its network."""

    @property
    def outage(self) -> str:
        """The reason why only a restart of the server helps, empty where none is needed."""

    @property
    def processes(self) -> list[EngineProcess]:
        """The processes that run forwards, besides this one."""

    @property
    def busy_s(self) -> float:
        """Seconds for which it has not come to its next job."""

    async def predict(self, request: CoreCall, pixels: PixelSource) -> Prediction:
        """Answer one request, whose place in the queue is that of this call."""

    async def reset(self, scope: ResetScope) -> int:
        """Drop states."""

    async def moments(self, pixels: Tensor) -> Tensor:
        """Return the moments that a baseline is made of."""

    async def streams(self) -> StreamsInfo:
        """Describe all states."""

    async def stream(self, name: str) -> list[StreamInfo]:
        """Describe the states of one stream."""

    async def explanations(self, limit: int) -> list[tuple[str, StreamExplanation]]:
        """Explain the states used last."""

    async def lesson_memory(self) -> MemoryUse:
        """Return the part of the memory budget that lessons hold."""

    async def snapshot(self) -> dict[str, Any]:
        """Return all states."""

    def describe(self) -> ModelInfo:
        """Describe the hosted model."""

    async def ping(self, deadline_s: float) -> bool:
        """Return whether it comes to a job within the deadline."""

    async def close(self, patience_s: float | None = None) -> list[str]:
        """Finish the running forward, refuse all waiting requests, and end; return the stream of each dropped state."""
