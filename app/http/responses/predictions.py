"""JSON of the engine's predictions, in the shape of `app.schemas.PredictResponse`."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import orjson
from starlette.types import Scope

from app.engine import Engine
from app.errors import locate_images
from app.http.middleware.observation import note
from app.http.requests.caller import client_of
from app.http.requests.parse import PredictRequest
from app.types import Prediction

LARGE = 2_000
"""Ranked classes in a response above which it is encoded in a thread. Up to here it takes the event loop a millisecond
or less, and for the usual few classes a third of the time of a switch of threads."""


async def predict_to_json(scope: Scope, engine: Engine, request: PredictRequest, first: int = 0) -> bytes:
    """Predict, and return the JSON of `POST /v1/predict`.

    ``first`` is the index of the call's first image in the client's request, for errors that name an image.

    Raises:
        Exception: what `Engine.predict` raises, with the location in the client's request.
    """
    with locate_images(request.place, first):
        prediction = await engine.predict(replace(request.call, client=client_of(scope)))
    note(scope, request.call.stream, prediction.timing)
    arguments = (prediction, request.call.stream, engine.hosted.name, engine.hosted.classes)
    ranked = len(prediction.classes) * len(prediction.classes[0])
    return encode_prediction(*arguments) if ranked <= LARGE else await asyncio.to_thread(encode_prediction, *arguments)


def encode_prediction(prediction: Prediction, stream: str, model: str, classes: Sequence[str]) -> bytes:
    """Encode one prediction as JSON.

    Raises:
        ValueError: a probability is not finite, which no engine returns.
    """
    if not math.isfinite(prediction.entropy):
        raise ValueError("the engine answered with probabilities that are not finite")
    ranked = [
        [{"label": classes[i], "index": i, "probability": _digits(share)} for i, share in zip(*row, strict=True)]
        for row in zip(prediction.classes, prediction.shares, strict=True)
    ]
    explanation = prediction.explanation
    return _dumps(
        {
            "model": model,
            "stream": stream,
            "strategy": prediction.strategy,
            "params": prediction.params,
            "step": prediction.step,
            "updated": prediction.updated,
            "outliers": prediction.outliers,
            "weight": _digits(prediction.weight),
            "state_origin": prediction.state_origin,
            "drift": _digits(prediction.drift) if math.isfinite(prediction.drift) else None,
            "adaptation": _digits(prediction.adaptation) if math.isfinite(prediction.adaptation) else None,
            "entropy": _digits(prediction.entropy),
            "predictions": [{**top[0], "top_k": top} for top in ranked],
            "timing_ms": prediction.timing._asdict(),
            **({} if explanation is None else {"explanation": asdict(explanation)}),
        }
    )


def prepend_members(body: bytes, **members: Any) -> bytes:
    """Return the JSON object ``body`` with these members before its own, without parsing it."""
    return orjson.dumps(members)[:-1] + b"," + body[1:]


def _dumps(answer: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(answer)
    except orjson.JSONEncodeError:
        # A hyperparameter may be a whole number of more than 64 bits, which only Python writes.
        return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


def _digits(value: float) -> float:
    """Return a float32 without the meaningless digits that it would have as a float64."""
    return float(f"{value:.6g}")
