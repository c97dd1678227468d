"""The engine's end of a link: it lets a core answer the messages of the front."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from app.errors import unavailable_error
from app.observability.meter import ForwardEvent, Meter
from app.serving.core import EngineCore
from app.serving.core_contract import DecodedImages
from app.serving.processes import wire
from app.serving.processes.errors import portable
from app.serving.processes.link import Link, Message
from app.serving.processes.slab import Extent, Slab
from app.serving.shares import Flow

METHODS = frozenset({"reset", "moments", "streams", "stream", "explanations", "lesson_memory", "snapshot", "ping"})
"""The methods of a core that the front may ask for, besides ``close`` and ``note_lost``."""


class RelayMeter(Meter):
    """Passes the events of a core on to the front."""

    def __init__(self) -> None:
        self.send: Callable[..., None] | None = None

    def record_forward(self, forward: ForwardEvent) -> None:
        """Pass a forward on."""
        self._relay("record_forward", forward)

    def record_lessons(self, streams: int, lesson_s: float) -> None:
        """Pass a learning step on."""
        self._relay("record_lessons", streams, lesson_s)

    def record_rejection(self, reason: str) -> None:
        """Pass a rejected state on."""
        self._relay("record_rejection", reason)

    def _relay(self, name: str, *arguments: Any) -> None:
        if self.send is not None:
            self.send(wire.EVENT, name, arguments)


@dataclass(eq=False)
class _RunningCall:
    images: asyncio.Future[DecodedImages] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    is_reading: bool = False  # whether a forward may still read the images
    task: asyncio.Task[None] | None = None


class CoreServer:
    """Answers calls in the order of their messages, until the front closes the link."""

    def __init__(self, core: EngineCore, slab: Slab, meter: RelayMeter) -> None:
        self._core, self._slab, self._meter = core, slab, meter
        self._calls: dict[int, _RunningCall] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._link = Link(self._receive, lambda: None)
        self._handlers: dict[str, Callable[..., None]] = {
            wire.CALL: self._start,
            wire.PIXELS: self._take_pixels,
            wire.UNREADABLE: self._refuse_pixels,
            wire.CANCEL: self._cancel,
            wire.ASK: self._ask,
        }

    async def serve(self, connect: Callable[[Callable[[Message], None], Callable[[], None]], Any]) -> None:
        """Answer messages; ``connect`` opens the link."""
        ended = asyncio.Event()
        self._link = await connect(self._receive, ended.set)
        self._meter.send = self._link.send
        await ended.wait()

    def _receive(self, message: Message) -> None:
        kind, *parts = message
        self._handlers[kind](*parts)

    def _start(self, number: int, packed: wire.Wire) -> None:
        running = self._calls[number] = _RunningCall()
        running.task = self._spawn(self._answer(number, packed, running))

    def _take_pixels(self, number: int, place: Extent | None, images: Tensor | None, ready: float) -> None:
        running = self._calls.get(number)
        if running is not None and not running.images.done():  # else it has its answer already
            pixels = images if place is None else self._slab.view(place)
            if pixels is not None:
                running.images.set_result(DecodedImages(pixels, ready))

    def _refuse_pixels(self, number: int, error: Exception) -> None:
        running = self._calls.get(number)
        if running is not None and not running.images.done():
            running.images.set_exception(error)
            running.images.exception()  # retrieved here: the core may never come to its images

    def _cancel(self, number: int) -> None:
        running = self._calls.get(number)
        if running is not None and running.task is not None:
            running.task.cancel()

    async def _answer(self, number: int, packed: wire.Wire, running: _RunningCall) -> None:
        @asynccontextmanager
        async def pixels(_: Flow) -> AsyncIterator[DecodedImages]:
            running.is_reading = True
            try:
                yield await running.images
            finally:
                running.is_reading = False
                if number not in self._calls:  # a step that its caller did not wait for has ended
                    self._link.send(wire.FREE, number)

        is_answered, result = await self._settle(self._predict(packed, pixels))
        del self._calls[number]
        self._link.send(wire.ANSWER, number, is_answered, result, not running.is_reading)

    async def _predict(self, packed: wire.Wire, pixels: Any) -> wire.Wire:
        return wire.pack_prediction(await self._core.predict(wire.unpack_call(packed), pixels))

    def _ask(self, number: int, method: str, arguments: tuple[Any, ...]) -> None:
        self._spawn(self._answer_question(number, method, arguments))

    async def _answer_question(self, number: int, method: str, arguments: tuple[Any, ...]) -> None:
        if method == "close":
            is_answered, result = await self._settle(self._core.close(*arguments))
        elif method == "note_lost":
            self._core.table.note_lost(*arguments)
            is_answered, result = True, None
        elif method in METHODS:
            is_answered, result = await self._settle(getattr(self._core, method)(*arguments))
        else:
            raise ValueError(f"unknown method {method}")
        self._link.send(wire.ANSWER, number, is_answered, result, True)
        if method == "close":
            self._link.close()

    async def _settle(self, work: Any) -> tuple[bool, Any]:
        """Return whether a coroutine returned, and what it returned or raised."""
        try:
            return True, await work
        except asyncio.CancelledError:
            return False, unavailable_error("the call was cancelled")
        except Exception as error:
            return False, portable(error)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
