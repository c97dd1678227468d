"""GET /metrics: what Prometheus reads."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response

from app.metrics import Metrics
from app.routes.direct import Direct

router = APIRouter(tags=["health"], route_class=Direct)

_TEXT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The Prometheus text format, or OpenMetrics where the Accept header asks for it",
        "content": {"text/plain": {"schema": {"type": "string"}, "example": "renorm_streams 3.0\n"}},
    }
}


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response, responses=_TEXT)
async def metrics(request: Request) -> Response:
    """Counts, durations, memory, and drift of the busiest streams. Without an open engine: the process alone."""
    meter: Metrics = request.app.state.metrics
    # Streams are looked at here, on the thread that changes them; making text of them takes milliseconds.
    page = meter.look(request.app.state.engine)
    text, media_type = await asyncio.to_thread(page.text, request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": media_type})
