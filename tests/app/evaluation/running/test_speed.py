"""Speed is that of a strategy alone, and known once."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from pathlib import Path

import numpy as np

from app.errors import UnanswerableError
from app.evaluation.running.cells import Speeds
from app.evaluation.running.grid import StreamOptions, grid, make_streams
from app.evaluation.running.speed import measure_speeds, with_speeds
from app.evaluation.specs import parse_specs
from app.evaluation.types import Cell, Result
from tests.app.evaluation.small_data import Scripted, small_dataset


def test_each_strategy_and_size_is_timed_once_and_alone(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path)
    streams = make_streams(dataset, StreamOptions(("single", "mixed"), ("iid",), 1, None, 1))
    driver = Scripted({"magic": UnanswerableError("no")})
    cells = grid(parse_specs(["source,bn,magic"]), streams, [1, 16])
    speeds: Speeds = {"bn": {1: 0.5}}
    saved: list[Speeds] = []
    asyncio.run(measure_speeds(driver, dataset, streams, cells, speeds, lambda speeds: saved.append(dict(speeds))))
    assert {name: list(row) for name, row in speeds.items()} == {"bn": [1, 16], "source": [1, 16]}
    assert speeds["bn"][1] == 0.5
    assert len(saved) == 3
    assert driver.most == 1
    sizes = Counter(len(images) for _, _, images in driver.asked)
    assert sizes[1] >= 130, "learners that learn every 64 images did so twice"


def test_with_speeds_replaces_seconds() -> None:
    array = np.zeros(10, np.int64)
    single = array.astype(np.float32)
    result = Result(
        Cell("bn", "single", "iid", 4, 0), array.astype(np.int32), array, array, single, single, single, 9.0, 0
    )
    (timed,) = with_speeds([result], {"bn": {4: 0.25}})
    assert (timed.seconds, timed.cell) == (2.5, result.cell)
    for speeds in ({}, {"bn": {1: 0.25}}):
        (unknown,) = with_speeds([result], speeds)
        assert math.isnan(unknown.seconds)
