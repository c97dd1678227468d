"""Batch waiting requests into forwards: in arrival order within a stream, in fair turns between streams."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable, Mapping

from torch import Tensor

from adapters import Key, Lesson
from app.errors import unavailable_error
from app.serving.batch_builder import BatchBuilder, Room
from app.serving.pace import Pace
from app.serving.places import Places, QueueLimits
from app.serving.shares import Shares
from app.serving.streams import ResetScope
from app.serving.tickets import Barrier, ForwardResult, Ticket


class Batcher:
    """A queue of requests that starts the next forward as soon as none is running.

    Used by the event loop's thread alone; ``forward`` takes a group of tickets, works in another thread and returns a
    result or an exception for each. Requests of a stream never overtake each other, whichever is decoded first.
    """

    def __init__(
        self,
        forward: Callable[[list[Ticket]], Awaitable[list[ForwardResult | Exception]]],
        forget: Callable[[ResetScope], int],
        limits: QueueLimits,
        learn: Callable[[Mapping[Key, Lesson]], Awaitable[None]] | None = None,
    ) -> None:
        self._forward, self._forget, self._limits, self._learn = forward, forget, limits, learn
        self._lessons: dict[Key, Lesson] = {}
        self._was_lesson = True  # whether the model's last job was a lesson, or there was none to alternate with
        # A dict for its order and its removal in constant time.
        self._queue: dict[Ticket | Barrier, None] = {}
        self._pace, self._shares = Pace(), Shares()
        self._places = Places(limits, self._pace)
        self._epoch = 0  # resets of more than one stream so far
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        """The number of waiting requests and resets."""
        return len(self._queue)

    def enter(self, ticket: Ticket) -> None:
        """Take the next place in the queue.

        Raises:
            EngineClosedError: the batcher is closed.
            StreamBusyError, BusyError: the queue is full: of this stream, for this client or in all.
        """
        self._check_open()
        self._places.check(ticket)
        ticket.epoch = self._epoch
        self._queue[ticket] = None
        self._places.add(ticket)
        self._shares.enter(ticket.flow)

    async def run(self, ticket: Ticket, images: Tensor, ready: float | None = None) -> ForwardResult:
        """Hand over the images of a ticket, which were decoded now or when ``ready`` says, and wait for its result."""
        ticket.images, ticket.ready = images, time.perf_counter() if ready is None else ready
        self._dispatch()
        return await ticket.answer

    def leave(self, place: Ticket | Barrier) -> None:
        """Remove a ticket or reset that is still in the queue; those behind it move up."""
        if place in self._queue:
            self._remove(place)
            self._dispatch()

    async def reset(self, scope: ResetScope) -> int:
        """Drop the states that ``scope`` covers, after all earlier requests and before all later ones."""
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
        """Wait for the running forward to finish, and refuse all waiting requests."""
        self._closed = True
        for place in list(self._queue):
            if not place.answer.done():
                place.answer.set_exception(unavailable_error())
            # Retrieved here: no caller awaits a ticket whose images are still being decoded.
            place.answer.exception()
        for place in list(self._queue):
            self._remove(place)
        if self._running is not None:
            await self._running

    def _check_open(self) -> None:
        if self._closed:
            raise unavailable_error()

    def _remove(self, place: Ticket | Barrier) -> None:
        del self._queue[place]
        if isinstance(place, Ticket):
            self._places.remove(place)
            self._shares.leave(place.key.stream)

    def _dispatch(self) -> None:
        if self._running is not None:
            return
        # Forwards and lessons alternate, so that neither learning streams nor all others wait for long.
        group = self._collect() if self._was_lesson or not self._lessons else []
        work = self._run(group) if group else self._teach() if self._lessons else None
        if work is not None:
            # In an empty context: log lines of a group do not belong to the request that happened to start it.
            self._running = asyncio.get_running_loop().create_task(work, context=contextvars.Context())

    def _collect(self) -> list[Ticket]:
        """Take the next group out of the queue, and apply the resets whose turn has come."""
        builder = BatchBuilder(self._lessons)
        for place in list(self._queue):
            if isinstance(place, Ticket):
                builder.add(place)
            elif builder.try_reset(place.scope):
                self._apply(place)
        group = builder.fill(Room(self._limits.images, self._limits.forward_s, self._pace), self._shares)
        # In this very turn of the loop: a chosen ticket that has not started could still be cancelled or time out.
        started = time.perf_counter()
        for ticket in group:
            self._remove(ticket)
            ticket.start_forward(started)
        return group

    def _apply(self, barrier: Barrier) -> None:
        self._remove(barrier)
        if not barrier.answer.done():
            barrier.answer.set_result(self._forget(barrier.scope))

    async def _run(self, group: list[Ticket]) -> None:
        started = group[0].started
        try:
            results: list[ForwardResult | Exception] = await self._forward(group)
        except BaseException as error:
            # Even SystemExit on the model thread must leave no caller waiting.
            results = [error if isinstance(error, Exception) else unavailable_error()] * len(group)
        finished = time.perf_counter()
        self._running, self._was_lesson = None, False
        for ticket, result in zip(group, results, strict=True):
            if isinstance(result, ForwardResult) and result.lesson is not None:
                self._lessons[ticket.key] = result.lesson
        self._pace.add_forward(sum(ticket.count for ticket in group), finished - started)
        # Before any answer: the next forward runs while these answers are written.
        if not self._closed:
            self._dispatch()
        for ticket, result in zip(group, results, strict=True):
            ticket.finished = finished
            # A caller may have left: each future is resolved separately.
            if ticket.answer.done():
                continue
            if isinstance(result, Exception):
                ticket.answer.set_exception(result)
            else:
                ticket.answer.set_result(result)

    async def _teach(self) -> None:
        """Run the oldest lessons, with at most as many images as a forward. Later requests of their streams wait."""
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
            self._running, self._was_lesson = None, True
            if not self._closed:
                self._dispatch()
