"""What doors ask the application for."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from app.engine import Engine
from app.errors import EngineClosedError
from app.settings import Settings


def the_engine(request: Request) -> Engine:
    """The open engine.

    Raises:
        EngineClosedError: the server is starting or ending.
    """
    engine: Engine | None = request.app.state.engine
    if engine is None:
        raise EngineClosedError("the server is starting or ending", hint="try again, or wait for /readyz")
    return engine


def the_settings(request: Request) -> Settings:
    """What the server runs with."""
    settings: Settings = request.app.state.settings
    return settings


# Coroutines, because FastAPI sends plain functions through a thread pool, each of them for every request.
async def _engine(request: Request) -> Engine:
    return the_engine(request)


async def _settings(request: Request) -> Settings:
    return the_settings(request)


OpenEngine = Annotated[Engine, Depends(_engine)]
ServerSettings = Annotated[Settings, Depends(_settings)]
