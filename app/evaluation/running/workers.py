"""Cells dealt out to processes, each with an engine of its own that computes on one core."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import queue
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple

from app.engine import Engine
from app.evaluation.datasets.data import open_data
from app.evaluation.errors import EvaluationError
from app.evaluation.labels.classes import fit_classes
from app.evaluation.running.cells import Folder
from app.evaluation.running.drivers import EngineDriver
from app.evaluation.running.grid import read_streams, stream_of
from app.evaluation.running.runner import Failure, ProgressCallback, run_cells
from app.evaluation.types import Cell
from app.settings import Settings

POLL_S = 0.5
"""Seconds between two looks at whether all processes are still there."""


@dataclass(frozen=True)
class Job:
    """All that a process needs to know."""

    settings: Settings
    data: Path
    severity: int
    folder: Path
    folder_settings: Mapping[str, str]  # the folder's settings
    cells: tuple[Cell, ...]
    concurrency: int
    skip_unknown: bool = False


class _Ended(NamedTuple):
    failures: list[Failure]
    problem: str = ""


def deal(cells: Sequence[Cell], processes: int) -> list[tuple[Cell, ...]]:
    """The cells of each process: of each request size as many, because small requests take longest."""
    by_size = sorted(cells, key=lambda cell: cell.batch)
    return [tuple(by_size[i::processes]) for i in range(min(processes, len(by_size)))]


def run_jobs(jobs: Sequence[Job], progress: ProgressCallback) -> list[Failure]:
    """Run each job in a process of its own, and tell what is done as it is done.

    Returns:
        The cells that failed by their own fault; see `running.run_cells`.

    Raises:
        EvaluationError: a process cannot go on, or is gone; the others are ended. Finished cells are kept.
    """
    context = multiprocessing.get_context("spawn")
    messages: multiprocessing.Queue[Any] = context.Queue()
    processes = [context.Process(target=_work, args=(job, messages), daemon=True) for job in jobs]
    try:
        with _one_thread_each():
            for process in processes:
                process.start()
        return _follow(processes, messages, progress)
    finally:
        for process in processes:
            if process.pid is not None:
                process.terminate()
                process.join()
        messages.close()


def _follow(
    processes: Sequence[SpawnProcess], messages: multiprocessing.Queue[Any], progress: ProgressCallback
) -> list[Failure]:
    failures: list[Failure] = []
    for message in _messages(processes, messages):
        if not isinstance(message, _Ended):
            progress(*message)
            continue
        if message.problem:
            raise EvaluationError(message.problem)
        failures += message.failures
    return failures


def _messages(processes: Sequence[SpawnProcess], messages: multiprocessing.Queue[Any]) -> Iterator[Any]:
    """What the processes say, until each has said that it ended."""
    running = len(processes)
    while running:
        exit_codes = [process.exitcode for process in processes if process.exitcode]
        try:
            message = messages.get(timeout=POLL_S)
        except queue.Empty:
            if exit_codes:
                raise EvaluationError(
                    f"a process of the evaluation ended by itself with status {exit_codes[0]}",
                    hint="where memory is short, use fewer --processes",
                ) from None
            continue
        running -= isinstance(message, _Ended)
        yield message


def _work(job: Job, messages: multiprocessing.Queue[Any]) -> None:
    """What a process does."""
    # Ctrl-C reaches all processes of a terminal: the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        failures = asyncio.run(_run(job, lambda *step: messages.put(step)))
    except Exception as error:
        messages.put(_Ended([], f"{type(error).__name__}: {error}"))
    else:
        messages.put(_Ended(failures))


async def _run(job: Job, progress: Callable[[Cell, int, int], None]) -> list[Failure]:
    folder = Folder(job.folder, job.folder_settings)
    driver = EngineDriver(await Engine.open(job.settings.model_copy(update={"threads": 1})))
    try:
        data = open_data(job.data, job.severity)
        dataset = fit_classes(data, await driver.classes(), skip_unknown=job.skip_unknown).dataset
        streams = read_streams(folder.streams, dataset, map(stream_of, job.cells))
        return await run_cells(driver, dataset, streams, job.cells, folder.keep, progress, job.concurrency)
    finally:
        await driver.close()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that begin in here compute on one thread; OpenMP reads the variable when torch is loaded."""
    previous = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if previous is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = previous
