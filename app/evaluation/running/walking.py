"""Walks made with the model that is evaluated: its own accuracy sets their difficulty."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from app.evaluation.datasets.data import Dataset
from app.evaluation.metrics import SOURCE
from app.evaluation.running.drivers import Driver
from app.evaluation.running.grid import StreamName, StreamOptions, Streams, has_streams, read_streams, save_streams
from app.evaluation.streams.orders import parse_order
from app.evaluation.streams.streams import StreamPlan
from app.evaluation.types import WALK
from app.evaluation.walks.calibration import Walk, calibrate
from app.evaluation.walks.walks import make_walk

_CALIBRATION = "calibration"


async def walk_streams(
    driver: Driver, dataset: Dataset, wishes: StreamOptions, folder: Path, request: int, show: Callable[[str], None]
) -> Streams:
    """Return the walks of each order and seed: those of the folder, or new ones, which are written to it.

    The model is asked without learning, in requests of ``request`` images; once for all orders and seeds, and not at
    all where the folder has the streams. ``show`` is called with each step.

    Raises:
        EvaluationError: the data have no walk of this difficulty, or a saved stream is invalid.
        RenormError, AdapterError, RenormClientError: a request was not answered.
    """
    orders = [parse_order(order) for order in dict.fromkeys(wishes.orders)]
    names = [StreamName(WALK, order.name, seed) for order in orders for seed in range(wishes.seeds)]
    if has_streams(folder, names):
        return read_streams(folder, dataset, names)

    async def predict(pixels: Tensor) -> NDArray[np.int64]:
        parts = [
            await driver.predict(pixels[i : i + request], _CALIBRATION, SOURCE, {}, start=True, update=False)
            for i in range(0, len(pixels), request)
        ]
        return np.concatenate([part.predicted for part in parts])

    walk = await calibrate(dataset, predict, wishes.difficulty, show)
    await driver.reset(_CALIBRATION)
    show(describe(walk, dataset))
    walks = {
        StreamName(WALK, order.name, seed): make_walk(
            StreamPlan(dataset, order, seed, wishes.limit), walk, wishes.step_images
        )
        for order in orders
        for seed in range(wishes.seeds)
    }
    return save_streams(folder, dataset, walks)


def describe(walk: Walk, dataset: Dataset) -> str:
    """Return a line on the accuracy that a walk reaches, and the corruptions that it leaves out."""
    accuracies = 100 * np.concatenate([path.accuracies[:-1] for path in walk.paths])
    left_out = ", ".join(dataset.domains[number].title for number in walk.left_out)
    return (
        f"the walk goes through {len(walk.paths)} corruptions; accuracy of source {accuracies.mean():.0f} % "
        f"({accuracies.min():.0f} to {accuracies.max():.0f} %), target {100 * walk.target:.0f} %"
        + (f"; too easy: {left_out}" if left_out else "")
    )
