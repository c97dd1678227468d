"""POST /v1/predict: adapted predictions of images."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from app.http.middleware.authentication import check_stream_access
from app.http.middleware.observation import note
from app.http.raw_route import RawRoute
from app.http.requests.disconnect import while_connected
from app.http.requests.parse import parse_predict
from app.http.responses.openapi import PREDICT_DOCS, error_responses
from app.http.responses.predictions import predict_to_json
from app.schemas import PredictResponse
from app.server_state import state_of

router = APIRouter(prefix="/v1", tags=["predict"], route_class=RawRoute)


@router.post(
    "/predict",
    summary="Predict images, and let their stream adapt",
    response_model=PredictResponse,
    responses=error_responses(413, 415, 422, 429, 503, 504),
    openapi_extra=PREDICT_DOCS,
)
async def predict(request: Request) -> Response:
    """Send one or many images of one stream, as a form, as one raw image, or as JSON.

    One request is one step: its images are normalized with the statistics of their stream, which then adapts to
    them, unless `update` is false. A request that is refused changes nothing.
    """
    engine = state_of(request.app).require_engine()
    predict_request = await parse_predict(request, state_of(request.app).settings, len(engine.hosted.classes))
    check_stream_access(request.scope, predict_request.call.stream)
    note(request.scope, predict_request.call.stream)
    async with while_connected(request):
        body = await predict_to_json(request.scope, engine, predict_request)
    return Response(body, media_type="application/json")
