"""The data types that the parts of an evaluation share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PROTOCOLS = ("single", "continual", "mixed", "gradual", "recurring", "clean")
"""The orders of domains: each alone after a reset; one after another; all shuffled together; each rising and falling in
severity; one after another several times; and the images without corruption, which shows harm."""


WALK = "walk"
"""The protocol that blends corruptions, from one to the next, at a set difficulty for the frozen model."""


@dataclass(frozen=True, eq=False)
class Blend:
    """Further corruptions that are blended into the images of a stream: see `app.evaluation.walks.blends`."""

    second: NDArray[np.int32]  # [T], index into `Dataset.domains`
    weights: NDArray[np.float32]  # [T, 2], of the domain in the stream and of the second


@dataclass(frozen=True, eq=False)
class StreamOrder:
    """The order of images in an evaluation, as indices: the same for every strategy and request size.

    All arrays are ``[T]``, one entry an image. A segment is a run of images between two resets: no request reaches
    over its end, and the stream is reset before each, also before the first.
    """

    protocol: str
    order: str  # as `parse_order` names it: "iid", "dirichlet:0.1"
    seed: int
    domain: NDArray[np.int32]  # index into `Dataset.domains`
    image: NDArray[np.int64]  # index into the domain's images
    segment: NDArray[np.int32]  # 0, 1, ..., never falling
    blend: Blend | None = None  # None: the images as they are


class Cell(NamedTuple):
    """One run: a strategy on a stream cut into requests of ``batch`` images; the last one of a segment may be short."""

    strategy: str  # as given: "adabn+lame:memory=64,when=correlated"
    protocol: str
    order: str
    batch: int
    seed: int


@dataclass(frozen=True, eq=False)
class Result:
    """The result of a run: arrays ``[T]`` with one entry an image, and totals."""

    cell: Cell
    domain: NDArray[np.int32]
    label: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float32]  # probability of the predicted class
    entropy: NDArray[np.float32]  # of the image's request, mean over its images, in nats
    drift: NDArray[np.float32]  # of the image's request
    # From the first request to the last, with other cells running; for reports, replaced by the time that requests
    # take alone: `app.evaluation.running.speed.with_speeds`.
    seconds: float
    state_bytes: int  # of the stream at the end
