"""POST /v1/admin/...: calls that change what others see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request

from app.http.dependencies import OpenEngine
from app.http.middleware.authentication import caller_of, check_touch
from app.http.requests.parse import parse_reset
from app.http.responses.openapi import RESET_DOCS, described
from app.observability.logs import server
from app.schemas import ResetResponse

router = APIRouter(prefix="/v1/admin", tags=["admin"])


def log_reset(request: Request, limits: Mapping[str, Any], forgotten: int) -> None:
    """One line that says who has forgotten what."""
    subject = ", ".join(f"{name} {value!r}" for name, value in limits.items()) or "all streams"
    server.info("reset of %s by %s: %d states forgotten", subject, caller_of(request.scope), forgotten)


@router.post(
    "/reset",
    summary="Forget streams",
    responses=described(401, 403, 413, 415, 422, 503),
    openapi_extra=RESET_DOCS,
)
async def reset(request: Request, engine: OpenEngine) -> ResetResponse:
    """Forget what was learned: of one stream, with one strategy, both, or with `all` everything.

    A forgotten stream starts anew with its next request, exactly like one never seen.
    """
    scope = await parse_reset(request)
    check_touch(request.scope, scope.get("stream"), need="admin")
    forgotten = await engine.reset(**scope)
    log_reset(request, scope, forgotten)
    return ResetResponse(forgotten=forgotten, stream=scope.get("stream"), strategy=scope.get("strategy"))
