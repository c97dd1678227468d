"""GET /metrics: what Prometheus reads."""

from __future__ import annotations

import asyncio
from email.message import Message
from typing import Any

from fastapi import APIRouter, Request, Response

from app.http.middleware.authentication import check_touch
from app.http.raw_route import Direct
from app.observability.metrics import Metrics

_OFFERS = ("application/openmetrics-text", "text/plain")

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
    check_touch(request.scope, None)  # it names streams
    meter: Metrics = request.app.state.metrics
    # Streams are looked at here, on the thread that changes them; making text of them takes milliseconds.
    page = meter.look(request.app.state.engine)
    text, media_type = await asyncio.to_thread(page.text, preferred(request.headers.get("accept", "")))
    return Response(text, headers={"Content-Type": media_type})


def preferred(accept: str) -> str:
    """Of an Accept header the ranges of the one format that the client likes best.

    The encoders that read it heed no weights: neither q=0, which excludes a format, nor a smaller one. Of equals a
    format that is named goes before one that a wildcard covers, named ones with OpenMetrics first, others with text.
    """
    weights: dict[str, float] = {}
    ranges: dict[str, list[tuple[float, str]]] = {}
    for part in filter(str.strip, accept.lower().split(",")):
        media, weight = _weighted(part)
        weights[media] = max(weight, weights.get(media, 0.0))
        ranges.setdefault(media, []).append((weight, part))
    best = max(_OFFERS, key=lambda offer: _liking(offer, weights))
    named = ",".join(part for weight, part in sorted(ranges.get(best, []), reverse=True) if weight > 0)
    return named or best


def _liking(offer: str, weights: dict[str, float]) -> tuple[float, bool, bool]:
    """To compare: the weight of the most specific range that covers ``offer``, whether that names it, then its turn."""
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
