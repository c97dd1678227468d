"""The speed of a strategy alone: measured after the cells, which share their forwards."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import cycle, islice

from app.evaluation.datasets.data import Dataset
from app.evaluation.running.cells import Speeds
from app.evaluation.running.drivers import Driver
from app.evaluation.running.grid import StreamName, stream_of
from app.evaluation.running.runner import CELL_ERRORS, images_of
from app.evaluation.specs import parse_specs
from app.evaluation.streams.streams import split_requests
from app.evaluation.types import Cell, Result, StreamOrder

WARM_UP, TIMED_REQUESTS, TIMED_IMAGES = 2, 6, 128
"""Untimed requests, then the minimum that is timed. A learning step every 64 images is in it twice."""

STREAM = "speed"


async def measure_speeds(
    driver: Driver,
    dataset: Dataset,
    streams: Mapping[StreamName, StreamOrder],
    cells: Iterable[Cell],
    speeds: Speeds,
    on_measured: Callable[[Speeds], None],
) -> None:
    """Time each strategy and request size of ``cells`` that ``speeds`` lacks; ``on_measured`` is called after each.

    The speed is the mean seconds per image of sequential requests of a single client, from request to response: with
    decoding and, for a server, the round trip. Other programs on the machine slow it down too.

    A strategy that fails is skipped.
    """
    for cell in {(cell.strategy, cell.batch): cell for cell in cells}.values():
        if cell.batch in speeds.get(cell.strategy, {}):
            continue
        try:
            seconds = await _seconds_per_image(driver, dataset, streams[stream_of(cell)], cell)
        except CELL_ERRORS:  # as the cell itself did, which was reported
            continue
        speeds.setdefault(cell.strategy, {})[cell.batch] = seconds
        on_measured(speeds)


def with_speeds(results: Iterable[Result], speeds: Speeds) -> list[Result]:
    """Return results whose ``seconds`` are those that their images take alone; NaN where not measured."""

    def seconds_alone(result: Result) -> float:
        return len(result.label) * speeds.get(result.cell.strategy, {}).get(result.cell.batch, math.nan)

    return [replace(result, seconds=seconds_alone(result)) for result in results]


async def _seconds_per_image(driver: Driver, dataset: Dataset, stream: StreamOrder, cell: Cell) -> float:
    (spec,) = parse_specs([cell.strategy])
    timed = max(TIMED_REQUESTS, math.ceil(TIMED_IMAGES / cell.batch))
    seconds, images = 0.0, 0
    # In a cycle: a short stream may not have so many images.
    for i, part in enumerate(islice(cycle(list(split_requests(stream, cell.batch))), WARM_UP + timed)):
        sent = images_of(dataset, stream, part)
        began = time.perf_counter()
        answers = await driver.predict(sent, STREAM, spec.strategy, spec.params, start=i == 0)
        if i >= WARM_UP:
            seconds, images = seconds + time.perf_counter() - began, images + len(answers.predicted)
    await driver.reset(STREAM)
    return seconds / images
