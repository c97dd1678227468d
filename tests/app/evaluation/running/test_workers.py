"""Processes give what one gives, and end together."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app.engine import Engine
from app.evaluation.errors import EvaluationError
from app.evaluation.running.cells import Folder
from app.evaluation.running.drivers import EngineDriver
from app.evaluation.running.grid import Wishes, grid, keep_streams, make_streams
from app.evaluation.running.runner import run_cells
from app.evaluation.running.workers import Job, deal, run_jobs
from app.evaluation.specs import parse_specs
from app.evaluation.types import Cell, Result
from app.settings import Settings
from tests.app.evaluation.small_data import small_dataset, write_data


def test_cells_are_dealt_out_evenly_by_size() -> None:
    cells = [Cell(f"s{i}", "single", "iid", batch, 0) for i in range(5) for batch in (1, 64)]
    hands = deal(cells, 2)
    assert sorted(cell for hand in hands for cell in hand) == sorted(cells)
    for hand in hands:
        assert abs(sum(cell.batch == 1 for cell in hand) - 2.5) < 1
    assert [len(hand) for hand in deal(cells[:2], 8)] == [1, 1]


def job(tmp_path: Path, cells: tuple[Cell, ...], **settings: Any) -> Job:
    hosting = Settings(**{"device": "cpu", **settings})
    return Job(hosting, tmp_path, 5, tmp_path / "out", {"model": "x"}, cells, 4)


def test_processes_give_what_one_gives(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path)
    streams = make_streams(dataset, Wishes(("single",), ("iid",), 1, 4, 1))
    folder = Folder(tmp_path / "out", {"model": "x"})
    keep_streams(folder.streams, dataset, streams)
    cells = grid(parse_specs(["bn,adabn:momentum=0.3"]), streams, [3])
    told: list[tuple[Cell, int, int]] = []
    failures = run_jobs([job(tmp_path, hand) for hand in deal(cells, 2)], lambda *step: told.append(step))
    assert failures == []
    assert folder.missing(cells) == []
    assert sum(images for _, images, _ in told) == 8 * len(cells)

    async def here() -> list[Result]:
        driver, results = EngineDriver(await Engine.open(Settings(device="cpu"))), list[Result]()
        await run_cells(driver, dataset, streams, cells, results.append, lambda *_: None, 2)
        await driver.close()
        return results

    for result in asyncio.run(here()):
        assert folder.load(result.cell).predicted.tolist() == result.predicted.tolist()


def test_a_process_that_cannot_go_on_ends_all(tmp_path: Path) -> None:
    write_data(tmp_path)
    cells = (Cell("bn", "single", "iid", 3, 0),)
    with pytest.raises(EvaluationError, match="no model 'nothing'"):
        run_jobs([job(tmp_path, cells, model="nothing")], lambda *_: None)
