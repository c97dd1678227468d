"""Prepare an evaluation: check everything that can fail before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from app import __version__
from app.cli.startup import open_engine

if TYPE_CHECKING:
    from app.evaluation.datasets.data import Dataset
    from app.evaluation.running.cells import Folder
    from app.evaluation.running.drivers import Driver
    from app.evaluation.running.grid import Streams
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
    from adapters import STRATEGIES, load_plugins
    from app.evaluation.datasets.data import open_data
    from app.evaluation.specs import Spec, check_specs, parse_specs

    load_plugins()
    specs = parse_specs(options.strategies) if options.strategies else [Spec(name) for name in STRATEGIES]
    if options.url is None:
        check_specs(specs)
    dataset = open_data(options.data, options.severity).select(options.domains)
    return specs, dataset, select_streams(options, dataset)


def select_streams(options: EvaluateOptions, dataset: Dataset) -> Streams:
    """Return the saved streams, or new ones by the options."""
    from app.evaluation.running.grid import StreamOptions, load_streams, make_streams

    if options.streams is not None:
        return load_streams(options.streams, dataset)
    protocols = options.protocols or ["continual", *(["clean"] if dataset.clean else [])]
    wishes = StreamOptions(tuple(protocols), tuple(options.orders), options.seeds, options.limit, options.visits)
    return make_streams(dataset, wishes)


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
        return EngineDriver(await open_engine(enlarged_settings(options)))
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
    streams = save_streams(folder.streams, dataset, streams)
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
    }
