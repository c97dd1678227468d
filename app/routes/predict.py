"""POST /v1/predict: images in, adapted predictions out."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from app.errors import RequestError
from app.routes.answers import LARGE, encoded
from app.routes.deps import the_engine, the_settings
from app.routes.direct import Direct
from app.routes.openapi import PREDICT_DOCS, described
from app.routes.parse import parse_predict
from app.schemas import PredictResponse

router = APIRouter(prefix="/v1", tags=["predict"], route_class=Direct)


@router.post(
    "/predict",
    summary="Predict images, and let their stream adapt",
    response_model=PredictResponse,
    responses=described(413, 415, 422, 503),
    openapi_extra=PREDICT_DOCS,
)
async def predict(request: Request) -> Response:
    """Send one or many images of one stream, as a form, as one raw image, or as JSON.

    One request is one step: its images are normalized with the statistics of their stream, which then learns from
    them, unless `update` is false. A request that is refused changes nothing.
    """
    engine = the_engine(request)
    hosted = engine.hosted
    parsed = await parse_predict(request, the_settings(request), len(hosted.classes))
    try:
        prediction = await engine.predict(parsed.call)
    except RequestError as error:
        error.where = parsed.where(error.where)
        raise
    said = (prediction, parsed.call.stream, hosted.name, hosted.classes)
    ranked = len(prediction.classes) * len(prediction.classes[0])
    body = encoded(*said) if ranked <= LARGE else await asyncio.to_thread(encoded, *said)
    return Response(body, media_type="application/json")
