"""The front's end of the zygote: it starts that program, and asks it for engines."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import socket
from collections.abc import Callable
from typing import Any

from app.errors import EngineClosedError, ModelError
from app.models.hosted import Hosted
from app.serving.processes.prefork import ZygoteProcess, start_zygote
from app.serving.processes.slab import Slab
from app.serving.processes.zygote import COMMAND, ENDED, FAILED, FORKED, LENGTH, PROGRESS, READY
from app.settings import Settings
from app.types import ModelInfo

EXIT_S = 2.0
"""Seconds to learn how a process ended, after its link did."""


class Launcher:
    """Starts the zygote, and engines from it; a new zygote is started where the last one has ended."""

    def __init__(
        self,
        settings: Settings,
        progress: Callable[[str], None] | None = None,
        prefork: ZygoteProcess | None = None,
    ) -> None:
        self._settings, self._progress, self._prefork = settings, progress or (lambda _: None), prefork
        self._process: ZygoteProcess | None = None
        self._control: socket.socket | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[tuple[Hosted, ModelInfo]] | None = None
        self._pids: dict[int, asyncio.Future[int]] = {}  # by the number of the command
        self._exits: dict[int, asyncio.Future[int]] = {}  # by process id
        self._commands = 0
        self._starting = asyncio.Lock()

    async def start(self) -> tuple[Hosted, ModelInfo]:
        """Start the zygote, and return what it hosts, without the network.

        Raises:
            ModelError, adapters.AdapterError, CalibrationError: the model cannot be hosted.
        """
        process, self._prefork = self._prefork or start_zygote(), None
        self._process = process
        body = pickle.dumps(self._settings)
        reader, writer = await asyncio.open_connection(sock=process.control.dup())
        writer.write(len(body).to_bytes(LENGTH, "little") + body)
        self._control, self._ready = process.control, asyncio.get_running_loop().create_future()
        self._reading = asyncio.ensure_future(self._read(reader, writer))
        return await self._ready

    async def fork(self, slab: Slab) -> tuple[socket.socket, int]:
        """Start an engine, and return this end of its link, and its process id.

        Raises:
            EngineClosedError: the zygote has ended.
        """
        if self._control is None:
            raise EngineClosedError("the process that starts engines has ended", hint="restart the server")
        self._commands += 1
        number = self._commands
        near_end, far_end = socket.socketpair()
        pid = self._pids[number] = asyncio.get_running_loop().create_future()
        with far_end:
            socket.send_fds(self._control, [COMMAND.pack(number)], [far_end.fileno(), slab.descriptor])
        try:
            return near_end, await pid
        except BaseException:
            near_end.close()
            raise

    async def restore(self) -> None:
        """Start another zygote if the last one has ended."""
        async with self._starting:
            if self._control is None:
                await self.start()

    async def exit_of(self, pid: int) -> str:
        """Return how an engine ended, in words."""
        future = self._exits.setdefault(pid, asyncio.get_running_loop().create_future())
        try:
            status = await asyncio.wait_for(asyncio.shield(future), EXIT_S)
        except TimeoutError:
            return "it closed its link"
        finally:
            self._exits.pop(pid, None)
        if status >= 0:
            return f"it exited with status {status}"
        with contextlib.suppress(ValueError):
            return f"{signal.Signals(-status).name} ended it"
        return f"signal {-status} ended it"

    def kill(self, pid: int) -> None:
        """Kill an engine whose end was not reported yet, so that its process id is still its own."""
        if not (pid in self._exits and self._exits[pid].done()):
            os.kill(pid, signal.SIGKILL)

    async def close(self) -> None:
        """End the zygote."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        if self._process is not None:
            await asyncio.to_thread(self._process.end)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(LENGTH), "little")
                self._receive(*pickle.loads(await reader.readexactly(length)))  # noqa: S301 - of our own program
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass
        finally:
            writer.close()
            self._end()

    def _receive(self, kind: str, *parts: Any) -> None:
        if kind == PROGRESS:
            self._progress(*parts)
        elif kind == READY and self._ready is not None and not self._ready.done():
            self._ready.set_result((parts[0], parts[1]))
        elif kind == FAILED and self._ready is not None and not self._ready.done():
            self._ready.set_exception(parts[0])
        elif kind == FORKED:
            number, pid = parts
            self._pids.pop(number).set_result(pid)
        elif kind == ENDED:
            pid, status = parts
            future = self._exits.setdefault(pid, asyncio.get_running_loop().create_future())
            if not future.done():
                future.set_result(status)

    def _end(self) -> None:
        """Let nobody wait for a zygote that has ended."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(ModelError("the process that loads the model ended", hint="see its output above"))
            self._ready.exception()
        for future in self._pids.values():
            if not future.done():
                future.set_exception(EngineClosedError("the process that starts engines has ended"))
        self._pids.clear()
