"""The engine, the only object that doors call: predict, reset, streams, describe, ping, close. Knows no HTTP."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from adapters import AdaptiveModel, Key, load_plugins
from app.baselines import load_baseline
from app.errors import BusyError, DeadlineError, EngineClosedError, StreamNotFoundError
from app.images import ImageLimits
from app.models import load
from app.models.device import TYPES, device_of
from app.models.hosted import Hosted
from app.models.pixels import Pixels
from app.observability.meter import Meter
from app.observability.statistics import EngineCounters
from app.resources.governor import Governor
from app.resources.machine import usable_cores
from app.resources.memory import MemoryUse, parts_of
from app.serving.batcher import Batcher
from app.serving.budget import Budget
from app.serving.call_limits import check_count
from app.serving.decode_stage import DecodeStage
from app.serving.explanations import explain_sample, explain_state
from app.serving.forward_stage import ForwardStage
from app.serving.lesson_limit import LessonLimit
from app.serving.model_info import describe_hosted
from app.serving.places import QueueLimits
from app.serving.predictions import prediction_of, timing_of
from app.serving.replays import Replays, fingerprint
from app.serving.streams import IN_USE_S, ResetScope, Streams
from app.serving.tickets import ForwardResult, Ticket
from app.serving.worker import Worker
from app.settings import Settings
from app.strategies import StrategyResolver, resolve
from app.types import Call, ModelInfo, Prediction, StreamExplanation, StreamInfo, StreamsInfo

log = logging.getLogger("renorm")
server_log = logging.getLogger("renorm.server")  # lines for the operator, see `app.observability.logs`

HUNG_S = 300.0  # seconds after which a forward, or the decoding of an image, counts as hung


class Engine:
    """One hosted model, the states of its streams, and the threads that decode images and run forwards.

    Three stages overlap: while one group of requests is in its forward, the images of the next are decoded and the
    answers of the previous one are written. At most ``max_waiting_bytes`` of decoded pixels wait for a forward.

    Everything but forwards and decoding runs on the event loop's thread, so states need no lock.
    """

    def __init__(self, settings: Settings, hosted: Hosted, metrics: Meter | None = None) -> None:
        self.settings, self.hosted, self.metrics = settings, hosted, metrics or Meter()
        self._resolver = StrategyResolver(settings, hosted)
        strategy, preprocessing = self._resolver.resolve(settings.strategy, {}).strategy, hosted.preprocessing
        device = device_of(settings.device)
        self._model = AdaptiveModel(
            hosted.network,
            strategy,
            prepare=Pixels(preprocessing).to(device),
            device=device,
            dtype=TYPES[settings.dtype],
            copy=False,
            compile=settings.compile,
            baseline=hosted.baseline if settings.baseline is None else load_baseline(settings.baseline),
        )
        self._streams = Streams(settings.max_state_bytes, settings.max_streams)
        self._replays, self._statistics = Replays(), EngineCounters()
        self._thread = Worker("renorm-model")
        self._forward_stage = ForwardStage(self._model, self._streams, self._thread, self._statistics, self.metrics)
        limits, learn = QueueLimits.of(settings), self._forward_stage.learn
        self._batcher = Batcher(self._forward_stage, self._streams.forget, limits, learn)
        parts = parts_of(settings)
        self._budget = Budget(parts.decoded, keeps_reserve=True)
        self._lesson_limit = LessonLimit(self._model.lessons, settings, device)
        decode_limits = settings.max_decode_seconds, parts.decoding
        self._decode_stage = DecodeStage(preprocessing, ImageLimits.of(settings), settings.input_range, *decode_limits)

    @classmethod
    async def open(
        cls, settings: Settings, metrics: Meter | None = None, progress: Callable[[str], None] | None = None
    ) -> Engine:
        """Load the model and warm it up; ``progress`` is called from another thread with the state of compilation.

        Raises:
            ModelError, adapters.UnsupportedModelError: the model cannot be hosted.
            adapters.UnknownStrategyError: the default strategy does not exist.
            adapters.ParameterError: no temperature was fitted for the default strategy, which needs one.
            CalibrationError: the file of temperatures cannot be read.
        """
        load_plugins()
        engine = cls(settings, await asyncio.to_thread(load, settings), metrics)
        await engine._thread.run(lambda: engine._warm_up(progress))
        log.info("hosting %s: %d BatchNorm sites", engine.hosted.name, len(engine._model.sites))
        return engine

    async def predict(self, call: Call) -> Prediction:
        """Answer one request and let its stream learn from it. A request that raises has changed no state.

        A call cancelled before its forward starts takes no step; later the step is taken all the same, and a request
        with a ``request_id`` gets its answer when it is sent again.

        Raises:
            RequestError: the request is invalid.
            adapters.AdapterError: unknown strategy or hyperparameter, or a strategy with a temperature that was neither
                given nor fitted.
            UnanswerableError: the network's output is not finite.
            BusyError: too many requests wait, of this stream or in all.
            DeadlineError: the forward did not start in time.
            EngineClosedError: the engine is closing.
        """
        arrived = time.perf_counter()
        try:
            return await (self._answer(call) if call.request_id is None else self._answer_once(call, call.request_id))
        except BaseException as error:
            self._statistics.record_failure(1000 * (time.perf_counter() - arrived))
            self.metrics.record_failure(type(error).__name__)
            raise

    async def _answer_once(self, call: Call, request_id: str) -> Prediction:
        """Answer a request that may be sent several times, and take its step once."""
        name = call.stream, request_id
        # Not in a thread, where a later request of the stream could overtake this one. Hashing 2 GB takes a second.
        earlier = await self._replays.find(name, fingerprint(call))
        if earlier is not None:
            return earlier
        tickets: list[Ticket] = []
        # A separate task: a client that disconnects during the step may ask again, and must not take a second one.
        task = asyncio.ensure_future(self._answer(call, tickets.append))

        def store(task: asyncio.Task[Prediction]) -> None:
            if task.cancelled() or task.exception() is not None:
                self._replays.drop(name)
            else:
                self._replays.keep(name, task.result())

        task.add_done_callback(store)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not (tickets and tickets[0].is_started):
                task.cancel()
            raise

    async def _answer(self, call: Call, on_enter: Callable[[Ticket], None] | None = None) -> Prediction:
        strategy, name, params = self._resolver.resolve(call.strategy or self.settings.strategy, call.params)
        self._model.check(strategy)
        check_count(len(call.images), self.settings.max_images)
        self._lesson_limit.check(strategy, len(call.images) if call.update else 0)
        timeout = call.timeout_s if call.timeout_s is not None else self.settings.timeout
        try:
            async with asyncio.timeout(timeout) as clock:
                top_k, images = min(call.top_k, len(self.hosted.classes)), len(call.images)
                key = Key(call.stream, strategy)
                self._check_memory(key, call)
                deadline = None if timeout is None else clock
                options = call.update, top_k, call.start, call.end, call.client
                ticket = Ticket(key, *options, images, clock=deadline, explain=call.explain)
                self._batcher.enter(ticket)
                if on_enter is not None:
                    on_enter(ticket)
                try:
                    result = await self._run(ticket, call)
                finally:
                    self._batcher.leave(ticket)
        except TimeoutError as error:
            raise DeadlineError(
                f"the request timed out: its forward did not start within {timeout:g} s",
                hint="send more slowly, or set a longer timeout",
            ) from error
        prediction = prediction_of(result, name, params, timing_of(ticket))
        self._statistics.record_answer(prediction.timing, result.commit_ms)
        self.metrics.record_answer(name, len(call.images), prediction.timing)
        self.metrics.record_origin(prediction.state_origin)
        return prediction

    async def reset(self, stream: str | None = None, strategy: str | None = None) -> int:
        """Drop the states of a stream, of a strategy, of both or all, and return their number.

        Earlier requests take their step first, later ones start from the initial state.

        Raises:
            adapters.UnknownStrategyError: no strategy has that name.
        """
        if strategy is not None:
            strategy = resolve(strategy, {}).name
        return await self._batcher.reset(ResetScope(stream, strategy))

    async def moments(self, images: Sequence[bytes] | Tensor) -> Tensor:
        """Return the moments that a baseline is made of, see `adapters.AdaptiveModel.moments`; no state changes.

        Raises:
            RequestError: an image cannot be read.
        """
        pixels = await self._decode_stage(images)
        return await self._thread.run(lambda: self._model.moments(pixels))

    def streams(self) -> StreamsInfo:
        """Describe all states, without their numbers."""
        return self._streams.info()

    def stream(self, name: str) -> list[StreamInfo]:
        """Describe the states of one stream, one for each strategy with its hyperparameters.

        Raises:
            StreamNotFoundError: the stream has no state.
        """
        states = self._streams.of(name)
        if not states:
            raise StreamNotFoundError(
                f"stream '{name}' has no state", hint="a stream gets its state with its first answered request"
            )
        return [explain_state(self._model, *state) for state in states]

    def explanations(self, limit: int) -> Callable[[], list[tuple[str, StreamExplanation]]]:
        """Copy the states used last, and return the function that explains them, by strategy, in any thread."""
        return explain_sample(self._model, self._streams.recent(limit))

    def describe(self) -> ModelInfo:
        """Describe the hosted model."""
        return describe_hosted(self.hosted, self._model, self.settings)

    def memory(self) -> list[MemoryUse]:
        """Return the parts of the memory budget that requests hold once they were received."""
        decoded = MemoryUse("decoded", self._budget.lent, self._budget.capacity)
        lessons = MemoryUse("lessons", self._forward_stage.lesson_bytes, self._lesson_limit.shared)
        return [decoded, self._decode_stage.memory, lessons]

    def statistics(self) -> EngineCounters:
        """Return the counters since the engine was opened."""
        return self._statistics

    def snapshot(self) -> dict[str, Any]:
        """Return all states as plain types and tensors, in the form of `adapters.AdaptiveModel.state_dict`."""
        return self._model.exported(self._streams.states)

    @property
    def alive(self) -> bool:
        """False if the model thread has ended, or a forward or decoding hangs: only a restart helps then."""
        return self._thread.alive and max(self._thread.busy_s, self._decode_stage.busy_s) < HUNG_S

    async def ping(self, deadline_s: float) -> bool:
        """Return whether the model thread runs a job within the deadline, and images can be decoded."""
        try:
            checks = asyncio.gather(self._thread.run(lambda: True), self._decode_stage.check())
            return all(await asyncio.wait_for(checks, deadline_s))
        except (TimeoutError, EngineClosedError):
            return False

    async def close(self, patience_s: float | None = None) -> None:
        """Finish the running forward within ``patience_s``, refuse all waiting requests, and end the threads."""
        if names := [info.stream for info in self._streams.info().streams]:
            server_log.info("stopping: %d states of %d streams are dropped", len(names), len(set(names)))
        closing = asyncio.ensure_future(self._batcher.close())
        if not (await asyncio.wait([closing], timeout=patience_s))[0]:
            log.warning("a forward still runs after %g s: its requests get no answer", patience_s)
        self._decode_stage.close()
        if closing.done():
            await self._thread.close(patience_s)

    def _check_memory(self, key: Key, call: Call) -> None:
        if call.update and not self._streams.has_room(key, call.client):
            raise BusyError(
                f"no room for a new stream: {len(self._streams.states)} states are held, and all that could be evicted "
                "are in use",
                hint="send to existing streams, or raise RENORM_MAX_STREAMS or RENORM_MAX_STATE_BYTES",
                location="stream",
                retry_after_s=IN_USE_S,
            )

    async def _run(self, ticket: Ticket, call: Call) -> ForwardResult:
        """Decode the images and run the forward, holding the budget that the pixels take."""
        size = self._decode_stage.bytes_of(call.images)
        # Taken in the order of the tickets, as the budget requires: nothing is awaited between the two.
        await self._budget.take(size, ticket.flow)
        try:
            return await self._batcher.run(ticket, await self._decode_stage(call.images, ticket.flow))
        finally:
            self._budget.give_back(size, ticket.flow)

    def _warm_up(self, progress: Callable[[str], None] | None) -> None:
        if isinstance(threads := self.settings.threads, int):
            torch.set_num_threads(threads)
        elif threads == "auto":
            self._forward_stage.governor = Governor(usable_cores(), torch.set_num_threads)
        channels, *sides = self.hosted.preprocessing.input_shape
        black = torch.zeros(1, *sides, channels, dtype=torch.uint8, device=self._model.device)
        self._model.warm_up(black, progress)
        self._lesson_limit.begin()
        self._model.check(self._model.strategy)
