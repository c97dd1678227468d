"""/v2: the Open Inference Protocol, and its extensions that apply to one hosted model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from app.errors import UnsupportedError
from app.http.raw_route import RawRoute
from app.http.requests.strict_json import load_object
from app.http.routes import v2_schemas as schemas
from app.http.routes.health import healthz, readyz
from app.http.routes.v2_docs import BINARY_ANSWER, INFER_DOCS, errors, path_parameters
from app.http.routes.v2_infer import infer, the_hosting_engine
from app.oip import metadata
from app.server_state import state_of

Endpoint = Callable[[Request], Awaitable[Response]]

router = APIRouter(prefix="/v2", tags=["protocol"], route_class=RawRoute)


async def live(request: Request) -> Response:
    """Responds 200 while the server runs, also while the model is being loaded. Restart it otherwise."""
    response = await healthz(request)
    return response if isinstance(response, JSONResponse) else JSONResponse({"live": True})


async def ready(request: Request) -> Response:
    """Responds 200 once the model is warm and its thread has answered a ping, and 503 otherwise. Changes no state."""
    response = await readyz(request)
    return response if isinstance(response, JSONResponse) else JSONResponse({"ready": True, "live": True})


async def model_ready(request: Request) -> Response:
    """Responds 200 once the model is warm and its thread has answered a ping, and 503 otherwise. Changes no state."""
    name = the_hosting_engine(request).hosted.name
    response = await readyz(request)
    return response if isinstance(response, JSONResponse) else JSONResponse({"name": name, "ready": True})


async def server_metadata(_: Request) -> Response:
    """Name and version of the server, and the protocol's extensions that it supports."""
    return JSONResponse(metadata.server_metadata())


async def model_metadata(request: Request) -> Response:
    """Names, datatypes and shapes of the model's inputs and outputs. -1 is a dimension of any length."""
    return JSONResponse(metadata.model_metadata(the_hosting_engine(request).hosted))


async def model_config(request: Request) -> Response:
    """The model's configuration as Triton writes it. Dimensions leave out the batch."""
    return JSONResponse(metadata.model_config(the_hosting_engine(request).hosted, state_of(request.app).settings))


async def model_statistics(request: Request) -> Response:
    """Counts and durations since the server started. Images per forward: `inference_count` by `execution_count`."""
    engine = the_hosting_engine(request)
    return JSONResponse(metadata.model_statistics(engine.hosted, engine.statistics()))


async def all_statistics(request: Request) -> Response:
    """Counts and durations of every model, which is one, since the server started."""
    engine = state_of(request.app).require_engine()
    return JSONResponse(metadata.model_statistics(engine.hosted, engine.statistics()))


async def repository_index(request: Request) -> Response:
    """List of models: the hosted one. No body is needed."""
    return JSONResponse(metadata.repository_index(state_of(request.app).require_engine().hosted))


async def load(request: Request) -> Response:
    """Responds 200 for the hosted model, which is loaded already. It cannot be changed while the server runs."""
    name = the_hosting_engine(request).hosted.name
    body = await request.body()
    if body and load_object(body, "body").get("parameters"):
        raise UnsupportedError(
            "the hosted model cannot be reloaded with parameters",
            hint="restart the server with other options",
            location="parameters",
        )
    return JSONResponse({"name": name, "ready": True})


async def unload(request: Request) -> Response:
    """Refuse: without its one model there is nothing to serve."""
    name = the_hosting_engine(request).hosted.name
    raise UnsupportedError(f"{name!r} cannot be unloaded: it is the only hosted model", hint="stop the server")


async def unsupported(request: Request) -> Response:
    """Refuse an extension that the server does not support."""
    raise UnsupportedError(
        f"{request.method} {request.url.path} is an extension of the protocol that is not supported",
        hint="GET /v2 lists the supported extensions",
    )


def _add(
    path: str,
    endpoint: Endpoint,
    summary: str,
    response_model: Any,
    *statuses: int,
    method: str = "GET",
    name: str = "",
    docs: dict[str, Any] | None = None,
    responses: dict[int | str, dict[str, Any]] | None = None,
) -> None:
    operation = docs or {}
    router.add_api_route(
        path,
        endpoint,
        methods=[method],
        name=f"v2_{name or endpoint.__name__}",
        summary=summary,
        response_model=response_model,
        responses={**errors(path, *statuses), **(responses or {})},
        openapi_extra={**operation, "parameters": [*path_parameters(path), *operation.get("parameters", [])]},
    )


def _add_model(
    path: str, endpoint: Endpoint, summary: str, response_model: Any, *statuses: int, **options: Any
) -> None:
    """Add a call of a model, with and without its version in the path; ``options`` are those of `_add`."""
    for base, suffix in (("/models/{model}", ""), ("/models/{model}/versions/{version}", "_of_version")):
        _add(base + path, endpoint, summary, response_model, *statuses, name=endpoint.__name__ + suffix, **options)


_add("", server_metadata, "Describe the server", schemas.ServerMetadataResponse)
router.add_api_route("/", server_metadata, name="v2_slash", include_in_schema=False)
_add("/health/live", live, "Is the process alive?", schemas.LiveResponse, 503)
_add("/health/ready", ready, "Does the model answer?", schemas.ServerReadyResponse, 503)
# Before the paths with a model's name, which would match it.
_add("/models/stats", all_statistics, "Show the statistics of all models", schemas.StatisticsResponse, 503)
_add_model("", model_metadata, "Describe the model", schemas.ModelMetadataResponse, 503)
_add_model("/ready", model_ready, "Does the model answer?", schemas.ModelReadyResponse, 503)
_add_model("/config", model_config, "Show the model's configuration", schemas.ModelConfigResponse, 503)
_add_model("/stats", model_statistics, "Show the model's statistics", schemas.StatisticsResponse, 503)
_add_model(
    "/infer",
    infer,
    "Infer from tensors, and let their stream adapt",
    schemas.InferResponse,
    *(400, 413, 415, 429, 501, 503, 504),
    method="POST",
    docs=INFER_DOCS,
    responses=BINARY_ANSWER,
)
_add("/repository/index", repository_index, "List the models", list[schemas.IndexEntry], 413, 503, method="POST")
_add(
    "/repository/models/{model}/load",
    load,
    "Load the model, which is loaded already",
    schemas.ModelReadyResponse,
    *(400, 401, 403, 413, 501, 503),
    method="POST",
)
router.add_api_route("/repository/models/{model}/unload", unload, methods=["POST"], include_in_schema=False)
for _path in ("/trace/setting", "/models/{model}/trace/setting", "/logging"):
    router.add_api_route(_path, unsupported, methods=["GET", "POST"], name=_path, include_in_schema=False)
for _memory in ("systemsharedmemory", "cudasharedmemory"):
    _path = f"/{_memory}/{{rest:path}}"
    router.add_api_route(_path, unsupported, methods=["GET", "POST"], name=_memory, include_in_schema=False)
