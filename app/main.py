"""Builds the application: routes, errors, limits, and a lifespan that opens and closes one engine."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline

from app import __version__
from app.engine import Engine
from app.http.middleware import authentication, observation, security_headers
from app.http.middleware.body_limit import BodyLimit
from app.http.responses import errors
from app.http.responses.openapi import error_responses
from app.http.routes import admin, health, info, live, metrics, predict, predict_stream, v2
from app.http.routes.v2_docs import name_model
from app.observability.meter import Meter
from app.rpc.beside import grpc_beside
from app.server_state import ServerState
from app.settings import Settings

log = logging.getLogger("renorm")

_DESCRIPTION = """\
Keeps a deployed vision model accurate when its camera, weather or scanner changes: no labels, no
retraining. Image classifiers are served so far.

Every request belongs to a **stream**, an ordered source of images. A **strategy** recalibrates the model's
normalization statistics to the stream, online, and answers. Streams never influence each other.

Try it below, or as `curl -F files=@image.jpg 'http://127.0.0.1:8000/v1/predict?stream=camera-7'`

Every error has one shape: `error` says what is wrong and how to fix it, `code` is for programs, `where` names the part
of the request. A refused request changes no state.
"""

_TAGS = [
    {"name": "predict", "description": "Images in, adapted predictions out."},
    {"name": "model", "description": "The hosted model and its strategies."},
    {"name": "streams", "description": "The state of each stream."},
    {"name": "protocol", "description": "The Open Inference Protocol, for clients that speak it already."},
    {"name": "admin", "description": "Needs a key of scope `admin`, unless the server has no keys and is local."},
    {"name": "health", "description": "For orchestrators."},
]


OpenEngine = Callable[[Settings, Meter], Awaitable[Engine]]
BeforeClose = Callable[[Engine], Awaitable[None]]


def create_app(
    settings: Settings,
    open_engine: OpenEngine = Engine.open,
    *,
    background: bool = False,
    before_close: BeforeClose | None = None,
) -> FastAPI:
    """Create the application for these settings. The model is loaded when the application starts.

    ``open_engine`` creates the engine at startup, which reports its events to the given meter; its exceptions abort
    the startup. With ``background`` the application answers meanwhile: it is alive, but not ready. ``before_close`` is
    awaited when all requests are answered and the engine still holds its states, for example to save them.
    """
    state = ServerState(settings)
    app = FastAPIOffline(
        title="Renorm",
        summary="Test-time adaptation server",
        description=_DESCRIPTION.replace("8000", str(settings.port or "PORT")),
        version=__version__,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        openapi_tags=_TAGS,
        lifespan=lambda _: _lifespan(state, open_engine, before_close, background=background),
        responses=error_responses(500),
        generate_unique_id_function=lambda route: route.name,
    )
    state.attach(app)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, ledger=state.memory)
    authentication.install(app, state.access)
    security_headers.install(app, settings)
    errors.install(app)
    doors = (predict, predict_stream, live, info, admin, health, metrics, v2)
    for door in doors:
        app.include_router(door.router)
    observation.install(app, state, [door.router for door in doors])  # the last, so that it wraps all others
    app.add_api_route("/", _to_docs, include_in_schema=False)
    _describe_hosted(app, state)
    return app


def _describe_hosted(app: FastAPI, state: ServerState) -> None:
    """Let the OpenAPI document name the hosted model, once there is one."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
        if state.engine is not None:
            name_model(document, state.engine.hosted.name)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


@asynccontextmanager
async def _lifespan(
    state: ServerState, open_engine: OpenEngine, before_close: BeforeClose | None, *, background: bool
) -> AsyncIterator[None]:
    async def open_and_publish() -> None:
        state.engine = await open_engine(state.settings, state.metrics)

    state.is_draining, state.deadline = False, None
    async with observation.tracing_beside(state):
        opening = asyncio.ensure_future(open_and_publish())
        if not background:
            await opening
        try:
            async with grpc_beside(state):
                yield
        finally:
            state.is_draining = True
            opening.cancel()
            await asyncio.wait([opening])
            if not opening.cancelled():
                opening.exception()  # retrieved here: `open_engine` has reported it already
            engine, state.engine = state.engine, None
            if engine is not None:
                await _close(engine, before_close, state.deadline)


async def _close(engine: Engine, before_close: BeforeClose | None, deadline: float | None) -> None:
    if before_close is not None:
        try:
            await before_close(engine)
        except Exception:
            # Shutdown goes on: a full disk must not keep the port and the memory in use.
            log.exception("the hook before_close failed")
    await engine.close(None if deadline is None else max(0.1, deadline - time.monotonic()))


async def _to_docs() -> RedirectResponse:
    return RedirectResponse("/docs", 307)
