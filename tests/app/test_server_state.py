import asyncio
import re
from collections import Counter
from pathlib import Path
from typing import cast

import pytest
from fastapi import FastAPI

from app.engine import Engine
from app.errors import EngineClosedError
from app.server_state import ServerState, state_of
from app.settings import Settings
from tests.app.fakes import Client, FakeEngine

APP = Path(__file__).parents[2] / "app"
BAG = re.compile(r"\bstate\.server\b|\bapp(?:\"\])?\.state\b|\bdatastructures import .*\bState\b")


def held_state(*, is_ready: bool = True) -> tuple[ServerState, FakeEngine]:
    state, engine = ServerState(Settings()), FakeEngine(Settings(), ready=is_ready)
    state.engine = cast(Engine, engine)
    return state, engine


def test_the_state_is_there_before_the_lifespan_and_outlives_it() -> None:
    client = Client(grpc_port=0, max_image_bytes=1000)
    state = client.state
    assert (state.settings, state.engine, state.grpc_port) == (client.settings, None, None)

    async def live() -> None:
        async with client.app.router.lifespan_context(client.app):
            assert state_of(client.app) is state
            assert state.require_engine() is cast(Engine, client.engine)
            assert state.grpc_port
            assert not state.is_draining

    for _ in range(2):  # the second lifespan begins as the first did
        asyncio.run(live())
        assert (state_of(client.app), state.engine, state.is_draining) == (state, None, True)


def test_two_applications_share_no_state() -> None:
    one, other = Client().state, Client().state
    assert one.metrics is not other.metrics
    assert one.memory is not other.memory


def test_the_engine_reports_to_the_metrics_of_its_server() -> None:
    client = Client()
    assert client.get("/healthz").status_code == 200
    assert client.engine.metrics is client.state.metrics


def test_without_an_engine_or_while_draining_calls_are_refused() -> None:
    state = ServerState(Settings())
    for get in (state.require_engine, state.require_serving_engine):
        with pytest.raises(EngineClosedError, match="starting or shutting down"):
            get()
    state, engine = held_state()
    assert state.require_engine() is state.require_serving_engine() is cast(Engine, engine)
    state.is_draining = True
    assert state.require_engine() is cast(Engine, engine)
    with pytest.raises(EngineClosedError, match="the server is shutting down"):
        state.require_serving_engine()


@pytest.mark.parametrize("is_ready", [True, False])
def test_a_ready_engine_has_answered_a_ping(is_ready: bool) -> None:
    state, engine = held_state(is_ready=is_ready)
    if is_ready:
        assert asyncio.run(state.require_ready_engine(2.0)) is cast(Engine, engine)
    else:
        with pytest.raises(EngineClosedError, match="did not answer within 2 s"):
            asyncio.run(state.require_ready_engine(2.0))
    assert engine.deadlines == [2.0]


def test_an_application_without_a_state_is_an_error() -> None:
    with pytest.raises(AttributeError, match="server"):
        state_of(FastAPI())


def test_one_file_alone_reads_the_untyped_state_of_the_application() -> None:
    found = Counter(str(file.relative_to(APP)) for file in APP.rglob("*.py") for _ in BAG.finditer(file.read_text()))
    assert found == {"server_state.py": 2}
