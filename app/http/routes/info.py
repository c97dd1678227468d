"""GET /v1/strategies, /v1/model, /v1/streams: descriptions of strategies, model and streams."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from adapters import COMBINATIONS, STRATEGIES, UnknownStrategyError, kind_of, name_of, parts_of, schema, schema_of
from adapters import strategy as to_strategy
from app.errors import StrategyNotFoundError
from app.http.middleware.authentication import check_admin, check_stream_access, visible_streams
from app.http.requests.fields import RESET, check_stream, gather
from app.http.responses.openapi import error_responses
from app.http.routes.admin import log_reset
from app.schemas import CompositeResponse, ModelResponse, ResetResponse, StrategyResponse, StreamsResponse, StreamState
from app.server_state import state_of
from app.settings import Settings

router = APIRouter(prefix="/v1")


# A coroutine, because FastAPI sends plain functions through a thread pool, each of them for every request.
async def _settings(request: Request) -> Settings:
    return state_of(request.app).settings


ServerSettings = Annotated[Settings, Depends(_settings)]


@router.get("/strategies", summary="List the strategies and their hyperparameters", tags=["model"])
async def strategies(settings: ServerSettings) -> list[StrategyResponse]:
    """Every strategy that a request may name, alone or joined by plus signs, with the JSON schema of its `params`."""
    default = name_of(to_strategy(settings.strategy))
    return [*(_combination(name, default) for name in COMBINATIONS), *(_part(name, default) for name in STRATEGIES)]


@router.get(
    "/strategies/{name}",
    summary="Explain one strategy or a combination",
    tags=["model"],
    responses=error_responses(404, 422),
)
async def strategy(name: str, settings: ServerSettings) -> CompositeResponse:
    """Parts of a strategy such as `unmix_tns+lame`, in order, and the JSON schema of all their parameters."""
    try:
        parts, composite = parts_of(name), to_strategy(name)
    except UnknownStrategyError as error:
        raise StrategyNotFoundError(str(error), hint="GET /v1/strategies lists them", location="name") from error
    default, full = name_of(to_strategy(settings.strategy)), name_of(composite)
    return CompositeResponse(
        name=full, parts=[_part(part, default) for part in parts], parameters=schema_of(full), default=full == default
    )


@router.get("/model", summary="Describe the hosted model", tags=["model"], responses=error_responses(503))
async def model(request: Request) -> ModelResponse:
    """Architecture, classes, preprocessing, BatchNorm sites, and the memory that a stream's state takes."""
    return ModelResponse.model_validate(state_of(request.app).require_engine().describe())


@router.get("/streams", summary="List the streams", tags=["streams"], responses=error_responses(503))
async def streams(request: Request) -> StreamsResponse:
    """State of every stream that the key covers, and the use of the memory for states."""
    info, may_see = await state_of(request.app).require_engine().streams(), visible_streams(request.scope)
    return StreamsResponse.model_validate(replace(info, streams=[s for s in info.streams if may_see(s.stream)]))


@router.get("/streams/{stream}", summary="Show one stream", tags=["streams"], responses=error_responses(404, 422, 503))
async def stream(request: Request, stream: str) -> list[StreamState]:
    """States of one stream: one for each strategy and set of hyperparameters that its requests used."""
    engine = state_of(request.app).require_engine()
    check_stream(stream)
    check_stream_access(request.scope, stream)
    return [StreamState.model_validate(info) for info in await engine.stream(stream)]


@router.delete(
    "/streams/{stream}", summary="Reset one stream", tags=["admin"], responses=error_responses(401, 403, 404, 422, 503)
)
async def forget(request: Request, stream: str, strategy: str | None = None) -> ResetResponse:
    """Delete the adapted state of one stream, of all strategies or of one: the same as a reset that names it."""
    engine = state_of(request.app).require_engine()
    check_admin(request.scope)
    limits = gather(RESET, members={"stream": stream, **({} if strategy is None else {"strategy": strategy})})
    check_stream_access(request.scope, stream, need="admin")
    await engine.stream(stream)  # which raises where there is none
    forgotten = await engine.reset(**limits)
    log_reset(request, limits, forgotten)
    return ResetResponse(forgotten=forgotten, stream=stream, strategy=strategy)


def _combination(name: str, default: str) -> StrategyResponse:
    documentation = COMBINATIONS[name].documentation
    return StrategyResponse(
        name=name,
        kind="composite",
        adapter=parts_of(name)[0],
        description=_first_sentence(documentation),
        documentation=documentation.strip(),
        parameters=schema_of(name),
        default=name == default,
    )


def _part(name: str, default: str) -> StrategyResponse:
    cls = STRATEGIES[name]
    documentation = inspect.getdoc(cls) or ""
    kind = kind_of(cls)
    return StrategyResponse(
        name=name,
        kind=kind,
        adapter=None if kind == "adapter" else parts_of(name)[0],
        description=_first_sentence(documentation),
        documentation=documentation,
        parameters=schema(cls),
        default=name == default,
    )


def _first_sentence(documentation: str) -> str:
    return " ".join(documentation.partition("\n\n")[0].split())
