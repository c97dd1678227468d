"""The engine, the only object that doors call: predict, reset, streams, describe, ping, close. Knows no HTTP."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from torch import Tensor

from app.errors import EngineClosedError
from app.images import ImageLimits
from app.models.hosted import Hosted
from app.observability.meter import Meter
from app.observability.statistics import CountingMeter, EngineCounters
from app.resources.memory import MemoryUse, parts_of
from app.serving.budget import Budget
from app.serving.call_limits import check_count
from app.serving.core import EngineCore
from app.serving.core_contract import CoreCall, DecodedImages, ServingCore
from app.serving.decoding.stage import DecodeStage
from app.serving.processes.cluster import EngineCluster
from app.serving.processes.prefork import ZygoteProcess, fork_zygote
from app.serving.processes.workers import count_workers
from app.serving.replays import fingerprint
from app.serving.shares import Flow
from app.serving.streams import ResetScope
from app.settings import Settings
from app.strategies import resolve
from app.types import Call, EngineProcess, ModelInfo, Prediction, StreamExplanation, StreamInfo, StreamsInfo

server_log = logging.getLogger("renorm.server")  # lines for the operator, see `app.observability.logs`

HUNG_S = 300.0  # seconds after which a forward, or the decoding of an image, counts as hung


class Engine:
    """The face of one hosted model: it checks and decodes requests, and hands them to the core that has their stream.

    Three stages overlap: while one group of requests is in its forward, the images of the next are decoded and the
    answers of the previous one are written. At most ``max_waiting_bytes`` of decoded pixels wait for a forward.

    Everything but forwards and decoding runs on the event loop's thread.
    """

    def __init__(self, settings: Settings, core: ServingCore, metrics: CountingMeter | None = None) -> None:
        self.settings, self.core = settings, core
        self.metrics = metrics or CountingMeter()
        parts = parts_of(settings)
        self._budget = Budget(parts.decoded, keeps_reserve=True)
        decode_limits = settings.max_decode_seconds, parts.decoding
        preprocessing, limits = core.hosted.preprocessing, ImageLimits.of(settings)
        self._decode_stage = DecodeStage(preprocessing, limits, settings.input_range, *decode_limits)

    @staticmethod
    def prefork(settings: Settings) -> ZygoteProcess | None:
        """Fork the process that engines will come from, where the settings ask for engine processes.

        For a program that has no threads yet: what it has imported need not be imported again. Its end is that of the
        engine that is opened with it.
        """
        return fork_zygote() if count_workers(settings) else None

    @classmethod
    async def open(
        cls,
        settings: Settings,
        metrics: Meter | None = None,
        progress: Callable[[str], None] | None = None,
        prefork: ZygoteProcess | None = None,
    ) -> Engine:
        """Load the model and warm it up; ``progress`` is called from another thread with the state of compilation.

        Raises:
            ModelError, adapters.UnsupportedModelError: the model cannot be hosted.
            adapters.UnknownStrategyError: the default strategy does not exist.
            adapters.ParameterError: no temperature was fitted for the default strategy, which needs one.
            CalibrationError: the file of temperatures cannot be read.
        """
        meter, workers = CountingMeter(metrics), count_workers(settings)
        if workers:
            return cls(settings, await EngineCluster.open(settings, meter, workers, progress, prefork), meter)
        return cls(settings, await EngineCore.open(settings, meter, progress), meter)

    @property
    def hosted(self) -> Hosted:
        """The hosted model."""
        return self.core.hosted

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
            check_count(len(call.images), self.settings.max_images)
            # Not in a thread, where a later request of the stream could overtake this one. 2 GB take a second.
            content = b"" if call.request_id is None else fingerprint(call)
            request = CoreCall(call, len(call.images), content, arrived)
            prediction = await self.core.predict(request, partial(self._pixels, call))
        except BaseException as error:
            self.metrics.record_failure(type(error).__name__, 1000 * (time.perf_counter() - arrived))
            raise
        self.metrics.record_prediction(prediction, len(call.images))
        return prediction

    async def reset(self, stream: str | None = None, strategy: str | None = None) -> int:
        """Drop the states of a stream, of a strategy, of both or all, and return their number.

        Earlier requests take their step first, later ones start from the initial state.

        Raises:
            adapters.UnknownStrategyError: no strategy has that name.
        """
        name = None if strategy is None else resolve(strategy, {}).name
        return await self.core.reset(ResetScope(stream, name))

    async def moments(self, images: Sequence[bytes] | Tensor) -> Tensor:
        """Return the moments that a baseline is made of, see `adapters.AdaptiveModel.moments`; no state changes.

        Raises:
            RequestError: an image cannot be read.
        """
        return await self.core.moments(await self._decode_stage(images))

    async def streams(self) -> StreamsInfo:
        """Describe all states, without their numbers."""
        return await self.core.streams()

    async def stream(self, name: str) -> list[StreamInfo]:
        """Describe the states of one stream, one for each strategy with its hyperparameters.

        Raises:
            StreamNotFoundError: the stream has no state.
        """
        return await self.core.stream(name)

    async def explanations(self, limit: int) -> list[tuple[str, StreamExplanation]]:
        """Explain the states used last, each under the name of its strategy."""
        return await self.core.explanations(limit)

    def describe(self) -> ModelInfo:
        """Describe the hosted model."""
        return self.core.describe()

    async def memory(self) -> list[MemoryUse]:
        """Return the parts of the memory budget that requests hold once they were received."""
        decoded = MemoryUse("decoded", self._budget.lent, self._budget.capacity)
        return [decoded, self._decode_stage.memory, await self.core.lesson_memory()]

    def statistics(self) -> EngineCounters:
        """Return the counters since the engine was opened."""
        return self.metrics.counters

    async def snapshot(self) -> dict[str, Any]:
        """Return all states as plain types and tensors, in the form of `adapters.AdaptiveModel.state_dict`."""
        return await self.core.snapshot()

    @property
    def outage(self) -> str:
        """The reason why only a restart helps, empty where none is needed."""
        if self.core.outage:
            return self.core.outage
        is_hung = max(self.core.busy_s, self._decode_stage.busy_s) >= HUNG_S
        return f"a forward or the decoding of an image has not ended for {HUNG_S:g} s" if is_hung else ""

    @property
    def alive(self) -> bool:
        """False if only a restart helps, see `outage`."""
        return not self.outage

    @property
    def processes(self) -> list[EngineProcess]:
        """The processes that run forwards; none where this one does."""
        return self.core.processes

    async def ping(self, deadline_s: float) -> bool:
        """Return whether the model thread runs a job within the deadline, and images can be decoded."""
        try:
            checks = asyncio.gather(self.core.ping(deadline_s), self._decode_stage.check())
            return all(await asyncio.wait_for(checks, deadline_s))
        except (TimeoutError, EngineClosedError):
            return False

    async def close(self, patience_s: float | None = None) -> None:
        """Finish the running forward within ``patience_s``, refuse all waiting requests, and end the threads."""
        closing = asyncio.ensure_future(self.core.close(patience_s))
        await asyncio.sleep(0)  # it refuses waiting requests before their images are
        self._decode_stage.close()
        if names := await closing:
            server_log.info("stopping: %d states of %d streams are dropped", len(names), len(set(names)))

    @asynccontextmanager
    async def _pixels(self, call: Call, flow: Flow) -> AsyncIterator[DecodedImages]:
        """Decode the images of a call, and hold the budget that they take until they are no longer needed."""
        size = self._decode_stage.bytes_of(call.images)
        async with self._budget.lent_to(flow, size):
            yield DecodedImages(await self._decode_stage(call.images, flow), time.perf_counter())
