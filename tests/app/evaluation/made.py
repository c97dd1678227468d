"""Results as `renorm evaluate` hands them over, made without a model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from app.evaluation.types import Cell, Result

DOMAINS = ("fog", "snow", "a|b$c_d")


def result(
    strategy: str = "source",
    protocol: str = "continual",
    order: str = "iid",
    batch: int = 4,
    seed: int = 0,
    *,
    wrong: Sequence[int] = (1, 0, 0, 0),
    domain: Sequence[int] | None = None,
    label: Sequence[int] | None = None,
    confidence: Sequence[float] | None = None,
    seconds: float = 2.0,
    state_bytes: int = 0,
) -> Result:
    """One run; by default four images of one domain, the first answered wrongly."""
    images = len(wrong)
    labels = np.arange(images, dtype=np.int64) % 10 if label is None else np.array(label, np.int64)
    return Result(
        cell=Cell(strategy, protocol, order, batch, seed),
        domain=np.zeros(images, np.int32) if domain is None else np.array(domain, np.int32),
        label=labels,
        predicted=np.where(wrong, labels + 1, labels),
        confidence=np.full(images, 0.9, np.float32) if confidence is None else np.array(confidence, np.float32),
        entropy=np.full(images, 0.3, np.float32),
        drift=np.linspace(0.1, 0.3, images, dtype=np.float32),
        seconds=seconds,
        state_bytes=state_bytes,
    )


def study(
    strategies: Sequence[str] = ("source", "adabn", "bn+lame:memory=64"),
    protocols: Sequence[str] = ("continual", "mixed", "clean"),
    orders: Sequence[str] = ("iid", "sorted"),
    batches: Sequence[int] = (1, 16),
    seeds: Sequence[int] = (0, 1),
    images: int = 90,
) -> list[Result]:
    """A whole grid with errors by chance: the same numbers at every call."""
    results = []
    for i, (strategy, protocol, order, batch, seed) in enumerate(
        product(strategies, protocols, orders, batches, seeds)
    ):
        random = np.random.default_rng(i)
        domain = {"clean": [0] * images, "mixed": random.integers(0, 3, images).tolist()}.get(
            protocol, (np.arange(images) * 3 // images).tolist()
        )
        wrong = (random.random(images) < random.uniform(0.1, 0.6)).tolist()
        confidence = random.uniform(0.1, 1.0, images).tolist()
        results.append(
            result(
                strategy,
                protocol,
                order,
                batch,
                seed,
                wrong=wrong,
                domain=domain,
                confidence=confidence,
                seconds=1.0 + i,
                state_bytes=8 * i,
            )
        )
    return results
