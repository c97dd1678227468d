"""What doors ask the application for."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from app.engine import Engine
from app.errors import EngineClosedError
from app.settings import Settings


def get_engine(request: Request) -> Engine:
    """The open engine.

    Raises:
        EngineClosedError: the server is starting or ending.
    """
    engine: Engine | None = request.app.state.engine
    if engine is None:
        raise EngineClosedError("the server is starting or ending", hint="try again, or wait for /readyz")
    return engine


def get_settings(request: Request) -> Settings:
    """What the server runs with."""
    settings: Settings = request.app.state.settings
    return settings


OpenEngine = Annotated[Engine, Depends(get_engine)]
ServerSettings = Annotated[Settings, Depends(get_settings)]
