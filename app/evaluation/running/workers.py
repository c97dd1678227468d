"""Cells distributed over processes, each with its own engine on one core."""

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
from app.evaluation.labels.classes import match_classes
from app.evaluation.running.cells import Folder
from app.evaluation.running.drivers import EngineDriver
from app.evaluation.running.grid import read_streams, stream_of
from app.evaluation.running.runner import Failure, ProgressCallback, run_cells
from app.evaluation.types import Cell
from app.settings import Settings

POLL_S = 0.5
"""Seconds between two checks that all processes are alive."""


@dataclass(frozen=True)
class Job:
    """The work of one process."""

    settings: Settings
    data: Path
    severity: int
    folder: Path
    folder_settings: Mapping[str, str]
    cells: tuple[Cell, ...]
    concurrency: int
    skip_unknown: bool = False


class _Ended(NamedTuple):
    failures: list[Failure]
    problem: str = ""


def deal(cells: Sequence[Cell], processes: int) -> list[tuple[Cell, ...]]:
    """Return the cells of each process: equally many of each request size, because small requests take longest."""
    by_size = sorted(cells, key=lambda cell: cell.batch)
    return [tuple(by_size[i::processes]) for i in range(min(processes, len(by_size)))]


def run_jobs(jobs: Sequence[Job], progress: ProgressCallback) -> list[Failure]:
    """Run each job in its own process, and report progress.

    Returns:
        The cells that failed; see `runner.run_cells`.

    Raises:
        EvaluationError: a process failed or died; the others are terminated. Finished cells stay.
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
    """Yield the messages of the processes, until each has ended."""
    running = len(processes)
    while running:
        exit_codes = [process.exitcode for process in processes if process.exitcode]
        try:
            message = messages.get(timeout=POLL_S)
        except queue.Empty:
            if exit_codes:
                raise EvaluationError(
                    f"a process of the evaluation died with exit status {exit_codes[0]}",
                    hint="if memory is short, use fewer --processes",
                ) from None
            continue
        running -= isinstance(message, _Ended)
        yield message


def _work(job: Job, messages: multiprocessing.Queue[Any]) -> None:
    """Run a job in this process."""
    # Ctrl-C reaches all processes of a terminal: the parent terminates the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        failures = asyncio.run(_run(job, lambda *step: messages.put(step)))
    except Exception as error:
        messages.put(_Ended([], f"{type(error).__name__}: {error}"))
    else:
        messages.put(_Ended(failures))


async def _run(job: Job, progress: Callable[[Cell, int, int], None]) -> list[Failure]:
    folder = Folder(job.folder, job.folder_settings)
    driver = EngineDriver(await Engine.open(job.settings.model_copy(update={"threads": 1, "workers": 0})))
    try:
        data = open_data(job.data, job.severity)
        dataset = match_classes(data, await driver.classes(), skip_unknown=job.skip_unknown).dataset
        streams = read_streams(folder.streams, dataset, map(stream_of, job.cells))
        return await run_cells(driver, dataset, streams, job.cells, folder.keep, progress, job.concurrency)
    finally:
        await driver.close()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Make processes that start inside compute on one thread; OpenMP reads the variable when torch loads."""
    previous = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if previous is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = previous
