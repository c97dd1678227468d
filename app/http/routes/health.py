"""GET /healthz and /readyz: liveness and readiness probes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from app.error_info import ErrorInfo
from app.error_table import describe_error
from app.errors import EngineClosedError
from app.http.responses.errors import json_response
from app.schemas import ErrorResponse, HealthResponse, NotReadyResponse, ReadyResponse
from app.server_state import state_of

router = APIRouter(tags=["health"])

DEADLINE_S = 5.0
"""Seconds in which engines and decoders have to answer."""

_FAILED = ErrorInfo(503, "unavailable", "the model thread has ended", "restart the server")
_NO_ANSWER = ErrorInfo(503, "unavailable", "an engine or the decoders did not answer within 5 s")


def _unavailable(model: type[ErrorResponse], description: str, example: dict[str, Any]) -> dict[int | str, Any]:
    """Return the OpenAPI description of a probe's 503."""
    return {503: {"model": model, "description": description, "content": {"application/json": {"example": example}}}}


_NOT_READY = _unavailable(NotReadyResponse, "Not ready", {**_NO_ANSWER.members(), "ready": False})
_DEAD = _unavailable(ErrorResponse, "Dead", _FAILED.members())


@router.get("/healthz", summary="Is the process alive?", response_model=HealthResponse, responses=_DEAD)
async def healthz(request: Request) -> HealthResponse | JSONResponse:
    """Responds 200 while the event loop and the engines live, also while the model is being loaded.

    Restart the server otherwise: a model thread that ended, a forward that never ends, or an engine process that ended
    again and again does not recover.
    """
    engine = state_of(request.app).engine
    if engine is not None and engine.outage:
        return json_response(replace(_FAILED, message=engine.outage))
    return HealthResponse(status="starting" if engine is None else "ok")


@router.get("/readyz", summary="Does the model answer?", response_model=ReadyResponse, responses=_NOT_READY)
async def readyz(request: Request) -> ReadyResponse | JSONResponse:
    """Responds 200 once the model is warm, every engine has answered a ping and images can be decoded.

    Otherwise 503. Changes no state.
    """
    try:
        engine = await state_of(request.app).require_ready_engine(DEADLINE_S)
    except EngineClosedError as error:
        return json_response(describe_error(error), ready=False)
    return ReadyResponse(ready=True, model=engine.hosted.name)
