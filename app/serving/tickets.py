"""Places in the queue: of requests and of resets, and what requests get."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from torch import Tensor

from adapters import Key, Lesson
from adapters.composite import learner_of
from app.serving.outputs import Output
from app.serving.shares import Flow
from app.serving.streams import ResetScope
from app.types import Origin


@dataclass(eq=False)
class Ticket:
    """A request's place in the queue, taken when it arrives and filled when its images are decoded.

    ``start`` makes its stream new before it, ``end`` forgets it afterwards. ``clock`` stops when its forward begins.
    ``client`` is who asks, ``count`` how many images there are, ``epoch`` is set by the queue.
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
    images: Tensor | None = None
    arrived: float = field(default_factory=time.perf_counter)
    ready: float = 0.0
    started: float = 0.0
    finished: float = 0.0
    answer: asyncio.Future[Result] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def flow(self) -> Flow:
        """Whose turn it takes."""
        return Flow(self.key.stream, self.client, self.epoch)

    @property
    def learns(self) -> bool:
        """Whether its stream has something to learn from it once it is answered."""
        return self.update and not self.end and learner_of(self.key.strategy) is not None

    def begin(self, now: float) -> None:
        """It is in a forward from now on: its time no longer runs, and its step can no longer be called off."""
        self.started = now
        if self.clock is not None:
            self.clock.reschedule(None)

    @property
    def begun(self) -> bool:
        """Whether its forward has begun, so that its step can no longer be called off."""
        return self.started > 0


@dataclass(eq=False)
class Barrier:
    """A reset's place in the queue: after the requests that came before it, ahead of those that came later."""

    scope: ResetScope
    answer: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(frozen=True, eq=False)
class Result:
    """What a forward gives one request."""

    output: Output
    drift: float
    adaptation: float
    step: int
    updated: bool
    outliers: int = 0
    weight: float = 1.0
    commit_ms: float = 0.0
    state_origin: Origin = "live"
    lesson: Lesson | None = None  # what the stream has yet to learn from the request
