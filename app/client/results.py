"""What the server answers, as frozen objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter


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
    """What is in the images of one request, and what the statistics of its stream did.

    ``params`` are the hyperparameters in use, defaults included. ``step`` counts the requests that the stream has
    learned from with this strategy; ``updated`` says whether this one is among them: not if it has ``outliers``,
    images too far from all that the network was trained with. ``weight`` is how much of its usual step it moved a
    running average: less than 1 where an image lies far out. ``drift`` is how far
    the stream's last images are from clean ones, ``adaptation`` how far the statistics used are from the trained ones,
    in the same units: 0 is none, and None is not finite. ``state_origin`` is "live" where the
    stream was remembered, "new" where it was not known, and "evicted" where it had been forgotten to make room.
    ``entropy`` is the mean over the images, in nats. ``predictions`` has one entry per image, in the order they were
    given.
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
    adaptation: float | None = None  # also of servers that do not tell it
    outliers: int = 0  # the same
    weight: float = 1.0  # the same
    state_origin: str | None = None  # the same


ANSWER = TypeAdapter(Answer)
"""Reads an `Answer` from JSON; members that it does not know, from a newer server, are left out."""
