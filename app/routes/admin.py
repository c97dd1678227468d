"""POST /v1/admin/...: calls that change what others see."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from app.access import check_access
from app.routes.deps import OpenEngine, ServerSettings
from app.routes.openapi import RESET_DOCS, described
from app.routes.parse import parse_reset
from app.schemas import ResetResponse

_bearer = HTTPBearer(auto_error=False, description="RENORM_ADMIN_KEY; not needed on loopback when none is set")
_header = APIKeyHeader(name="X-API-Key", auto_error=False, description="the same key in a header of its own")


async def require_admin(
    request: Request,
    settings: ServerSettings,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    header: Annotated[str | None, Security(_header)],
) -> None:
    """Let the call pass if it may; before its body is read."""
    keys = [key for key in (bearer.credentials.strip() if bearer else "", header or "") if key]
    check_access(settings, keys, request.headers.get("origin"), request.headers.get("host"))


router = APIRouter(prefix="/v1/admin", tags=["admin"], dependencies=[Depends(require_admin)])


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
    forgotten = await engine.reset(**scope)
    return ResetResponse(forgotten=forgotten, stream=scope.get("stream"), strategy=scope.get("strategy"))
