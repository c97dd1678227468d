"""JSON of the engine's predictions, in the shape of `app.schemas.PredictResponse`."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import orjson

from app.types import Prediction

LARGE = 2_000
"""Ranked classes in a response above which it is encoded in a thread. Up to here it takes the event loop a millisecond
or less, and for the usual few classes a third of the time of a switch of threads."""


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
        }
    )


def _dumps(answer: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(answer)
    except orjson.JSONEncodeError:
        # A hyperparameter may be a whole number of more than 64 bits, which only Python writes.
        return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


def _digits(value: float) -> float:
    """Return a float32 without the meaningless digits that it would have as a float64."""
    return float(f"{value:.6g}")
