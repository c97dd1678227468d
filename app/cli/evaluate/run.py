"""What `renorm evaluate` does: run the cells that are missing, measure speeds, write the report."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from app import __version__
from app.cli.evaluate.prepare import Asked, Ready, fit, open_driver, prepare, roomy
from app.cli.evaluate.progress import cells_progress
from app.cli.evaluate.summary import show_summary
from app.cli.progress import progress
from app.cli.settings import BAD_OPTION, CANNOT_RUN, fail

if TYPE_CHECKING:
    from app.evaluation.running.runner import Failure, ProgressCallback
    from app.evaluation.types import Cell, Result

INTERRUPTED = 130


def run(asked: Asked) -> None:
    """Evaluate; ends the program with one line where that is not possible."""
    with _explained(BAD_OPTION, asked.output), asyncio.Runner() as runner:
        specs, dataset, streams = prepare(asked)
        driver = runner.run(open_driver(asked))
        try:
            ready = runner.run(fit(asked, driver, specs, dataset, streams))
            _say_size(ready)
            with _explained(CANNOT_RUN, asked.output):
                failures = _run_cells(ready, runner)
                if asked.speed:
                    _say_errors(ready)
                    runner.run(_measure_speeds(ready))
                _report(ready, failures)
        finally:
            runner.run(driver.close())


def _say_size(ready: Ready) -> None:
    asked, cells = ready.asked, ready.cells
    missing = ready.folder.missing(cells)
    strategies = len({cell.strategy for cell in cells})
    sizes = ", ".join(map(str, dict.fromkeys(asked.batches)))
    typer.echo(
        f"renorm: {len(cells)} cells: {_count(strategies, 'strategy', 'strategies')}, "
        f"{_count(len(ready.streams), 'stream', 'streams')}, requests of {sizes}",
        err=True,
    )
    finished = len(cells) - len(missing)
    done = f", {_count(finished, 'cell', 'cells')} finished already" if finished else ""
    typer.echo(f"renorm: {sum(_images(ready, missing).values()):,} images to predict{done}", err=True)
    if not any(cell.strategy == "source" for cell in cells):
        typer.echo("renorm: without the strategy source, the report cannot say what helps and what hurts", err=True)


def _say_errors(ready: Ready) -> None:
    """Mean errors before speeds are known, which take a while: they are what most people wait for."""
    from app.evaluation.metrics import mean

    errors: dict[str, list[float]] = {}
    for result in ready.folder.results(cell for cell in ready.cells if cell.protocol != "clean"):
        if result.cell.protocol != "clean":
            errors.setdefault(result.cell.strategy, []).append(100.0 * float((result.predicted != result.label).mean()))
    told = ", ".join(f"{strategy} {mean(own):.1f} %" for strategy, own in errors.items())
    if told:
        typer.echo(f"renorm: mean errors: {told}", err=True)


def _run_cells(ready: Ready, runner: asyncio.Runner) -> list[Failure]:
    from app.evaluation.running.runner import run_cells

    missing = ready.folder.missing(ready.cells)
    if not missing:
        return []
    with cells_progress(_images(ready, missing)) as told:
        if ready.asked.processes > 1:
            return _run_jobs(ready, missing, told)
        together = ready.asked.together
        return runner.run(
            run_cells(ready.driver, ready.dataset, ready.streams, missing, ready.folder.keep, told, together)
        )


def _run_jobs(ready: Ready, cells: Sequence[Cell], told: ProgressCallback) -> list[Failure]:
    from app.evaluation.running.workers import Job, deal, run_jobs

    asked = ready.asked
    jobs = [
        Job(
            roomy(asked),
            asked.data,
            asked.severity,
            asked.output,
            ready.kept,
            own,
            asked.together,
            asked.skip_unknown,
        )
        for own in deal(cells, asked.processes)
    ]
    return run_jobs(jobs, told)


async def _measure_speeds(ready: Ready) -> None:
    from app.evaluation.running.speed import measure_speeds

    folder = ready.folder
    with progress() as show:
        show("measuring how fast each strategy is alone")
        done = [cell for cell in ready.cells if folder.file(cell).exists()]
        await measure_speeds(ready.driver, ready.dataset, ready.streams, done, folder.speeds(), folder.keep_speeds)


def _report(ready: Ready, failures: Sequence[Failure]) -> None:
    from app.evaluation.report.report import write_report
    from app.evaluation.running.speed import with_speeds

    folder = ready.folder
    for cell, why in failures:
        location = f"{cell.protocol}, {cell.order}, requests of {cell.batch}, seed {cell.seed}"
        typer.echo(f"renorm: {cell.strategy} has no result at {location}: {why}", err=True)
    results = with_speeds(folder.results(ready.cells), folder.speeds())
    if not results:
        fail("no cell has a result", status=CANNOT_RUN)
    titles = [domain.title for domain in ready.dataset.domains]
    plots = _plots(ready, results, titles)
    report = write_report(folder.path, results, _about(ready), domains=titles, plots=plots)
    show_summary(results)
    typer.echo(f"The report is {report}, the figures are in {folder.path / 'results.csv'}.")
    if failures:
        raise typer.Exit(CANNOT_RUN)


def _plots(ready: Ready, results: Sequence[Result], titles: Sequence[str]) -> list[Path]:
    """The pictures; none where the package that draws them is not there."""
    from app.errors import MissingPackageError
    from app.evaluation.plots.write import write_plots

    try:
        return write_plots(ready.folder.path / "plots", results, domains=titles)
    except MissingPackageError as error:
        typer.echo(f"renorm: there are no pictures: {error.message}; {error.hint}", err=True)
        return []


def _about(ready: Ready) -> dict[str, str]:
    asked, kept = ready.asked, ready.kept
    limit = "" if kept["limit"] == "all" else f", {kept['limit']} images of each domain"
    return {
        "model": f"{kept['model']} ({kept['architecture']}, {kept['type']}, weights {kept['weights']})",
        "data": f"{asked.data} ({kept['data']}), severity {kept['severity']}{limit}",
        "classes": ready.classes,
        "command": " ".join(["renorm", *sys.argv[1:]]),
        "answered by": f"{ready.driver.place}; Renorm {__version__}, Python {platform.python_version()}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "images/s": "of requests sent one after the other, with nothing beside them",
    }


def _images(ready: Ready, cells: Sequence[Cell]) -> dict[str, int]:
    from app.evaluation.running.grid import stream_of

    counted = Counter[str]()
    for cell in cells:
        counted[cell.strategy] += len(ready.streams[stream_of(cell)].image)
    return dict(counted)


def _count(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


@contextmanager
def _explained(status: int, output: Path) -> Iterator[None]:
    """End the program with one clear line; ``status`` is that of what the evaluation itself finds wrong."""
    from app.client import InvalidInput, RenormClientError
    from app.errors import RenormError
    from app.evaluation.errors import EvaluationError

    try:
        yield
    except KeyboardInterrupt:
        fail(
            f"stopped; what is finished is kept in {output}, and the same command goes on from there",
            status=INTERRUPTED,
        )
    except RenormError as error:
        why = f"{error.message}; {error.hint}" if error.hint else error.message
        fail(why, status=status if isinstance(error, EvaluationError) else CANNOT_RUN)
    except InvalidInput as error:
        fail(str(error), status=BAD_OPTION)
    except RenormClientError as error:
        fail(str(error), status=CANNOT_RUN)
