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
from app.evaluation.running.grid import StreamOptions, grid, make_streams, save_streams
from app.evaluation.running.runner import run_cells
from app.evaluation.running.workers import Job, deal, run_jobs
from app.evaluation.specs import parse_specs
from app.evaluation.types import Cell, Result
from app.settings import Settings
from tests.app.evaluation.small_data import small_dataset, write_data


def test_deal_balances_request_sizes() -> None:
    cells = [Cell(f"s{i}", "single", "iid", batch, 0) for i in range(5) for batch in (1, 64)]
    hands = deal(cells, 2)
    assert sorted(cell for hand in hands for cell in hand) == sorted(cells)
    for hand in hands:
        assert abs(sum(cell.batch == 1 for cell in hand) - 2.5) < 1
    assert [len(hand) for hand in deal(cells[:2], 8)] == [1, 1]


def job(tmp_path: Path, cells: tuple[Cell, ...], **settings: Any) -> Job:
    hosting = Settings(**{"device": "cpu", **settings})
    return Job(hosting, tmp_path, 5, tmp_path / "out", {"model": "x"}, cells, 4)


def test_results_of_processes_equal_those_of_one_process(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path)
    streams = make_streams(dataset, StreamOptions(("single",), ("iid",), 1, 4, 1))
    folder = Folder(tmp_path / "out", {"model": "x"})
    save_streams(folder.streams, dataset, streams)
    cells = grid(parse_specs(["bn,adabn:momentum=0.3"]), streams, [3])
    calls: list[tuple[Cell, int, int]] = []
    failures = run_jobs([job(tmp_path, hand) for hand in deal(cells, 2)], lambda *step: calls.append(step))
    assert failures == []
    assert folder.missing(cells) == []
    assert sum(images for _, images, _ in calls) == 8 * len(cells)

    async def run_here() -> list[Result]:
        driver, results = EngineDriver(await Engine.open(Settings(device="cpu"))), list[Result]()
        await run_cells(driver, dataset, streams, cells, results.append, lambda *_: None, 2)
        await driver.close()
        return results

    for result in asyncio.run(run_here()):
        assert folder.load(result.cell).predicted.tolist() == result.predicted.tolist()


def test_a_failed_process_terminates_all(tmp_path: Path) -> None:
    write_data(tmp_path)
    cells = (Cell("bn", "single", "iid", 3, 0),)
    with pytest.raises(EvaluationError, match="unknown model 'nothing'"):
        run_jobs([job(tmp_path, cells, model="nothing")], lambda *_: None)
