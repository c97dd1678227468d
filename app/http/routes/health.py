"""GET /healthz and /readyz: what orchestrators ask."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from app.errors import EngineClosedError
from app.http.dependencies import the_ready_engine
from app.http.responses.errors import wire
from app.schemas import ErrorResponse, HealthResponse, NotReadyResponse, ReadyResponse

router = APIRouter(tags=["health"])

DEADLINE_S = 5.0
"""Seconds that the model thread has to answer."""

_GONE = "the model thread is gone or hangs; restart the server"

_NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {
        "model": NotReadyResponse,
        "description": "Not ready",
        "content": {
            "application/json": {
                "example": {
                    **wire("the model thread or the decoders did not answer within 5 s", "unavailable"),
                    "ready": False,
                }
            }
        },
    }
}


_DEAD: dict[int | str, dict[str, Any]] = {
    503: {
        "model": ErrorResponse,
        "description": "Dead",
        "content": {"application/json": {"example": wire(_GONE, "unavailable")}},
    }
}


@router.get("/healthz", summary="Is the process alive?", response_model=HealthResponse, responses=_DEAD)
async def healthz(request: Request) -> HealthResponse | JSONResponse:
    """Answers 200 while the event loop and the model thread live, also while the model is still being loaded.

    Restart the server when it does not: a thread that is gone, or a forward that never ends, does not come back.
    """
    engine = request.app.state.engine
    if engine is not None and not engine.alive:
        return JSONResponse(wire(_GONE, "unavailable"), 503)
    return HealthResponse(status="starting" if engine is None else "ok")


@router.get("/readyz", summary="Does the model answer?", response_model=ReadyResponse, responses=_NOT_READY)
async def readyz(request: Request) -> ReadyResponse | JSONResponse:
    """Answers 200 once the model is warm, its thread has answered a ping and images can be decoded.

    Else 503. Changes no state.
    """
    try:
        engine = await the_ready_engine(request, DEADLINE_S)
    except EngineClosedError as error:
        said = {**wire(f"{error.message}; {error.hint}", "unavailable"), "ready": False}
        return JSONResponse(said, 503, {"Retry-After": "1"})
    return ReadyResponse(ready=True, model=engine.hosted.name)
