"""GET /healthz and /readyz: what orchestrators ask."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from app.errors import EngineClosedError
from app.routes.deps import the_engine
from app.routes.errors import wire
from app.schemas import HealthResponse, NotReadyResponse, ReadyResponse

router = APIRouter(tags=["health"])

DEADLINE_S = 5.0
"""Seconds that the model thread has to answer."""

_NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {
        "model": NotReadyResponse,
        "description": "Not ready",
        "content": {
            "application/json": {
                "example": {**wire("the model thread did not answer within 5 s", "unavailable"), "ready": False}
            }
        },
    }
}


@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> HealthResponse:
    """Answers while the event loop does. Restart the server when it does not."""
    return HealthResponse(status="ok")


@router.get("/readyz", summary="Does the model answer?", response_model=ReadyResponse, responses=_NOT_READY)
async def readyz(request: Request) -> ReadyResponse | JSONResponse:
    """Answers 200 once the model thread has answered a ping, and 503 otherwise. Changes no state."""
    try:
        engine = the_engine(request)
        ready = await engine.ping(DEADLINE_S)
    except EngineClosedError as error:
        return _not_ready(f"{error.message}; {error.hint}")
    if not ready:
        return _not_ready(f"the model thread did not answer within {DEADLINE_S:g} s; retry, or restart the server")
    return ReadyResponse(ready=True, model=engine.hosted.name)


def _not_ready(why: str) -> JSONResponse:
    return JSONResponse({**wire(why, "unavailable"), "ready": False}, 503, {"Retry-After": "1"})
