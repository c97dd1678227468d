"""GET /v1/strategies, /v1/model, /v1/streams: what there is."""

from __future__ import annotations

import inspect

from fastapi import APIRouter

from adapters import STRATEGIES, schema
from app.routes.deps import OpenEngine, ServerSettings
from app.routes.fields import check_stream
from app.routes.openapi import described
from app.schemas import ModelResponse, StrategyResponse, StreamsResponse, StreamState

router = APIRouter(prefix="/v1")


@router.get("/strategies", summary="List the strategies and their hyperparameters", tags=["model"])
async def strategies(settings: ServerSettings) -> list[StrategyResponse]:
    """Every strategy that a request may name, with the JSON schema of its `params`."""
    return [_strategy(name, cls, default=name == settings.strategy) for name, cls in STRATEGIES.items()]


@router.get("/model", summary="Describe the hosted model", tags=["model"], responses=described(503))
async def model(engine: OpenEngine) -> ModelResponse:
    """Architecture, classes, preprocessing, BatchNorm sites, and what remembering a stream costs."""
    return ModelResponse.model_validate(engine.describe())


@router.get("/streams", summary="List the streams", tags=["streams"], responses=described(503))
async def streams(engine: OpenEngine) -> StreamsResponse:
    """What is remembered of every stream, and how full the memory is."""
    return StreamsResponse.model_validate(engine.streams())


@router.get("/streams/{stream}", summary="Show one stream", tags=["streams"], responses=described(404, 422, 503))
async def stream(stream: str, engine: OpenEngine) -> list[StreamState]:
    """One stream's states: one for each strategy and each set of hyperparameters it was asked with."""
    check_stream(stream)
    return [StreamState.model_validate(info) for info in engine.stream(stream)]


def _strategy(name: str, cls: type, *, default: bool) -> StrategyResponse:
    documentation = inspect.getdoc(cls) or ""
    first = " ".join(documentation.partition("\n\n")[0].split())
    return StrategyResponse(
        name=name, description=first, documentation=documentation, parameters=schema(cls), default=default
    )
