"""The program that loads the model once, and forks the engine processes, which share its memory until they write to it.

A process forked from a warm model is ready within milliseconds, and has its own copy only of what it changes: weights,
code and libraries are in memory once, whatever the number of engines. It has a single thread, as forking demands.
"""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from adapters import load_plugins
from app.models import load
from app.observability.logs import set_up
from app.resources.event_loop import loop_factory
from app.serving.core import EngineCore
from app.serving.processes.core_server import CoreServer, RelayMeter
from app.serving.processes.errors import portable
from app.serving.processes.inline_worker import InlineWorker
from app.serving.processes.link import Link
from app.serving.processes.slab import Slab
from app.settings import Settings

COMMAND = struct.Struct("<q")
"""A command of the front: the number of the engine to fork. Its link and its slab come with it as descriptors."""

READY, FAILED, PROGRESS, FORKED, ENDED = "ready", "failed", "progress", "forked", "ended"
"""The kinds of messages to the front."""

LENGTH = 4


def main(descriptor: int) -> None:
    """Load the model that the front asks for over the socket ``descriptor``, then fork engines until it ends."""
    for ignored in (signal.SIGINT, signal.SIGTERM):  # the front decides when its engines end
        signal.signal(ignored, signal.SIG_IGN)
    control = socket.socket(fileno=descriptor)
    send = partial(_send, control)
    try:
        settings = pickle.loads(_read(control, int.from_bytes(_read(control, LENGTH), "little")))  # noqa: S301 - ours
        core, meter = _prepare(settings, lambda text: send(PROGRESS, text))
    except Exception as error:
        send(FAILED, portable(error))
        return
    send(READY, replace(core.hosted, network=nn.Identity(), baseline=None), core.describe())
    gc.collect()
    gc.freeze()  # a collection would write to every object, and so copy the memory that is shared
    _fork_engines(control, partial(_run_engine, core, meter))


def _prepare(settings: Settings, progress: Callable[[str], None]) -> tuple[EngineCore, RelayMeter]:
    set_up(settings)
    load_plugins()
    meter = RelayMeter()
    # One thread until it has forked: a pool of threads would not survive that.
    core = EngineCore(settings.model_copy(update={"threads": 1}), load(settings), meter, InlineWorker())
    core.warm_up(progress)
    core.settings = settings
    return core, meter


def _fork_engines(control: socket.socket, run: Callable[[socket.socket, int], None]) -> None:
    """Fork an engine for each command, and tell the front when one has ended."""
    wakeup, woken = socket.socketpair()
    for end in (wakeup, woken):
        end.setblocking(False)
    signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)

    poll = select.poll()
    for end in (control, wakeup):
        poll.register(end, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == wakeup.fileno():
                wakeup.recv(4096)
                _report_ended(control)
                continue
            command, descriptors, _, _ = socket.recv_fds(control, COMMAND.size, 2)
            if not command:
                return  # the front has ended; the engines see that on their links
            (number,) = COMMAND.unpack(command)
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for end in (control, wakeup, woken):
                    end.close()
                run(socket.socket(fileno=descriptors[0]), descriptors[1])
            for inherited in descriptors:
                os.close(inherited)
            _send(control, FORKED, number, pid)


def _report_ended(control: socket.socket) -> None:
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            _send(control, ENDED, pid, os.waitstatus_to_exitcode(status))
    except ChildProcessError:  # none is left
        return


def _run_engine(core: EngineCore, meter: RelayMeter, end: socket.socket, slab_descriptor: int) -> None:
    """Be an engine until the front closes the link, and end this process."""
    status = 1
    try:
        if isinstance(core.settings.threads, int):
            torch.set_num_threads(core.settings.threads)
        slab = Slab(os.fstat(slab_descriptor).st_size, slab_descriptor)
        server = CoreServer(core, slab, meter)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(server.serve(partial(Link.connect, end)))
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # without what the zygote would do at its end


def _send(control: socket.socket, *message: Any) -> None:
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    try:
        control.sendall(len(body).to_bytes(LENGTH, "little") + body)
    except (BrokenPipeError, ConnectionResetError):  # the front has ended
        os._exit(0)


def _read(control: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = control.recv(count - len(parts))
        if not part:
            os._exit(0)
        parts += part
    return bytes(parts)
