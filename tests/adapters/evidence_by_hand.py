"""The evidence of a stream's answers as a plain loop over images, in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from adapters import Evidence

SPANS, CLASSES, HORIZON, PERIOD = (2, 8, 32, 128), 64, 300, 32


class EvidenceLoop:
    """What one stream's answers have shown so far."""

    def __init__(self) -> None:
        self.read = [0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
        self.images = self.pending = 0
        self.shares = [0.0] * CLASSES
        self.averages = [[0.0] * CLASSES for _ in SPANS]
        self.squares = [0.0] * len(SPANS)
        self.entropy = 0.0

    def evidence(self, dtype: torch.dtype) -> Evidence:
        return Evidence(*(torch.tensor([value], dtype=dtype) for value in self.read))

    def row(self) -> Tensor:
        averages = [value for average in self.averages for value in average]
        counts = [float(self.images), float(self.pending)]
        numbers = [*self.read, *counts, *self.shares, *averages, *self.squares, self.entropy]
        return torch.tensor(numbers, dtype=torch.float64)

    def add(self, logits: Tensor, find_mixture: Callable[[float], float] = float) -> None:
        for start in range(0, len(logits), 64):
            self._add_at_most_64(logits[start : start + 64].double())
        self.pending += len(logits)
        if self.pending >= PERIOD:
            self._publish(min(CLASSES, logits.shape[1]), find_mixture(self.read[-1]))
            self.pending %= PERIOD

    def _add_at_most_64(self, logits: Tensor) -> None:
        pace = len(logits) / max(len(logits), min(HORIZON, self.images + len(logits)))
        labels = [int(label) % CLASSES for label in logits.argmax(1)]
        for k in range(CLASSES):
            self.shares[k] += pace * (labels.count(k) / len(labels) - self.shares[k])
        shares = logits.softmax(1)
        mean_entropy = float(-(shares * shares.log()).sum(1).mean()) / math.log(logits.shape[1])
        self.entropy += pace * (mean_entropy - self.entropy)
        distances = [0.0] * len(SPANS)
        for place, label in enumerate(labels, 1):
            for i, span in enumerate(SPANS):
                weight = 2 / (1 + span)
                for k in range(CLASSES):
                    self.averages[i][k] += weight * ((k == label) - self.averages[i][k])
                whole = 1 - (1 - weight) ** (self.images + place)
                distances[i] += sum((a / whole - q) ** 2 for a, q in zip(self.averages[i], self.shares, strict=True))
        for i, distance in enumerate(distances):
            self.squares[i] += pace * (distance / len(labels) - self.squares[i])
        self.images += len(labels)

    def _publish(self, classes: int, mixture: float) -> None:
        spread = 1 - sum(q**2 for q in self.shares)
        ratios = [span * square / max(spread, 1e-6) for span, square in zip(SPANS, self.squares, strict=True)]
        persistence = max(1.0, *ratios)
        diversity = min(1.0, max(0.0, spread / (1 - 1 / classes)))
        trust = min(1.0, max(0.0, (diversity - 0.6) / 0.35)) ** 2
        images = min(HORIZON, self.images)
        self.read = [float(images), trust / persistence, persistence, diversity, self.entropy, mixture]
