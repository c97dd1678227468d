"""POST /v1/admin/...: calls that change what others see."""

from __future__ import annotations

from fastapi import APIRouter, Request

from app.routes.access import check_touch
from app.routes.deps import OpenEngine
from app.routes.openapi import RESET_DOCS, described
from app.routes.parse import parse_reset
from app.schemas import ResetResponse

router = APIRouter(prefix="/v1/admin", tags=["admin"])


@router.post(
    "/reset",
    summary="Forget streams",
    responses=described(401, 403, 413, 415, 422, 503),
    openapi_extra=RESET_DOCS,
)
async def reset(request: Request, engine: OpenEngine) -> ResetResponse:
    """Forget what was learned: of one stream, with one strategy, both, or, when neither is given, everything.

    A forgotten stream starts anew with its next request, exactly like one never seen.
    """
    scope = await parse_reset(request)
    check_touch(request.scope, scope.get("stream"))
    forgotten = await engine.reset(**scope)
    return ResetResponse(forgotten=forgotten, stream=scope.get("stream"), strategy=scope.get("strategy"))
