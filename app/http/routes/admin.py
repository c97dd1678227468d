"""POST /v1/admin/...: administrative calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request

from app.http.middleware.authentication import caller_of, check_stream_access
from app.http.requests.parse import parse_reset
from app.http.responses.openapi import RESET_DOCS, error_responses
from app.observability.logs import server
from app.schemas import ResetResponse
from app.server_state import state_of

router = APIRouter(prefix="/v1/admin", tags=["admin"])


def log_reset(request: Request, limits: Mapping[str, Any], forgotten: int) -> None:
    """Log the caller and the limits of a reset."""
    subject = ", ".join(f"{name} {value!r}" for name, value in limits.items()) or "all streams"
    server.info("reset of %s by %s: %d states reset", subject, caller_of(request.scope), forgotten)


@router.post(
    "/reset",
    summary="Reset streams",
    responses=error_responses(401, 403, 413, 415, 422, 503),
    openapi_extra=RESET_DOCS,
)
async def reset(request: Request) -> ResetResponse:
    """Delete the adapted state of one stream, of one strategy, of both, or with `all` of everything.

    A reset stream starts from the model's own statistics with its next request, exactly like a new one.
    """
    engine, scope = state_of(request.app).require_engine(), await parse_reset(request)
    check_stream_access(request.scope, scope.get("stream"), need="admin")
    forgotten = await engine.reset(**scope)
    log_reset(request, scope, forgotten)
    return ResetResponse(forgotten=forgotten, stream=scope.get("stream"), strategy=scope.get("strategy"))
