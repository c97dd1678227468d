"""GET /metrics: metrics for Prometheus."""

from __future__ import annotations

import asyncio
from email.message import Message
from typing import Any

from fastapi import APIRouter, Request, Response

from app.http.middleware.authentication import check_stream_access
from app.http.raw_route import RawRoute
from app.server_state import state_of

_OFFERS = ("application/openmetrics-text", "text/plain")

router = APIRouter(tags=["health"], route_class=RawRoute)

_TEXT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The Prometheus text format, or OpenMetrics where the Accept header asks for it",
        "content": {"text/plain": {"schema": {"type": "string"}, "example": "renorm_streams 3.0\n"}},
    }
}


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response, responses=_TEXT)
async def metrics(request: Request) -> Response:
    """Counts, durations, memory, and drift of the busiest streams; without an open engine only those of the process."""
    check_stream_access(request.scope, None)  # it names streams
    state = state_of(request.app)
    page = await state.metrics.look(state.engine)  # encoding it takes milliseconds
    text, media_type = await asyncio.to_thread(page.text, preferred_ranges(request.headers.get("accept", "")))
    return Response(text, headers={"Content-Type": media_type})


def preferred_ranges(accept: str) -> str:
    """Return the ranges in an Accept header of the one format that the client prefers.

    The encoders that read it ignore weights, q=0 included, which excludes a format. Of equal weights a format that is
    named precedes one that a wildcard covers; OpenMetrics precedes text among named formats, and follows it otherwise.
    """
    weights: dict[str, float] = {}
    ranges: dict[str, list[tuple[float, str]]] = {}
    for part in filter(str.strip, accept.lower().split(",")):
        media, weight = _weighted(part)
        weights[media] = max(weight, weights.get(media, 0.0))
        ranges.setdefault(media, []).append((weight, part))
    best = max(_OFFERS, key=lambda offer: _preference(offer, weights))
    named = ",".join(part for weight, part in sorted(ranges.get(best, []), reverse=True) if weight > 0)
    return named or best


def _preference(offer: str, weights: dict[str, float]) -> tuple[float, bool, bool]:
    """Return the sort key of ``offer``: weight of the most specific range that covers it, if it is named, order."""
    covering = (offer, f"{offer.partition('/')[0]}/*", "*/*")
    media = next((media for media in covering if media in weights), "")
    is_named = media == offer and weights[media] > 0
    return weights.get(media, 0.0), is_named, is_named == (offer == _OFFERS[0])


def _weighted(part: str) -> tuple[str, float]:
    message = Message()
    message["Content-Type"] = part.strip()
    try:
        weight = float(str(message.get_param("q", "1")))
    except ValueError:
        weight = 1.0
    return part.partition(";")[0].strip(), weight if 0 <= weight <= 1 else 1.0
