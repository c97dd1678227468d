"""The server around the application: it answers while the model is being opened, and ends within a budget."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer

from app import __version__
from app.cli.sockets import address
from app.cli.startup import open_engine
from app.http.connections.door import Door
from app.http.connections.limits import limits_of
from app.observability.logs import server as server_log

if TYPE_CHECKING:
    import uvicorn

    from app.engine import Engine
    from app.observability.meter import Meter
    from app.resources.memory import Ledger
    from app.settings import Settings
    from app.types import ModelInfo

KEEP_ALIVE_MARGIN_S = 5
"""Seconds by which idle connections outlive the advertised ``Keep-Alive``: clients should close them, so that no server
closes one just as a request is sent. For clients that ignore it the setting's default is above the usual pools (5 s in
httpx, 60 s in nginx and in cloud load balancers)."""

PING_S, SILENT_S = 20.0, 300.0
"""Seconds between pings on a live connection, and until one that does not answer them is closed. A client that is held
up answers late: its pong stands behind all the frames that the network holds."""


async def host(settings: Settings, sockets: list[socket.socket], prefork: Any = None) -> None:
    """Serve until a signal: alive at once, ready when the model is warm. ``prefork`` is that of `Engine.prefork`.

    Raises:
        typer.Exit: the model cannot be hosted; the reason has been printed.
    """
    import uvicorn

    from app.main import create_app
    from app.server_state import state_of

    failed: list[BaseException] = []

    async def open_and_announce(_: Settings, metrics: Meter) -> Engine:
        try:
            engine = await open_engine(settings, metrics, prefork)
        except BaseException as error:
            failed.append(error)
            server.should_exit = True
            raise
        _freeze_garbage()
        announce(settings, engine.describe(), address(settings.host, sockets[0]), state.grpc_port)
        return engine

    app = create_app(settings, open_and_announce, background=True)
    state = state_of(app)

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # First of all, so that load balancers learn of it before connections close.
            state.is_draining = door.is_draining = True
            state.deadline = time.monotonic() + settings.drain_seconds
            super().handle_exit(sig, frame)

    door = Door(limits_of(settings))
    server = Server(_config(settings, app, state.memory, door))
    with _unfrozen_afterwards():
        await server.serve(sockets)
    if failed and not isinstance(failed[0], asyncio.CancelledError):
        raise failed[0]


def _config(settings: Settings, app: object, ledger: Ledger, door: Door) -> uvicorn.Config:
    import uvicorn

    from app.http.connections.connection import Connection
    from app.http.connections.live import counted
    from app.http.connections.live_protocol import live_protocol

    advertised = math.floor(settings.keep_alive_seconds - KEEP_ALIVE_MARGIN_S)

    logging.getLogger("uvicorn.error").addFilter(_is_useful)
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=partial(Connection, door=door),  # type: ignore[arg-type]
        ws=counted(door, live_protocol(ledger)),
        ws_max_size=settings.max_image_bytes,
        ws_ping_interval=PING_S,
        ws_ping_timeout=SILENT_S,
        ws_per_message_deflate=False,  # images are compressed already
        lifespan="on",
        log_config=None,
        access_log=False,  # `app.http.middleware.observation` writes it
        server_header=False,
        headers=[("keep-alive", f"timeout={advertised}")] if advertised > 0 else [],
        timeout_keep_alive=settings.keep_alive_seconds,  # type: ignore[arg-type]  # it is handed to call_later
        timeout_graceful_shutdown=math.ceil(settings.drain_seconds),
    )


def _is_useful(record: logging.LogRecord) -> bool:
    """Drop the error that uvicorn logs for each WebSocket that was refused with an HTTP response.

    It mistakes such a handshake for an unfinished one (its pull request 3138).
    """
    return "returned without completing handshake" not in record.getMessage()


def _freeze_garbage() -> None:
    """Exempt all of PyTorch from garbage collection, which would stop a request for a tenth of a second."""
    gc.collect()
    gc.freeze()


@contextmanager
def _unfrozen_afterwards() -> Iterator[None]:
    try:
        yield
    finally:
        gc.unfreeze()


def announce(settings: Settings, info: ModelInfo, url: str, grpc_port: int | None = None) -> None:
    """Announce model and address of a started server: as text, or as a line of the JSON log."""
    if settings.log_format == "text":
        typer.echo(welcome(info, url, grpc_port, keyed=settings.keyed))
        return
    parts = {"model": info.name, "url": url, "grpc_port": grpc_port, "sites": len(info.sites), "device": info.device}
    server_log.info("ready; streams are kept in memory and lost when the server stops", extra={"parts": parts})


def welcome(info: ModelInfo, url: str, grpc_port: int | None = None, *, keyed: bool = False) -> str:
    """Return the message for a terminal in which the server was started."""
    grpc = "" if grpc_port is None else f"\n  gRPC           {url.partition('://')[2].rpartition(':')[0]}:{grpc_port}"
    key = " -H 'Authorization: Bearer KEY'" if keyed else ""
    return f"""\
Renorm {__version__} hosts {info.name} ({info.architecture}): {len(info.classes)} classes, \
{len(info.sites)} BatchNorm site{"s" * (len(info.sites) != 1)}, on {info.device} in {info.dtype}. \
Default strategy: {info.default_strategy}.

  Listening on   {url}{grpc}
  Documentation  {url}/docs
  First request  curl{key} -F files=@image.jpg '{url}/v1/predict?stream=camera-1'

The state of streams is kept in memory and lost when the server stops.
"""
