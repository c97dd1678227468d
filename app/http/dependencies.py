"""Dependencies of routes: the engine and the settings of the application."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import State
from starlette.requests import HTTPConnection

from app.engine import Engine
from app.errors import EngineClosedError
from app.settings import Settings


def the_engine(request: HTTPConnection) -> Engine:
    """Return the open engine.

    Raises:
        EngineClosedError: the server is starting or shutting down.
    """
    return engine_of(request.app.state)


def engine_of(state: State) -> Engine:
    """Return the open engine of the application with that state; see `the_engine`."""
    engine: Engine | None = state.engine
    if engine is None:
        raise EngineClosedError("the server is starting or shutting down", hint="try again, or wait for /readyz")
    return engine


async def the_ready_engine(request: Request, deadline_s: float) -> Engine:
    """Return the engine, once its model thread has answered a ping. Changes no state.

    Raises:
        EngineClosedError: it is not open, is about to close, or did not answer in time; the message says which.
    """
    return await ready_engine_of(request.app.state, deadline_s)


async def ready_engine_of(state: State, deadline_s: float) -> Engine:
    """Return the ready engine of the application with that state; see `the_ready_engine`."""
    if state.draining:
        raise EngineClosedError("the server is shutting down", hint="send the request to another server")
    engine = engine_of(state)
    if not await engine.ping(deadline_s):
        raise EngineClosedError(
            f"the model thread or the decoders did not answer within {deadline_s:g} s",
            hint="retry, or restart the server",
        )
    return engine


def the_settings(request: HTTPConnection) -> Settings:
    """Return the server's settings."""
    settings: Settings = request.app.state.settings
    return settings


# Coroutines, because FastAPI sends plain functions through a thread pool, each of them for every request.
async def _engine(request: Request) -> Engine:
    return the_engine(request)


async def _settings(request: Request) -> Settings:
    return the_settings(request)


OpenEngine = Annotated[Engine, Depends(_engine)]
ServerSettings = Annotated[Settings, Depends(_settings)]
