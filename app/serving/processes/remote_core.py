"""The front's handle of one engine process, which outlives that process: where it dies, another takes its place."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from functools import partial
from typing import Any

from app.errors import BusyError, EngineClosedError, unavailable_error
from app.observability.meter import Meter
from app.serving.core_contract import CoreCall, PixelSource
from app.serving.processes import wire
from app.serving.processes.errors import portable
from app.serving.processes.launcher import Launcher
from app.serving.processes.link import Link, Message
from app.serving.processes.slab import Slab
from app.serving.shares import Flow
from app.serving.streams import ResetScope, StateName, state_name
from app.types import Prediction

log = logging.getLogger("renorm")

FRUITLESS_LIVES = 5
"""Processes in succession that end without having answered a request, after which no other is started."""

PAUSE_S = 0.1
"""Seconds before the second fruitless life in succession, doubled before each further one."""

ANSWER_S = 0.25
"""Seconds in which an answer that was sent arrives."""

ASK_S = 10.0
"""Seconds in which an engine answers what is not a prediction, before it counts as hung."""


class RemoteCore:
    """One engine process: calls travel to it in the order in which they were made.

    Calls that wait for an engine that is being restarted are sent to the next one. Those that it had already are
    refused: nobody knows how far they came, though no state of theirs is left.
    """

    def __init__(self, index: int, launcher: Launcher, slab: Slab, meter: Meter, max_names: int) -> None:
        self.index, self.restarts, self.outage = index, 0, ""
        self.pid: int | None = None
        self._launcher, self._slab, self._meter = launcher, slab, meter
        self._link: Link | None = None
        self._is_open = False
        self._waiting: list[asyncio.Future[None]] = []  # for the process, in the order of their calls
        self._numbers = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._freed: dict[int, asyncio.Future[None]] = {}
        self._names, self._max_names = OrderedDict[StateName, None](), max_names
        self._has_answered, self._fruitless = False, 0
        self._heard_at = time.monotonic()
        self._is_closing = False
        self._epoch = 0  # resets of more than one stream so far
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Start the process, and wait until it answers."""
        end, self.pid = await self._launcher.fork(self._slab)
        self._has_answered = False
        self._link = await Link.connect(end, self._receive, self._lose)
        if self._is_closing:
            self._link.close()
            return
        self._heard_at = time.monotonic()
        await self._ask("note_lost", list(self._names))
        self._open()

    @property
    def busy_s(self) -> float:
        """Seconds since the last sign of life, while it owes one."""
        return time.monotonic() - self._heard_at if self._answers and self._link is not None else 0.0

    async def predict(self, request: CoreCall, pixels: PixelSource) -> Prediction:
        """See `app.serving.core.EngineCore.predict`."""
        await self._admit()
        number, answer = self._expect()
        self._send(wire.CALL, number, wire.pack_call(request))
        flow = Flow(request.call.stream, request.call.client, self._epoch)
        feeding = self._spawn(self._feed(number, answer, partial(pixels, flow)))
        try:
            prediction = wire.unpack_prediction(await answer)
        except asyncio.CancelledError:
            self._send(wire.CANCEL, number)
            raise
        finally:
            if number not in self._freed:
                feeding.cancel()
        self._note(prediction, request)
        return prediction

    async def reset(self, scope: ResetScope) -> int:
        """See `app.serving.core.EngineCore.reset`."""
        self._epoch += scope.stream is None
        for name in [name for name in self._names if scope.covers_name(*name[:2])]:
            del self._names[name]
        forgotten: int = await self.ask("reset", scope)
        return forgotten

    async def ask(self, method: str, *arguments: Any, timeout_s: float | None = None) -> Any:
        """Ask for what the method of a core returns.

        Raises:
            EngineClosedError: it did not answer within ``timeout_s``.
            Exception: what the method raises.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._admit()
                return await self._ask(method, *arguments)
        except TimeoutError as error:
            raise EngineClosedError(
                f"engine {self.index} did not answer within {timeout_s:g} s", hint="try again a little later"
            ) from error

    async def close(self, patience_s: float | None = None) -> list[str]:
        """Let the process finish its forward within ``patience_s``, and end it; see `EngineCore.close`."""
        self._is_closing = True
        self._open()
        if self._link is None or self.pid is None:
            return []
        dropped: list[str] = []
        try:
            # A moment more than the engine has, so that its own answer arrives.
            async with asyncio.timeout(None if patience_s is None else patience_s + ANSWER_S):
                dropped = await self._ask("close", patience_s)
        except (TimeoutError, BusyError):
            log.warning("engine %d does not end: it is killed, and its requests get no answer", self.index)
            self._launcher.kill(self.pid)
        if self._link is not None:
            self._link.close()
        await self._launcher.exit_of(self.pid)
        return dropped

    async def _feed(self, number: int, answer: asyncio.Future[Any], pixels: Any) -> None:
        """Decode the images of a call, and lend them to the engine until it no longer reads them."""
        try:
            async with pixels() as (images, ready):
                if answer.done():  # the engine refused the call, or has ended
                    return
                freed = self._freed[number] = asyncio.get_running_loop().create_future()
                link, place = self._link, self._slab.put(images)
                self._send(wire.PIXELS, number, place, None if place is not None else images, ready)
                try:
                    await freed
                finally:
                    self._freed.pop(number, None)
                    if place is not None and link is self._link:  # another process has all places free
                        self._slab.give_back(place)
        except Exception as error:
            self._send(wire.UNREADABLE, number, portable(error))

    def _expect(self) -> tuple[int, asyncio.Future[Any]]:
        self._numbers += 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self._answers:
            self._heard_at = time.monotonic()  # it owed nothing until now
        self._answers[self._numbers] = answer
        return self._numbers, answer

    async def _ask(self, method: str, *arguments: Any) -> Any:
        number, answer = self._expect()
        self._send(wire.ASK, number, method, arguments)
        return await answer

    def _send(self, *message: Any) -> None:
        if self._link is not None:
            self._link.send(*message)

    def _receive(self, message: Message) -> None:
        kind, *parts = message
        self._heard_at = time.monotonic()
        if kind == wire.EVENT:
            name, arguments = parts
            getattr(self._meter, name)(*arguments)
        elif kind == wire.FREE:
            self._free(parts[0])
        elif kind == wire.ANSWER:
            number, is_answered, result, is_free = parts
            answer = self._answers.pop(number)
            if not answer.done():
                if is_answered:
                    answer.set_result(result)
                else:
                    answer.set_exception(result)
            if is_free:
                self._free(number)

    def _free(self, number: int) -> None:
        freed = self._freed.get(number)
        if freed is not None and not freed.done():
            freed.set_result(None)

    def _note(self, prediction: Prediction, request: CoreCall) -> None:
        """Remember that the engine has a state, so that its loss can be told."""
        self._has_answered, self._fruitless = True, 0
        if prediction.updated and not request.call.end:
            name = state_name(request.call.stream, prediction.strategy, prediction.params)
            self._names[name] = None
            self._names.move_to_end(name)
            if len(self._names) > self._max_names:
                self._names.popitem(last=False)

    def _lose(self) -> None:
        """Give up what the engine that has ended was asked for, and start another one."""
        self._link = None
        self._is_open = False
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            if not answer.done():
                answer.set_exception(unavailable_error() if self._is_closing else _lost_error())
        for number in list(self._freed):
            self._free(number)
        self._slab.clear()
        if not self._is_closing:
            self._spawn(self._restart())

    async def _restart(self) -> None:
        pid, self.pid = self.pid, None
        self._fruitless = 0 if self._has_answered else self._fruitless + 1
        reason = "" if pid is None else await self._launcher.exit_of(pid)
        log.error("engine %d has ended: %s; %d states are lost", self.index, reason, len(self._names))
        if self._fruitless >= FRUITLESS_LIVES:
            ended = f"engine {self.index} ended {self._fruitless} times without an answer"
            self.outage = f"{ended}; the last time {reason}"
            log.critical("%s: it is not started again; restart the server", self.outage)
            self._open()  # nobody waits for it any more
            return
        await asyncio.sleep(PAUSE_S * 2 ** (self._fruitless - 2) if self._fruitless > 1 else 0)
        self.restarts += 1
        try:
            await self._launcher.restore()
            await self.start()
        except BusyError:  # it has ended before it was ready, which has started the next restart
            return
        except Exception as error:
            log.warning("engine %d could not be started: %s", self.index, error)
            if not self._is_closing:
                self._spawn(self._restart())

    async def _admit(self) -> None:
        """Wait while the process is being restarted; later calls do not overtake those that wait.

        Raises:
            EngineClosedError: it is closed, or was given up.
        """
        if not (self._is_open or self._is_closing):
            place = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            await place
        if self.outage:
            raise EngineClosedError(self.outage, hint="restart the server")
        if self._is_closing:
            raise unavailable_error()

    def _open(self) -> None:
        """Let the calls that wait go on, and once they have, all others."""
        if not self._waiting:
            self._is_open = True
            return
        waiting, self._waiting = self._waiting, []
        for place in waiting:
            if not place.done():
                place.set_result(None)
        asyncio.get_running_loop().call_soon(self._open)

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _lost_error() -> BusyError:
    return BusyError(
        "the engine process that had the request ended, and is being restarted",
        hint="send the request again; its stream starts from the initial state",
    )
