"""Several engine processes as one core: each stream belongs to one of them."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable
from itertools import chain
from typing import Any

from torch import Tensor

from app.errors import BusyError, EngineClosedError, ModelError
from app.models.device import device_of
from app.models.hosted import Hosted
from app.observability.meter import Meter
from app.resources.machine import usable_bytes
from app.resources.memory import MemoryUse, parts_of
from app.serving.core_contract import CoreCall, PixelSource
from app.serving.processes.launcher import Launcher
from app.serving.processes.prefork import ZygoteProcess
from app.serving.processes.remote_core import ASK_S, RemoteCore
from app.serving.processes.rendezvous import engine_of
from app.serving.processes.slab import Slab
from app.serving.streams import ResetScope
from app.settings import Settings
from app.types import EngineProcess, ModelInfo, Prediction, StreamExplanation, StreamInfo, StreamsInfo


class EngineCluster:
    """A core whose streams are spread over processes by their names, see `app.serving.processes.rendezvous`."""

    def __init__(self, launcher: Launcher, cores: list[RemoteCore], hosted: Hosted, info: ModelInfo) -> None:
        self.cores, self.hosted = cores, hosted
        self._launcher, self._info = launcher, info

    @classmethod
    async def open(
        cls,
        settings: Settings,
        metrics: Meter,
        workers: int,
        progress: Callable[[str], None] | None = None,
        prefork: ZygoteProcess | None = None,
    ) -> EngineCluster:
        """Load the model once, in a zygote that was forked already or in a new one, and start ``workers`` engines.

        Raises:
            ModelError, adapters.AdapterError, CalibrationError: the model cannot be hosted, or this system has no
                processes that share memory.
        """
        if not (hasattr(os, "fork") and hasattr(os, "memfd_create")):
            raise ModelError("engines in processes of their own need Linux", hint="start with --workers 0")
        launcher = Launcher(share(settings, workers), progress, prefork)
        slabs = [Slab(parts_of(settings).decoded) for _ in range(workers)]
        names = math.ceil(settings.max_streams / workers)
        cores = [RemoteCore(index, launcher, slab, metrics, names) for index, slab in enumerate(slabs)]
        try:
            hosted, info = await launcher.start()
            await asyncio.gather(*(core.start() for core in cores))
        except (EngineClosedError, BusyError) as error:
            await launcher.close()
            raise ModelError("an engine process ended before it was ready", hint="see its output above") from error
        except BaseException:
            await launcher.close()
            raise
        return cls(launcher, cores, hosted, info)

    @property
    def outage(self) -> str:
        """The reason why an engine was given up, empty where none was."""
        return next((core.outage for core in self.cores if core.outage), "")

    @property
    def processes(self) -> list[EngineProcess]:
        """The engines that run."""
        return [EngineProcess(core.index, core.pid, core.restarts) for core in self.cores if core.pid is not None]

    @property
    def busy_s(self) -> float:
        """Seconds for which an engine has been silent though it owes an answer."""
        return max(core.busy_s for core in self.cores)

    async def predict(self, request: CoreCall, pixels: PixelSource) -> Prediction:
        """See `app.serving.core.EngineCore.predict`."""
        return await self._core_of(request.call.stream).predict(request, pixels)

    async def reset(self, scope: ResetScope) -> int:
        """See `app.serving.core.EngineCore.reset`."""
        if scope.stream is not None:
            return await self._core_of(scope.stream).reset(scope)
        return sum(await asyncio.gather(*(core.reset(scope) for core in self.cores)))

    async def moments(self, pixels: Tensor) -> Tensor:
        """See `app.serving.core.EngineCore.moments`."""
        moments: Tensor = await self.cores[0].ask("moments", pixels)
        return moments

    async def streams(self) -> StreamsInfo:
        """See `app.serving.core.EngineCore.streams`."""
        parts: list[StreamsInfo] = await self._ask_all("streams")
        states = sorted(chain.from_iterable(part.streams for part in parts), key=lambda state: state.age_s)
        totals = ([getattr(part, name) for part in parts] for name in ("bytes", "capacity_bytes", "evictions"))
        return StreamsInfo(states, *map(sum, totals))

    async def stream(self, name: str) -> list[StreamInfo]:
        """See `app.serving.core.EngineCore.stream`."""
        states: list[StreamInfo] = await self._core_of(name).ask("stream", name, timeout_s=ASK_S)
        return states

    async def explanations(self, limit: int) -> list[tuple[str, StreamExplanation]]:
        """See `app.serving.core.EngineCore.explanations`: equally many of each engine."""
        parts = await self._ask_all("explanations", math.ceil(limit / len(self.cores)))
        return list(chain.from_iterable(parts))[:limit]

    async def lesson_memory(self) -> MemoryUse:
        """See `app.serving.core.EngineCore.lesson_memory`."""
        parts: list[MemoryUse] = await self._ask_all("lesson_memory")
        return MemoryUse(parts[0].kind, sum(part.held for part in parts), sum(part.capacity for part in parts))

    async def snapshot(self) -> dict[str, Any]:
        """See `app.serving.core.EngineCore.snapshot`."""
        parts: list[dict[str, Any]] = await self._ask_all("snapshot", timeout_s=None)
        return {**parts[0], "streams": [state for part in parts for state in part["streams"]]}

    def describe(self) -> ModelInfo:
        """Describe the hosted model."""
        return self._info

    async def ping(self, deadline_s: float) -> bool:
        """Return whether every engine comes to a job within the deadline."""
        try:
            return all(await self._ask_all("ping", deadline_s, timeout_s=deadline_s))
        except (EngineClosedError, BusyError):
            return False

    async def close(self, patience_s: float | None = None) -> list[str]:
        """End all processes."""
        dropped = await asyncio.gather(*(core.close(patience_s) for core in self.cores))
        await self._launcher.close()
        return list(chain.from_iterable(dropped))

    def _core_of(self, stream: str) -> RemoteCore:
        return self.cores[engine_of(stream, len(self.cores))]

    async def _ask_all(self, method: str, *arguments: Any, timeout_s: float | None = ASK_S) -> list[Any]:
        return await asyncio.gather(*(core.ask(method, *arguments, timeout_s=timeout_s) for core in self.cores))


def share(settings: Settings, engines: int) -> Settings:
    """Return the settings of one of several engines: what is limited for all of them is divided.

    Decoded images are limited by the front, and the requests of one stream by the engine that has it.
    """
    lesson_bytes = settings.max_lesson_bytes or usable_bytes(device_of(settings.device)) // 2
    return settings.model_copy(
        update={
            "max_memory_bytes": max(8, settings.max_memory_bytes // engines),
            "max_lesson_bytes": max(1, lesson_bytes // engines),
            "max_state_bytes": max(1, settings.max_state_bytes // engines),
            "max_streams": math.ceil(settings.max_streams / engines),
            "max_waiting": math.ceil(settings.max_waiting / engines),
        }
    )
