"""The entries of the queue, requests and resets, and the results of requests."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from torch import Tensor

from adapters import Key, Lesson
from app.serving.outputs import Output
from app.serving.shares import Flow
from app.serving.streams import ResetScope
from app.types import Origin, StreamExplanation


@dataclass(eq=False)
class Ticket:
    """A request's place in the queue, taken when it arrives and filled when its images are decoded.

    ``start`` resets the stream before the request, ``end`` after it. ``clock`` is stopped when the forward starts.
    ``explain`` asks for the explanation of the stream after the answer.
    ``count`` is the number of images, ``epoch`` is set by the queue.
    """

    key: Key
    update: bool
    top_k: int = 1
    start: bool = False
    end: bool = False
    client: str = ""
    count: int = 1
    epoch: int = 0
    clock: asyncio.Timeout | None = None
    explain: bool = False
    images: Tensor | None = None
    arrived: float = field(default_factory=time.perf_counter)
    ready: float = 0.0
    started: float = 0.0
    finished: float = 0.0
    answer: asyncio.Future[ForwardResult] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def flow(self) -> Flow:
        """The stream and client whose turn it takes."""
        return Flow(self.key.stream, self.client, self.epoch)

    @property
    def has_lesson(self) -> bool:
        """True if its stream learns from it after the answer."""
        return self.update and not self.end and self.key.strategy.learner is not None

    def start_forward(self, timestamp: float) -> None:
        """Mark the forward as started: the timeout no longer runs, and the step can no longer be cancelled."""
        self.started = timestamp
        if self.clock is not None:
            self.clock.reschedule(None)

    @property
    def is_started(self) -> bool:
        """True once its forward has started, so that its step can no longer be cancelled."""
        return self.started > 0


@dataclass(eq=False)
class Barrier:
    """A reset's place in the queue: after all earlier requests and ahead of all later ones."""

    scope: ResetScope
    answer: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(frozen=True, eq=False)
class ForwardResult:
    """The result of a forward for one request."""

    output: Output
    drift: float
    adaptation: float
    step: int
    updated: bool
    outliers: int = 0
    weight: float = 1.0
    commit_ms: float = 0.0
    state_origin: Origin = "live"
    explanation: StreamExplanation | None = None  # where the request asks for it
    lesson: Lesson | None = None  # the pending lesson from the request
