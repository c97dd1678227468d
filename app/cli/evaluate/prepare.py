"""Prepare an evaluation: check everything that can fail before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from app import __version__
from app.cli.progress import progress
from app.cli.startup import open_own_engine

if TYPE_CHECKING:
    from app.evaluation.datasets.data import Dataset
    from app.evaluation.running.cells import Folder
    from app.evaluation.running.drivers import Driver
    from app.evaluation.running.grid import StreamOptions, Streams
    from app.evaluation.specs import Spec
    from app.evaluation.types import Cell
    from app.settings import Settings


@dataclass(frozen=True)
class EvaluateOptions:
    """The options of the command. Empty and None mean "not set"."""

    data: Path
    output: Path
    strategies: list[str] | None
    protocols: list[str]
    orders: list[str]
    batches: list[int]
    seeds: int
    limit: int | None
    visits: int
    difficulty: str
    step_images: int | None
    severity: int
    domains: list[str]
    skip_unknown: bool
    anew: bool
    streams: Path | None
    concurrency: int
    processes: int
    speed: bool
    url: str | None
    key: str | None
    settings: Settings


@dataclass(frozen=True)
class EvaluationPlan:
    """An evaluation that is ready to run."""

    options: EvaluateOptions
    driver: Driver
    dataset: Dataset
    streams: Streams
    folder: Folder
    fingerprint: Mapping[str, str]  # the settings that results depend on
    cells: list[Cell]
    classes: str  # a line on the classes that model and data share


def prepare(options: EvaluateOptions) -> tuple[list[Spec], Dataset, Streams]:
    """Return strategies, data set and streams: the checks that need no model."""
    from adapters import COMBINATIONS, STRATEGIES, load_plugins
    from app.evaluation.datasets.data import open_data
    from app.evaluation.specs import Spec, check_specs, parse_specs
    from app.evaluation.walks.calibration import check_difficulty, check_walk

    load_plugins()
    specs = (
        parse_specs(options.strategies) if options.strategies else [Spec(name) for name in (*STRATEGIES, *COMBINATIONS)]
    )
    if options.url is None:
        check_specs(specs)
    dataset = open_data(options.data, options.severity).select(options.domains)
    check_difficulty(options.difficulty)
    if has_walk(options):
        check_walk(dataset)
    return specs, dataset, select_streams(options, dataset)


def select_streams(options: EvaluateOptions, dataset: Dataset) -> Streams:
    """Return the saved streams, or new ones by the options."""
    from app.evaluation.running.grid import load_streams, make_streams

    if options.streams is not None:
        return load_streams(options.streams, dataset)
    return make_streams(dataset, stream_options(options, dataset))


def stream_options(options: EvaluateOptions, dataset: Dataset) -> StreamOptions:
    """Return the streams to make, with the protocols that are the default for the data."""
    from app.evaluation.running.grid import StreamOptions

    protocols = options.protocols or ["continual", *(["clean"] if dataset.clean else [])]
    return StreamOptions(
        tuple(protocols),
        tuple(options.orders),
        options.seeds,
        options.limit,
        options.visits,
        options.difficulty,
        options.step_images,
    )


def has_walk(options: EvaluateOptions) -> bool:
    """Return True if walks are to be made, for which the model is asked."""
    from app.evaluation.types import WALK

    return options.streams is None and WALK in options.protocols


async def add_walks(options: EvaluateOptions, driver: Driver, dataset: Dataset, folder: Folder) -> Streams:
    """Return the walks, calibrated with the model unless they are saved; none where they are not asked for."""
    from app.evaluation.running.walking import walk_streams

    if not has_walk(options):
        return {}
    request = max(options.batches) if options.url else enlarged_settings(options).max_images
    wishes = stream_options(options, dataset)
    with progress() as show:
        return await walk_streams(driver, dataset, wishes, folder.streams, request, show)


def enlarged_settings(options: EvaluateOptions) -> Settings:
    """Return the settings, with limits raised to the requests and streams of this evaluation."""
    settings = options.settings
    room = {
        "max_images": max(settings.max_images, *options.batches),
        "max_waiting": max(settings.max_waiting, options.concurrency),
        "max_streams": max(settings.max_streams, 2 * options.concurrency),
        "timeout": None,
    }
    return settings.model_copy(update=room)


async def open_driver(options: EvaluateOptions) -> Driver:
    """Open the engine or the client of a server; end the program if the model cannot be hosted."""
    from app.evaluation.running.drivers import EngineDriver, server_driver

    if options.url is None:
        return EngineDriver(await open_own_engine(enlarged_settings(options)))
    return server_driver(options.url, options.key)


async def fit(
    options: EvaluateOptions, driver: Driver, specs: list[Spec], dataset: Dataset, streams: Streams
) -> EvaluationPlan:
    """Check that the model fits the classes and strategies, and the folder the settings."""
    from app.evaluation.labels.classes import match_classes
    from app.evaluation.running.cells import Folder
    from app.evaluation.running.grid import grid, save_streams
    from app.evaluation.running.runner import check_fit

    fitted = match_classes(dataset, await driver.classes(), skip_unknown=options.skip_unknown)
    for line in fitted.notes:
        typer.echo(f"renorm: {line}", err=True)
    if fitted.left_out:
        streams = select_streams(options, fitted.dataset)
    dataset = fitted.dataset
    fingerprint = {**await _result_settings(options, driver, dataset, streams), **fitted.settings}
    fitting = await check_fit(driver, dataset, specs, max(options.batches), leave_out=not options.strategies)
    for spec, reason in fitting.left_out:
        typer.echo(f"renorm: {spec.text} is skipped: {reason}", err=True)
    folder = Folder(options.output, fingerprint, anew=options.anew)
    streams = save_streams(folder.streams, dataset, streams) | await add_walks(options, driver, dataset, folder)
    cells = grid(fitting.specs, streams, options.batches)
    return EvaluationPlan(options, driver, dataset, streams, folder, fingerprint, cells, fitted.summary)


async def _result_settings(
    options: EvaluateOptions, driver: Driver, dataset: Dataset, streams: Streams
) -> dict[str, str]:
    """Return the settings that results depend on."""
    from app.evaluation.datasets.data import fingerprint
    from app.evaluation.running.grid import streams_digest

    replayed = options.streams is not None
    domains = [*dataset.shifted, *([dataset.domains.index(dataset.clean)] if dataset.clean else [])]
    return {
        "renorm": __version__,
        **await driver.identity(),
        "data": fingerprint(dataset, domains)[:16],
        "severity": str(options.severity),
        "limit": "as saved" if replayed else str(options.limit or "all"),
        "visits": "as saved" if replayed else str(options.visits),
        "streams": streams_digest(streams) if replayed else "made",
        **_walk_settings(options),
    }


def _walk_settings(options: EvaluateOptions) -> dict[str, str]:
    """Return the settings of walks that are not the default: folders of earlier versions have none."""
    difficulty = {"difficulty": options.difficulty} if options.difficulty != "medium" else {}
    return difficulty | ({"step images": str(options.step_images)} if options.step_images else {})
