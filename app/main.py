"""Builds the application: routes, errors, limits, and a lifespan that opens and closes one engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline

from app import __version__
from app.engine import Engine
from app.routes import admin, errors, health, info, predict
from app.routes.limit import BodyLimit
from app.routes.openapi import described
from app.settings import Settings

_DESCRIPTION = """\
Keeps a deployed vision model accurate when its camera, weather or scanner changes: no labels, no retraining.

Every request belongs to a **stream**, an ordered source of images. A **strategy** recalibrates the model's
normalization statistics to the stream, online, and answers. Streams never influence each other.

Try it: `curl -F files=@image.jpg 'http://127.0.0.1:8000/v1/predict?stream=camera-7'`

Every error has one shape: `error` says what was wrong and how to mend it, `code` is for programs, `where` names the
part of the request. A refused request changes no state.
"""

_TAGS = [
    {"name": "predict", "description": "Images in, adapted predictions out."},
    {"name": "model", "description": "What is hosted, and how it can adapt."},
    {"name": "streams", "description": "What is remembered."},
    {"name": "admin", "description": "Needs the admin key, unless the server is reachable from its own machine only."},
    {"name": "health", "description": "For orchestrators."},
]


def create_app(settings: Settings, open_engine: Callable[[Settings], Awaitable[Engine]] = Engine.open) -> FastAPI:
    """The application for these settings. Nothing is loaded before it starts.

    ``open_engine`` makes the engine when the application starts; what it raises ends the start.
    """
    app = FastAPIOffline(
        title="Renorm",
        summary="Test-time adaptation server",
        description=_DESCRIPTION,
        version=__version__,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        openapi_tags=_TAGS,
        lifespan=_lifespan(settings, open_engine),
        responses=described(500),
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.settings, app.state.engine = settings, None
    app.add_middleware(BodyLimit, most=settings.max_body_bytes)
    errors.install(app)
    for door in (predict, info, admin, health):
        app.include_router(door.router)
    app.add_api_route("/", _to_docs, include_in_schema=False)
    return app


def _lifespan(
    settings: Settings, open_engine: Callable[[Settings], Awaitable[Engine]]
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = await open_engine(settings)
        app.state.engine = engine
        try:
            yield
        finally:
            app.state.engine = None
            await engine.close()

    return lifespan


async def _to_docs() -> RedirectResponse:
    return RedirectResponse("/docs", 307)
