"""Tiny domains whose images tell their number, and streams of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.evaluation.datasets.data import Dataset
from app.evaluation.datasets.domains import Domain
from app.evaluation.streams.orders import parse_order
from app.evaluation.streams.streams import make_stream
from app.evaluation.types import PROTOCOLS, StreamOrder


@dataclass(frozen=True, eq=False)
class Dots:
    """Images of one pixel, which tells their number."""

    labels: NDArray[np.int64]
    colour: int = 0

    def take(self, indices: NDArray[np.int64]) -> Tensor:
        return (torch.from_numpy(indices) + self.colour).to(torch.uint8)[:, None, None, None].expand(-1, 1, 1, 3)


def deal(classes: int, per_class: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(classes), per_class))


def repeat_share(labels: NDArray[np.int64]) -> float:
    """The share of images with the class of the previous one: about 1/K if shuffled, about 1 if sorted, 0 of one."""
    return float((labels[1:] == labels[:-1]).mean()) if len(labels) > 1 else 0.0


def data_of(*names: str, labels: NDArray[np.int64] | None = None, levels: bool = True, clean: bool = True) -> Dataset:
    """Domains at five severities (severity 5 is shown) or at one, and the clean one."""
    labels = deal(5, 12) if labels is None else labels
    severities = (1, 2, 3, 4, 5) if levels else (None,)
    domains = [Domain(name, severity, Dots(labels)) for name in names for severity in severities]
    shifted = [i for i, domain in enumerate(domains) if domain.severity in (5, None)]
    return Dataset([*domains, *([Domain("clean", None, Dots(labels))] if clean else [])], shifted, 5)


DATA = data_of("snow", "fog", "arc")


def stream_of(protocol: str, order: str = "iid", seed: int = 0, data: Dataset = DATA, **options: int) -> StreamOrder:
    return make_stream(data, protocol, parse_order(order), seed, **options)


def is_same(first: StreamOrder, second: StreamOrder) -> bool:
    return (first.protocol, first.order, first.seed) == (second.protocol, second.order, second.seed) and all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in ("domain", "image", "segment")
    )


def digest() -> str:
    """Of streams of all protocols and orders."""
    result = hashlib.sha256()
    for protocol in PROTOCOLS:
        for order in ("iid", "sorted", "dirichlet:0.1", "ptta"):
            stream = stream_of(protocol, order, 3, limit=20)
            result.update(stream.domain.tobytes() + stream.image.tobytes() + stream.segment.tobytes())
    return result.hexdigest()
