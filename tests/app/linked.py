"""An engine whose core is at the other end of a link, as in a process of its own, but in this process: it can be held
up and looked into."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import cast

from app.errors import EngineClosedError
from app.observability.statistics import CountingMeter
from app.resources.memory import parts_of
from app.serving.core import EngineCore
from app.serving.processes.cluster import EngineCluster
from app.serving.processes.core_server import CoreServer, RelayMeter
from app.serving.processes.launcher import Launcher
from app.serving.processes.link import Link, Message
from app.serving.processes.remote_core import RemoteCore
from app.serving.processes.slab import Slab
from app.settings import Settings


class LoopbackLauncher:
    """Serves a core on this loop instead of forking a process for it. ``ends`` are the sockets of its servers."""

    def __init__(self, core: EngineCore, meter: RelayMeter) -> None:
        self.core, self._meter = core, meter
        self.before: Callable[[Message], None] = lambda _: None  # is called with each message before the server
        self.ends: list[socket.socket] = []
        self._serving: list[asyncio.Task[None]] = []

    async def fork(self, slab: Slab) -> tuple[socket.socket, int]:
        if self.core.batcher._closed:
            raise EngineClosedError("closed")
        ours, theirs = socket.socketpair()
        server = CoreServer(self.core, slab, self._meter)
        receive = server._receive
        server._receive = lambda message: (self.before(message), receive(message))[1]  # type: ignore[method-assign]
        self.ends.append(theirs)
        self._serving.append(asyncio.ensure_future(server.serve(partial(Link.connect, theirs))))
        return ours, 0

    def kill(self, pid: int) -> None:
        pass

    async def restore(self) -> None:
        pass

    async def exit_of(self, pid: int) -> str:
        return f"process {pid} ended"

    async def close(self) -> None:
        await asyncio.wait(self._serving)


class LinkedCore(EngineCluster):
    """A cluster of one core, which it shows."""

    def __init__(self, core: EngineCore, relay: RelayMeter, meter: CountingMeter, settings: Settings) -> None:
        self.inner, self.launcher = core, LoopbackLauncher(core, relay)
        launcher = cast(Launcher, self.launcher)
        remote = RemoteCore(0, launcher, Slab(parts_of(settings).decoded), meter, settings.max_streams)
        super().__init__(launcher, [remote], core.hosted, core.describe())
        self._starting = asyncio.ensure_future(remote.start())

    async def close(self, patience_s: float | None = None) -> list[str]:
        await asyncio.wait([self._starting])  # a cluster is closed once it was opened
        return await super().close(patience_s)
