"""POST /v1/predict: images in, adapted predictions out."""

from __future__ import annotations

import torch
from fastapi import APIRouter, Request

from app.errors import RequestError
from app.routes.deps import OpenEngine, ServerSettings
from app.routes.openapi import PREDICT_DOCS, described
from app.routes.parse import Parsed, parse_predict
from app.schemas import ImagePrediction, PredictResponse, RankedClass, TimingResponse
from app.types import Prediction

router = APIRouter(prefix="/v1", tags=["predict"])


@router.post(
    "/predict",
    summary="Predict images, and let their stream adapt",
    responses=described(413, 415, 422, 503),
    openapi_extra=PREDICT_DOCS,
)
async def predict(request: Request, engine: OpenEngine, settings: ServerSettings) -> PredictResponse:
    """Send one or many images of one stream, as a form, as one raw image, or as JSON.

    One request is one step: its images are normalized with the statistics of their stream, which then learns from
    them, unless `update` is false. A request that is refused changes nothing.
    """
    parsed = await parse_predict(request, settings, len(engine.hosted.classes))
    try:
        prediction = await engine.predict(parsed.call)
    except RequestError as error:
        error.where = parsed.where(error.where)
        raise
    return shape(prediction, parsed, engine.hosted.name, engine.hosted.classes)


def shape(prediction: Prediction, parsed: Parsed, model: str, classes: list[str]) -> PredictResponse:
    """The engine's answer as it goes over the wire."""
    probabilities = prediction.probabilities
    best = probabilities.topk(parsed.top_k)
    ranked = [
        [RankedClass(label=classes[i], index=i, probability=_digits(p)) for p, i in zip(*row, strict=True)]
        for row in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
    return PredictResponse(
        model=model,
        stream=parsed.call.stream,
        strategy=prediction.strategy,
        params=prediction.params,
        step=prediction.step,
        updated=prediction.updated,
        drift=_digits(prediction.drift),
        entropy=_digits(_entropy(probabilities)),
        predictions=[ImagePrediction(**dict(top[0]), top_k=top) for top in ranked],
        timing_ms=TimingResponse.model_validate(prediction.timing._asdict()),
    )


def _entropy(probabilities: torch.Tensor) -> float:
    """Mean over the images, in nats; 0.0 and not -0.0 where all are certain."""
    return max(0.0, -float(torch.xlogy(probabilities, probabilities).sum(1).mean()))


def _digits(value: float) -> float:
    """What a float32 knows, without the digits that writing it as a float64 would make up."""
    return float(f"{value:.6g}")
