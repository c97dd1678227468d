"""What `renorm serve` runs uvicorn with."""

from __future__ import annotations

import asyncio

import pytest
import uvicorn

from app.cli.server import _config
from app.http.connections.connection import Connection
from app.http.connections.door import Door
from app.http.connections.limits import descriptor_limit, limits_of
from app.http.connections.live import LiveConnection
from app.resources.memory import Ledger
from app.settings import Settings


async def nothing(scope: object, receive: object, send: object) -> None:
    """An application."""


def configured(settings: Settings) -> tuple[uvicorn.Config, Door]:
    loop = asyncio.new_event_loop()
    try:
        door = Door(limits_of(settings))
        config = _config(settings, nothing, Ledger(1000, 1000), door)
        config.load()
        http = config.http_protocol_class(
            config=config, server_state=uvicorn.Server(config).server_state, app_state={}, _loop=loop
        )  # type: ignore[call-arg]
        assert isinstance(http, Connection)
        assert http.ws_protocol_class is not None
        live = http.ws_protocol_class(config=config, server_state=http.server_state, app_state={}, _loop=loop)  # type: ignore[call-arg]
        assert isinstance(live, LiveConnection)
    finally:
        loop.close()
    return config, door


def test_keep_alive_outlasts_common_client_pools_and_is_advertised() -> None:
    config, _ = configured(Settings())
    longest_pool_s = 60  # nginx, load balancers of clouds; httpx has 5
    assert config.timeout_keep_alive == 75 > longest_pool_s
    assert (b"keep-alive", b"timeout=70") in config.encoded_headers
    config, _ = configured(Settings(keep_alive_seconds=2.5))
    assert config.timeout_keep_alive == 2.5
    assert not dict(config.encoded_headers)


def test_the_bounds_are_those_of_the_settings() -> None:
    _, door = configured(Settings(max_head_bytes=2048, max_head_lines=7, head_seconds=1, body_seconds=2, max_bodies=3))
    limits = door.limits
    assert (limits.head_bytes, limits.head_lines, limits.head_seconds) == (2048, 7, 1)
    assert (limits.body_seconds, limits.bodies) == (2, 3)


@pytest.mark.parametrize(
    ("descriptors", "grpc_port", "connections"),
    [(1024, None, 768), (1024, 0, 512), (256, None, 192), (64, None, 16), (1_000_000, None, 10_000), (None, 0, 10_000)],
    ids=str,
)
def test_connections_leave_descriptors_for_everything_else(
    monkeypatch: pytest.MonkeyPatch, descriptors: int | None, grpc_port: int | None, connections: int
) -> None:
    monkeypatch.setattr("app.http.connections.limits.descriptor_limit", lambda: descriptors)
    limits = limits_of(Settings(grpc_port=grpc_port))
    assert (limits.connections, limits.per_address) == (connections, connections // 2)
    limits = limits_of(Settings(max_connections=9, max_connections_per_address=0))
    assert (limits.connections, limits.per_address, limits.descriptors) == (9, 0, descriptors)


def test_the_descriptors_of_this_process_are_known() -> None:
    assert descriptor_limit() is None or descriptor_limit() > 16  # type: ignore[operator]
