"""Waiting requests into one forward, in arrival order within a stream, in fair turns of streams, each settled alone."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable, Mapping

from torch import Tensor

from adapters import Key, Lesson
from app.errors import EngineClosedError
from app.serving.batch_builder import BatchBuilder, Room
from app.serving.pace import Pace
from app.serving.places import Places, QueueLimits
from app.serving.shares import Shares
from app.serving.streams import ResetScope
from app.serving.tickets import Barrier, Result, Ticket


class Batcher:
    """Send what waits into the next forward as soon as none is running.

    Used by the event loop's thread alone; ``forward`` takes a group of tickets, does its work elsewhere and returns a
    result or an exception for each. A stream's requests never overtake each other, whichever is decoded first.
    """

    def __init__(
        self,
        forward: Callable[[list[Ticket]], Awaitable[list[Result | Exception]]],
        forget: Callable[[ResetScope], int],
        limits: QueueLimits,
        learn: Callable[[Mapping[Key, Lesson]], Awaitable[None]] | None = None,
    ) -> None:
        self._forward, self._forget, self._limits, self._learn = forward, forget, limits, learn
        self._lessons: dict[Key, Lesson] = {}
        self._taught = True  # whether the model's last work was a lesson, or there is none to alternate with
        # A dict for its order and for removal anywhere in constant time.
        self._queue: dict[Ticket | Barrier, None] = {}
        self._pace, self._shares = Pace(), Shares()
        self._places = Places(limits, self._pace)
        self._epoch = 0  # how many resets of more than one stream came so far
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        """How many requests and resets wait."""
        return len(self._queue)

    def enter(self, ticket: Ticket) -> None:
        """Take the next place in the queue.

        Raises:
            EngineClosedError: the batcher is closed.
            StreamBusyError, BusyError: as many wait as may, of this stream, of this client or in all.
        """
        self._check_open()
        self._places.check(ticket)
        ticket.epoch = self._epoch
        self._queue[ticket] = None
        self._places.add(ticket)
        self._shares.enter(ticket.flow)

    async def run(self, ticket: Ticket, images: Tensor) -> Result:
        """Fill the ticket's place and wait for its result."""
        ticket.images, ticket.ready = images, time.perf_counter()
        self._dispatch()
        return await ticket.answer

    def leave(self, place: Ticket | Barrier) -> None:
        """Give a place back, if it is still taken: nothing is done for it, and those behind it move up."""
        if place in self._queue:
            self._remove(place)
            self._dispatch()

    async def reset(self, scope: ResetScope) -> int:
        """Forget the states that ``scope`` covers, after what came before and ahead of what comes later."""
        self._check_open()
        barrier = Barrier(scope)
        self._queue[barrier] = None
        self._epoch += scope.stream is None
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
        for waiting in list(self._queue):
            self._remove(waiting)
        if self._running is not None:
            await self._running

    def _check_open(self) -> None:
        if self._closed:
            raise _closed()

    def _remove(self, place: Ticket | Barrier) -> None:
        del self._queue[place]
        if isinstance(place, Ticket):
            self._places.remove(place)
            self._shares.leave(place.key.stream)

    def _dispatch(self) -> None:
        if self._running is not None:
            return
        # Forwards and lessons take turns, so that neither streams that learn nor all others wait for long.
        group = self._collect() if self._taught or not self._lessons else []
        work = self._run(group) if group else self._teach() if self._lessons else None
        if work is not None:
            # In a context of its own: what is logged of a group is not of the request that happened to send it off.
            self._running = asyncio.get_running_loop().create_task(work, context=contextvars.Context())

    def _collect(self) -> list[Ticket]:
        """Take the next group out of the queue, applying the resets whose turn has come."""
        gathering = BatchBuilder(self._lessons)
        for place in list(self._queue):
            if isinstance(place, Ticket):
                gathering.add(place)
            elif gathering.clear_for(place.scope):
                self._apply(place)
        group = gathering.fill(Room(self._limits.images, self._limits.forward_s, self._pace), self._shares)
        # In this very turn of the loop: one that is chosen and has not begun could still be called off, or run out.
        started = time.perf_counter()
        for ticket in group:
            self._remove(ticket)
            ticket.begin(started)
        return group

    def _apply(self, barrier: Barrier) -> None:
        self._remove(barrier)
        if not barrier.answer.done():
            barrier.answer.set_result(self._forget(barrier.scope))

    async def _run(self, group: list[Ticket]) -> None:
        started = group[0].started
        try:
            results: list[Result | Exception] = await self._forward(group)
        except BaseException as error:
            # Even an exit called for on the model thread must leave nobody waiting.
            results = [error if isinstance(error, Exception) else _closed()] * len(group)
        finished = time.perf_counter()
        self._running, self._taught = None, False
        for ticket, result in zip(group, results, strict=True):
            if isinstance(result, Result) and result.lesson is not None:
                self._lessons[ticket.key] = result.lesson
        self._pace.add_forward(sum(ticket.count for ticket in group), finished - started)
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

    async def _teach(self) -> None:
        """The lessons that wait longest, as many as a forward takes images. Their streams' next requests come after."""
        lessons: dict[Key, Lesson] = {}
        images, started = 0, time.perf_counter()
        for key, lesson in self._lessons.items():
            images += len(lesson.images)
            if lessons and images > self._limits.images:
                break
            lessons[key] = lesson
        try:
            if self._learn is not None:
                await self._learn(lessons)
        finally:
            for key in lessons:
                del self._lessons[key]
            self._pace.add_lesson(time.perf_counter() - started)
            self._running, self._taught = None, True
            if not self._closed:
                self._dispatch()


def _closed() -> EngineClosedError:
    return EngineClosedError("the engine is closed", hint="wait until the server is ready again and repeat the request")
