"""Data for the small network, two corruptions and clean images, and a driver that knows each image by its colour."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.evaluation.datasets.data import Dataset, open_data
from app.evaluation.running.drivers import Images, Predictions
from app.models.labels import ClassNames

IMAGES = 24


def write_data(folder: Path, side: int = 8, classes: int = 4) -> Path:
    """A folder laid out as CIFAR-10-C."""
    rng = np.random.default_rng(5)
    np.save(folder / "labels.npy", np.arange(IMAGES) % classes)
    for i, name in enumerate(("snow", "fog", "clean")):
        pixels = rng.integers(0, 120 + 60 * i, (IMAGES, side, side, 3), dtype=np.uint8)
        # Of none of the others, so that a test can tell which image it got.
        pixels[:, 0, 0] = np.stack([np.full(IMAGES, 10 + i), np.arange(IMAGES), np.zeros(IMAGES)], 1)
        np.save(folder / f"{name}.npy", pixels)
    return folder


def small_dataset(folder: Path) -> Dataset:
    """The same, opened."""
    return open_data(write_data(folder))


class Scripted:
    """A driver that remembers what it is asked. Calls of ``broken`` strategies fail."""

    place = "nowhere"

    def __init__(self, broken: Mapping[str, Exception] | None = None, step: Callable[[int], int] | None = None) -> None:
        self.broken, self.step = broken or {}, step or (lambda step: step)
        self.asked: list[tuple[str, bool, list[tuple[int, int]]]] = []
        self.steps: Counter[str] = Counter()
        self.most = self.now = 0
        self.resets: list[str] = []

    async def predict(
        self, images: Images, stream: str, strategy: str, params: Mapping[str, Any], *, start: bool, update: bool = True
    ) -> Predictions:
        assert isinstance(images, torch.Tensor)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        if strategy in self.broken:
            raise self.broken[strategy]
        pixels = images[:, 0, 0].tolist()
        self.asked.append((stream, start, [(domain - 10, image) for domain, image, _ in pixels]))
        self.steps[stream] = update if start else self.steps[stream] + update
        labels = np.array([image % 4 for _, image, _ in pixels])
        return Predictions(labels, np.full(len(labels), 0.5, np.float32), 0.25, 2.0, self.step(self.steps[stream]))

    async def state_bytes(self, stream: str) -> int:
        return 12

    async def reset(self, stream: str) -> None:
        self.resets.append(stream)

    async def identity(self) -> dict[str, str]:
        return {}

    async def classes(self) -> ClassNames:
        return ClassNames(tuple("abcd"))

    async def close(self) -> None:
        pass
