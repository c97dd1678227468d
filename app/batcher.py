"""Waiting requests into one forward, in arrival order within a stream, each settled alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from torch import Tensor

from adapters import Key
from app.errors import EngineClosedError
from app.outputs import Output
from app.streams import Scope


@dataclass(eq=False)
class Ticket:
    """A request's place in the queue, taken when it arrives and filled when its images are decoded."""

    key: Key
    update: bool
    top_k: int = 1
    images: Tensor | None = None
    arrived: float = field(default_factory=time.perf_counter)
    ready: float = 0.0
    started: float = 0.0
    finished: float = 0.0
    answer: asyncio.Future[Result] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(eq=False)
class Barrier:
    """A reset's place in the queue: after the requests that came before it, ahead of those that came later."""

    scope: Scope
    answer: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(frozen=True, eq=False)
class Result:
    """What a forward gives one request."""

    output: Output
    drift: float
    step: int
    updated: bool


class Batcher:
    """Send what waits into the next forward as soon as none is running.

    Used by the event loop's thread alone; ``forward`` takes a group of tickets, does its work elsewhere and returns a
    result or an exception for each. A stream's requests never overtake each other, whichever is decoded first.
    """

    def __init__(
        self,
        forward: Callable[[list[Ticket]], Awaitable[list[Result | Exception]]],
        forget: Callable[[Scope], int],
        max_images: int,
    ) -> None:
        self._forward, self._forget, self._max_images = forward, forget, max_images
        # A dict for its order and for removal anywhere in constant time.
        self._queue: dict[Ticket | Barrier, None] = {}
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        """How many requests and resets wait."""
        return len(self._queue)

    def enter(self, key: Key, *, update: bool, top_k: int = 1) -> Ticket:
        """Take the next place in the queue.

        Raises:
            EngineClosedError: the batcher is closed.
        """
        self._check_open()
        ticket = Ticket(key, update, top_k)
        self._queue[ticket] = None
        return ticket

    async def run(self, ticket: Ticket, images: Tensor) -> Result:
        """Fill the ticket's place and wait for its result."""
        ticket.images, ticket.ready = images, time.perf_counter()
        self._dispatch()
        return await ticket.answer

    def leave(self, place: Ticket | Barrier) -> None:
        """Give a place back, if it is still taken: nothing is done for it, and those behind it move up."""
        if place in self._queue:
            del self._queue[place]
            self._dispatch()

    async def reset(self, scope: Scope) -> int:
        """Forget the states that ``scope`` covers, after what came before and ahead of what comes later."""
        self._check_open()
        barrier = Barrier(scope)
        self._queue[barrier] = None
        self._dispatch()
        try:
            return await barrier.answer
        finally:
            self.leave(barrier)

    async def close(self) -> None:
        """Let the running forward finish, and refuse what waits."""
        self._closed = True
        for waiting in list(self._queue):
            if not waiting.answer.done():
                waiting.answer.set_exception(_closed())
            # Marked as seen: a ticket whose images are still being decoded has nobody awaiting it yet.
            waiting.answer.exception()
        self._queue.clear()
        if self._running is not None:
            await self._running

    def _check_open(self) -> None:
        if self._closed:
            raise _closed()

    def _dispatch(self) -> None:
        if self._running is not None:
            return
        group = self._collect()
        if group:
            self._running = asyncio.get_running_loop().create_task(self._run(group))

    def _collect(self) -> list[Ticket]:
        """Take the next group out of the queue, applying the resets whose turn has come."""
        group: list[Ticket] = []
        waiting: set[Key] = set()
        barriers: list[Scope] = []
        images = 0
        for place in list(self._queue):
            if isinstance(place, Barrier):
                if any(place.scope.covers(key) for key in (*waiting, *(ticket.key for ticket in group))):
                    barriers.append(place.scope)
                else:
                    self._apply(place)
                continue
            size = 0 if place.images is None else len(place.images)
            full = bool(group) and images + size > self._max_images
            behind = place.key in waiting or any(scope.covers(place.key) for scope in barriers)
            if place.images is None or full or behind:
                waiting.add(place.key)
                continue
            del self._queue[place]
            group.append(place)
            images += size
        return group

    def _apply(self, barrier: Barrier) -> None:
        del self._queue[barrier]
        if not barrier.answer.done():
            barrier.answer.set_result(self._forget(barrier.scope))

    async def _run(self, group: list[Ticket]) -> None:
        started = time.perf_counter()
        for ticket in group:
            ticket.started = started
        try:
            results: list[Result | Exception] = await self._forward(group)
        except BaseException as error:
            # Even an exit called for on the model thread must leave nobody waiting.
            results = [error if isinstance(error, Exception) else _closed()] * len(group)
        finished = time.perf_counter()
        self._running = None
        # Before anybody is answered: the next forward runs while these answers are written.
        if not self._closed:
            self._dispatch()
        for ticket, result in zip(group, results, strict=True):
            ticket.finished = finished
            # A caller may have gone: each future is settled on its own.
            if ticket.answer.done():
                continue
            if isinstance(result, Exception):
                ticket.answer.set_exception(result)
            else:
                ticket.answer.set_result(result)


def _closed() -> EngineClosedError:
    return EngineClosedError("the engine is closed", hint="wait until the server is ready again and repeat the request")
