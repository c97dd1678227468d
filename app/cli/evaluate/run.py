"""Run `renorm evaluate`: the missing cells, the throughput, and the report."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from app import __version__
from app.cli.evaluate.prepare import (
    EvaluateOptions,
    EvaluationPlan,
    enlarged_settings,
    fit,
    has_walk,
    open_driver,
    prepare,
)
from app.cli.evaluate.progress import cells_progress
from app.cli.evaluate.summary import show_summary
from app.cli.exits import exit_on_errors
from app.cli.progress import progress
from app.cli.settings import CANNOT_RUN, fail

if TYPE_CHECKING:
    from app.evaluation.running.runner import Failure, ProgressCallback
    from app.evaluation.types import Cell, Result


def run(options: EvaluateOptions) -> None:
    """Evaluate; end the program with a one-line message on errors."""
    interrupted = f"finished cells are saved in {options.output}, and the same command resumes from there"
    with exit_on_errors(interrupted), asyncio.Runner() as runner:
        specs, dataset, streams = prepare(options)
        driver = runner.run(open_driver(options))
        try:
            plan = runner.run(fit(options, driver, specs, dataset, streams))
            _print_size(plan)
            with exit_on_errors(interrupted, CANNOT_RUN):
                failures = _run_cells(plan, runner)
                if options.speed:
                    _print_errors(plan)
                    runner.run(_measure_speeds(plan))
                _report(plan, failures)
        finally:
            runner.run(driver.close())


def _print_size(plan: EvaluationPlan) -> None:
    options, cells = plan.options, plan.cells
    missing = plan.folder.missing(cells)
    strategies = len({cell.strategy for cell in cells})
    sizes = ", ".join(map(str, dict.fromkeys(options.batches)))
    typer.echo(
        f"renorm: {len(cells)} cells: {_count(strategies, 'strategy', 'strategies')}, "
        f"{_count(len(plan.streams), 'stream', 'streams')}, requests of {sizes}",
        err=True,
    )
    finished = len(cells) - len(missing)
    done = f", {_count(finished, 'cell', 'cells')} already finished" if finished else ""
    typer.echo(f"renorm: {sum(_image_counts(plan, missing).values()):,} images to predict{done}", err=True)
    if not any(cell.strategy == "source" for cell in cells):
        typer.echo("renorm: the report has no comparison without the strategy source (the unadapted model)", err=True)


def _print_errors(plan: EvaluationPlan) -> None:
    """Print the mean errors before the throughput is measured, which takes a while."""
    from app.evaluation.metrics import mean

    errors: dict[str, list[float]] = {}
    for result in plan.folder.results(cell for cell in plan.cells if cell.protocol != "clean"):
        if result.cell.protocol != "clean":
            errors.setdefault(result.cell.strategy, []).append(100.0 * float((result.predicted != result.label).mean()))
    summary = ", ".join(f"{strategy} {mean(values):.1f} %" for strategy, values in errors.items())
    if summary:
        typer.echo(f"renorm: mean errors: {summary}", err=True)


def _run_cells(plan: EvaluationPlan, runner: asyncio.Runner) -> list[Failure]:
    from app.evaluation.running.runner import run_cells

    missing = plan.folder.missing(plan.cells)
    if not missing:
        return []
    with cells_progress(_image_counts(plan, missing)) as count:
        if plan.options.processes > 1:
            return _run_jobs(plan, missing, count)
        concurrency = plan.options.concurrency
        return runner.run(
            run_cells(plan.driver, plan.dataset, plan.streams, missing, plan.folder.keep, count, concurrency)
        )


def _run_jobs(plan: EvaluationPlan, cells: Sequence[Cell], count: ProgressCallback) -> list[Failure]:
    from app.evaluation.running.workers import Job, deal, run_jobs

    options = plan.options
    source = enlarged_settings(options), options.data, options.severity, options.output, plan.fingerprint
    shares = deal(cells, options.processes)
    return run_jobs([Job(*source, share, options.concurrency, options.skip_unknown) for share in shares], count)


async def _measure_speeds(plan: EvaluationPlan) -> None:
    from app.evaluation.running.speed import measure_speeds

    folder = plan.folder
    with progress() as show:
        show("measuring the throughput of each strategy")
        done = [cell for cell in plan.cells if folder.file(cell).exists()]
        await measure_speeds(plan.driver, plan.dataset, plan.streams, done, folder.speeds(), folder.keep_speeds)


def _report(plan: EvaluationPlan, failures: Sequence[Failure]) -> None:
    from app.evaluation.report.report import write_report
    from app.evaluation.running.speed import with_speeds

    folder = plan.folder
    for cell, reason in failures:
        location = f"{cell.protocol}, {cell.order}, requests of {cell.batch}, seed {cell.seed}"
        typer.echo(f"renorm: {cell.strategy} failed at {location}: {reason}", err=True)
    results = with_speeds(folder.results(plan.cells), folder.speeds())
    if not results:
        fail("all cells failed: there are no results", status=CANNOT_RUN)
    titles = [domain.title for domain in plan.dataset.domains]
    plots = _plots(plan, results, titles)
    report = write_report(folder.path, results, _report_header(plan), domains=titles, plots=plots)
    show_summary(results)
    typer.echo(f"Report: {report}; results: {folder.path / 'results.csv'}")
    if failures:
        raise typer.Exit(CANNOT_RUN)


def _plots(plan: EvaluationPlan, results: Sequence[Result], titles: Sequence[str]) -> list[Path]:
    """Write the plots; none where the plotting package is not installed."""
    from app.errors import MissingPackageError
    from app.evaluation.plots.write import write_plots

    try:
        return write_plots(plan.folder.path / "plots", results, domains=titles)
    except MissingPackageError as error:
        typer.echo(f"renorm: no plots: {error.line}", err=True)
        return []


def _report_header(plan: EvaluationPlan) -> dict[str, str]:
    options, settings = plan.options, plan.fingerprint
    limit = "" if settings["limit"] == "all" else f", {settings['limit']} images of each domain"
    return {
        "model": f"{settings['model']} ({settings['architecture']}, {settings['type']}, weights {settings['weights']})",
        "data": f"{options.data} ({settings['data']}), severity {settings['severity']}{limit}",
        "classes": plan.classes,
        "command": " ".join(["renorm", *sys.argv[1:]]),
        "answered by": f"{plan.driver.place}; Renorm {__version__}, Python {platform.python_version()}",
        **_walk_line(plan),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "images/s": "of sequential requests, without concurrent load",
    }


def _walk_line(plan: EvaluationPlan) -> dict[str, str]:
    """Return the difficulty of walks that were made here."""
    from app.evaluation.walks.calibration import DIFFICULTIES

    if not has_walk(plan.options):
        return {}
    difficulty = plan.options.difficulty
    share = 100 * DIFFICULTIES[difficulty]
    return {"walk": f"{difficulty}: source keeps about {share:.0f} % of its accuracy above chance on clean images"}


def _image_counts(plan: EvaluationPlan, cells: Sequence[Cell]) -> dict[str, int]:
    from app.evaluation.running.grid import stream_of

    counts = Counter[str]()
    for cell in cells:
        counts[cell.strategy] += len(plan.streams[stream_of(cell)].image)
    return dict(counts)


def _count(number: int, singular: str, plural: str) -> str:
    return f"{number} {singular if number == 1 else plural}"
