"""The results of a prediction, as frozen objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from app.explanation_schema import ExplanationResponse


@dataclass(frozen=True)
class Ranked:
    """One class and how probable it is, from 0 to 1."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True)
class ImagePrediction:
    """The most probable class of one image, and the ``top_k`` most probable ones, best first."""

    label: str
    index: int
    probability: float
    top_k: tuple[Ranked, ...]


@dataclass(frozen=True)
class TimingMs:
    """Milliseconds that the request spent in each stage inside the server."""

    decode: float
    queue: float
    forward: float
    total: float


@dataclass(frozen=True)
class Answer:
    """The predictions of one request, and the state of its stream after it.

    ``params`` are the hyperparameters in use, defaults included. ``step`` counts the requests that the stream has
    learned from with this strategy; ``updated`` says whether this one is among them: not if it has ``outliers``,
    images too far from the training data. ``weight`` is the share of its usual step that it moved a running average:
    less than 1 where an image lies far out. ``drift`` is the distance of the stream's last images from clean ones,
    ``adaptation`` that of the statistics used from the trained ones, in the same units: 0 is none, and None is not
    finite. ``state_origin`` is "live" where the stream was remembered, "new" where it was not known, "evicted" where
    its state had been evicted, and "lost" where the engine process that had it ended. ``entropy`` is the mean over the
    images, in nats. ``predictions`` has one entry per image, in the order of the request. ``explanation`` is there if
    it was asked for.
    """

    model: str
    stream: str
    strategy: str
    params: dict[str, Any]
    step: int
    updated: bool
    drift: float | None
    entropy: float
    predictions: list[ImagePrediction]
    timing_ms: TimingMs
    adaptation: float | None = None  # absent from older servers
    outliers: int = 0  # the same
    weight: float = 1.0  # the same
    state_origin: str | None = None  # the same
    explanation: ExplanationResponse | None = None  # only where it is asked for


ANSWER = TypeAdapter(Answer)
"""Reads an `Answer` from JSON; unknown members, of a newer server, are ignored."""
