"""How fast a strategy answers when nothing else does: measured after the cells, which share their forwards."""

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
from app.evaluation.streams.streams import requests
from app.evaluation.types import Cell, Result, Stream

WARM_UP, TIMED_REQUESTS, TIMED_IMAGES = 2, 6, 128
"""Requests before the clock runs, and the least that it times. What some learners do every 64 images is in it twice."""

STREAM = "speed"


async def measure_speeds(
    driver: Driver,
    dataset: Dataset,
    streams: Mapping[StreamName, Stream],
    cells: Iterable[Cell],
    speeds: Speeds,
    on_measured: Callable[[Speeds], None],
) -> None:
    """Time each strategy and request size of ``cells`` that ``speeds`` lacks; ``on_measured`` is called after each.

    The figure is the mean seconds per image of requests that are sent one after the other by one client alone, from
    asking to the answer: with decoding and, where a server is asked, the way there and back. What runs on the machine
    beside this program is in it too.

    A strategy that fails is left out.
    """
    for cell in {(cell.strategy, cell.batch): cell for cell in cells}.values():
        if cell.batch in speeds.get(cell.strategy, {}):
            continue
        try:
            seconds = await _seconds_per_image(driver, dataset, streams[stream_of(cell)], cell)
        except CELL_ERRORS:  # as the cell itself did, which has been told
            continue
        speeds.setdefault(cell.strategy, {})[cell.batch] = seconds
        on_measured(speeds)


def with_speeds(results: Iterable[Result], speeds: Speeds) -> list[Result]:
    """Results whose ``seconds`` are those that their images take alone; NaN where that was not measured."""

    def seconds_alone(result: Result) -> float:
        return len(result.label) * speeds.get(result.cell.strategy, {}).get(result.cell.batch, math.nan)

    return [replace(result, seconds=seconds_alone(result)) for result in results]


async def _seconds_per_image(driver: Driver, dataset: Dataset, stream: Stream, cell: Cell) -> float:
    (spec,) = parse_specs([cell.strategy])
    timed = max(TIMED_REQUESTS, math.ceil(TIMED_IMAGES / cell.batch))
    seconds, images = 0.0, 0
    # Around and around: a short stream may not have so many images.
    for i, part in enumerate(islice(cycle(list(requests(stream, cell.batch))), WARM_UP + timed)):
        sent = images_of(dataset, stream, part)
        began = time.perf_counter()
        answers = await driver.predict(sent, STREAM, spec.strategy, spec.params, start=i == 0)
        if i >= WARM_UP:
            seconds, images = seconds + time.perf_counter() - began, images + len(answers.predicted)
    await driver.reset(STREAM)
    return seconds / images
