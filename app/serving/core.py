"""The core of an engine: one model, the states of its streams, their queue and the thread that runs forwards.

An engine has one core in its own process, or several in processes of theirs: see `app.engine`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from adapters import AdaptiveModel, Key, load_plugins
from app.baselines import load_baseline
from app.errors import BusyError, DeadlineError, EngineClosedError, StreamNotFoundError
from app.models import load
from app.models.device import TYPES, device_of
from app.models.hosted import Hosted
from app.models.pixels import Pixels
from app.observability.meter import Meter
from app.resources.governor import Governor
from app.resources.machine import usable_cores
from app.resources.memory import MemoryUse
from app.serving.batcher import Batcher
from app.serving.core_contract import CoreCall, PixelSource
from app.serving.explanations import explain_sample, explain_state
from app.serving.forward_stage import ForwardStage
from app.serving.lesson_limit import LessonLimit
from app.serving.model_info import describe_hosted
from app.serving.places import QueueLimits
from app.serving.predictions import prediction_of, timing_of
from app.serving.replays import Replays
from app.serving.streams import IN_USE_S, ResetScope, Streams
from app.serving.tickets import Ticket
from app.serving.worker import ModelWorker, Worker
from app.settings import Settings
from app.strategies import StrategyResolver
from app.types import EngineProcess, ModelInfo, Prediction, StreamExplanation, StreamInfo, StreamsInfo

log = logging.getLogger("renorm")


class EngineCore:
    """One hosted model, the states of its streams, and the thread that runs its forwards.

    Everything but forwards runs on the event loop's thread, so states need no lock.
    """

    def __init__(
        self, settings: Settings, hosted: Hosted, metrics: Meter | None = None, thread: ModelWorker | None = None
    ) -> None:
        self.settings, self.hosted = settings, hosted
        self.resolver = StrategyResolver(settings, hosted)
        strategy, preprocessing = self.resolver.resolve(settings.strategy, {}).strategy, hosted.preprocessing
        device = device_of(settings.device)
        self.model = AdaptiveModel(
            hosted.network,
            strategy,
            prepare=Pixels(preprocessing).to(device),
            device=device,
            dtype=TYPES[settings.dtype],
            copy=False,
            compile=settings.compile,
            baseline=hosted.baseline if settings.baseline is None else load_baseline(settings.baseline),
        )
        self.table = Streams(settings.max_state_bytes, settings.max_streams)
        self.replays = Replays()
        self.thread = thread or Worker("renorm-model")
        self.forward_stage = ForwardStage(self.model, self.table, self.thread, metrics or Meter())
        limits, learn = QueueLimits.of(settings), self.forward_stage.learn
        self.batcher = Batcher(self.forward_stage, self.table.forget, limits, learn)
        self.lesson_limit = LessonLimit(self.model.lessons, settings, device)

    @classmethod
    async def open(
        cls, settings: Settings, metrics: Meter | None = None, progress: Callable[[str], None] | None = None
    ) -> EngineCore:
        """Load the model and warm it up, see `app.engine.Engine.open`."""
        load_plugins()
        core = cls(settings, await asyncio.to_thread(load, settings), metrics)
        await core.thread.run(lambda: core.warm_up(progress))
        log.info("hosting %s: %d BatchNorm sites", core.hosted.name, len(core.model.sites))
        return core

    async def predict(self, request: CoreCall, pixels: PixelSource) -> Prediction:
        """Answer one request, see `app.engine.Engine.predict`. Its place in the queue is that of this call."""
        if request.call.request_id is None:
            return await self._answer(request, pixels)
        return await self._answer_once(request, pixels, (request.call.stream, request.call.request_id))

    async def _answer_once(self, request: CoreCall, pixels: PixelSource, name: tuple[str, str]) -> Prediction:
        """Answer a request that may be sent several times, and take its step once."""
        earlier = await self.replays.find(name, request.content)
        if earlier is not None:
            return earlier
        tickets: list[Ticket] = []
        # A separate task: a client that disconnects during the step may ask again, and must not take a second one.
        task = asyncio.ensure_future(self._answer(request, pixels, tickets.append))

        def store(task: asyncio.Task[Prediction]) -> None:
            if task.cancelled() or task.exception() is not None:
                self.replays.drop(name)
            else:
                self.replays.keep(name, task.result())

        task.add_done_callback(store)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not (tickets and tickets[0].is_started):
                task.cancel()
            raise

    async def _answer(
        self, request: CoreCall, pixels: PixelSource, on_enter: Callable[[Ticket], None] | None = None
    ) -> Prediction:
        call, count = request.call, request.count
        strategy, name, params = self.resolver.resolve(call.strategy or self.settings.strategy, call.params)
        self.model.check(strategy)
        self.lesson_limit.check(strategy, count if call.update else 0)
        timeout = call.timeout_s if call.timeout_s is not None else self.settings.timeout
        try:
            # From its arrival: here it may have waited for a forward to end, see `app.serving.processes.inline_worker`.
            remaining_s = None if timeout is None else timeout - (time.perf_counter() - request.arrived)
            async with asyncio.timeout(remaining_s) as clock:
                top_k, key = min(call.top_k, len(self.hosted.classes)), Key(call.stream, strategy)
                self._check_room(key, call.client, is_update=call.update)
                options = call.update, top_k, call.start, call.end, call.client
                deadline = None if timeout is None else clock
                ticket = Ticket(key, *options, count, clock=deadline, explain=call.explain, arrived=request.arrived)
                self.batcher.enter(ticket)
                if on_enter is not None:
                    on_enter(ticket)
                try:
                    # In the order of the tickets, as the budget requires: nothing is awaited between the two.
                    async with pixels(ticket.flow) as (images, ready):
                        # A lesson looks at the images after the answer, when they may be read no longer.
                        lasting_images = images.clone() if ticket.has_lesson else images
                        result = await self.batcher.run(ticket, lasting_images, ready)
                finally:
                    self.batcher.leave(ticket)
        except TimeoutError as error:
            raise DeadlineError(
                f"the request timed out: its forward did not start within {timeout:g} s",
                hint="send more slowly, or set a longer timeout",
            ) from error
        return prediction_of(result, name, params, timing_of(ticket))

    async def reset(self, scope: ResetScope) -> int:
        """Drop the states that ``scope`` covers, after earlier requests and before later ones; return their number."""
        return await self.batcher.reset(scope)

    async def moments(self, pixels: Tensor) -> Tensor:
        """Return the moments that a baseline is made of, see `adapters.AdaptiveModel.moments`; no state changes."""
        return await self.thread.run(lambda: self.model.moments(pixels))

    async def streams(self) -> StreamsInfo:
        """Describe all states, without their numbers."""
        return self.table.info()

    async def stream(self, name: str) -> list[StreamInfo]:
        """Describe the states of one stream, one for each strategy with its hyperparameters.

        Raises:
            StreamNotFoundError: the stream has no state.
        """
        states = self.table.of(name)
        if not states:
            raise StreamNotFoundError(
                f"stream '{name}' has no state", hint="a stream gets its state with its first answered request"
            )
        return [explain_state(self.model, *state) for state in states]

    async def explanations(self, limit: int) -> list[tuple[str, StreamExplanation]]:
        """Explain the states used last, each under the name of its strategy."""
        return await asyncio.to_thread(explain_sample(self.model, self.table.recent(limit)))

    async def lesson_memory(self) -> MemoryUse:
        """Return the part of the memory budget that lessons hold."""
        return MemoryUse("lessons", self.forward_stage.lesson_bytes, self.lesson_limit.shared)

    def describe(self) -> ModelInfo:
        """Describe the hosted model."""
        return describe_hosted(self.hosted, self.model, self.settings)

    async def snapshot(self) -> dict[str, Any]:
        """Return all states as plain types and tensors, in the form of `adapters.AdaptiveModel.state_dict`."""
        return self.model.exported(self.table.states)

    @property
    def outage(self) -> str:
        """The reason why nothing is answered any more, empty where there is none."""
        return "" if self.thread.alive else "the model thread has ended"

    @property
    def processes(self) -> list[EngineProcess]:
        """None: forwards run in this process."""
        return []

    @property
    def busy_s(self) -> float:
        """Seconds that the running forward has taken so far."""
        return self.thread.busy_s

    async def ping(self, deadline_s: float) -> bool:
        """Return whether the model thread runs a job within the deadline."""
        try:
            return await asyncio.wait_for(self.thread.run(lambda: True), deadline_s)
        except (TimeoutError, EngineClosedError):
            return False

    async def close(self, patience_s: float | None = None) -> list[str]:
        """Finish the running forward within ``patience_s``, refuse all waiting requests, and end the thread.

        Returns:
            The stream of each state that is dropped; none where it was closed before.
        """
        started = time.monotonic()
        closing = asyncio.ensure_future(self.batcher.close())
        if not (await asyncio.wait([closing], timeout=patience_s))[0]:
            log.warning("a forward still runs after %g s: its requests get no answer", patience_s)
        else:
            remaining_s = None if patience_s is None else max(0.1, patience_s - (time.monotonic() - started))
            await self.thread.close(remaining_s)
        names = [info.stream for info in self.table.info().streams]
        self.table.forget(ResetScope())
        return names

    def _check_room(self, key: Key, client: str, *, is_update: bool) -> None:
        if is_update and not self.table.has_room(key, client):
            raise BusyError(
                f"no room for a new stream: {len(self.table.states)} states are held, and all that could be evicted "
                "are in use",
                hint="send to existing streams, or raise RENORM_MAX_STREAMS or RENORM_MAX_STATE_BYTES",
                location="stream",
                retry_after_s=IN_USE_S,
            )

    def warm_up(self, progress: Callable[[str], None] | None = None) -> None:
        """Run the first forward; ``progress`` is called with the state of compilation."""
        if isinstance(threads := self.settings.threads, int):
            torch.set_num_threads(threads)
        elif threads == "auto":
            self.forward_stage.governor = Governor(usable_cores(), torch.set_num_threads)
        channels, *sides = self.hosted.preprocessing.input_shape
        black = torch.zeros(1, *sides, channels, dtype=torch.uint8, device=self.model.device)
        self.model.warm_up(black, progress)
        self.lesson_limit.begin()
        self.model.check(self.model.strategy)
