"""Before an evaluation: everything that can be wrong is looked at, and nothing is computed yet."""

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
class Asked:
    """The options of the command. Lists that are empty or None were not given."""

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
    together: int
    processes: int
    speed: bool
    url: str | None
    key: str | None
    settings: Settings


@dataclass(frozen=True)
class Ready:
    """An evaluation that can begin."""

    asked: Asked
    driver: Driver
    dataset: Dataset
    streams: Streams
    folder: Folder
    kept: Mapping[str, str]  # the folder's settings
    cells: list[Cell]
    classes: str  # which of the model's classes the data hold


def prepare(asked: Asked) -> tuple[list[Spec], Dataset, Streams]:
    """All that needs no model."""
    from adapters import STRATEGIES, load_plugins
    from app.evaluation.datasets.data import open_data
    from app.evaluation.specs import Spec, check_specs, parse_specs

    load_plugins()
    specs = parse_specs(asked.strategies) if asked.strategies else [Spec(name) for name in STRATEGIES]
    if asked.url is None:
        check_specs(specs)
    dataset = open_data(asked.data, asked.severity).select(asked.domains)
    return specs, dataset, shown_streams(asked, dataset)


def shown_streams(asked: Asked, dataset: Dataset) -> Streams:
    """The streams that are saved, or those that the options ask for."""
    from app.evaluation.running.grid import StreamOptions, load_streams, make_streams

    if asked.streams is not None:
        return load_streams(asked.streams, dataset)
    shown = asked.protocols or ["continual", *(["clean"] if dataset.clean else [])]
    wishes = StreamOptions(tuple(shown), tuple(asked.orders), asked.seeds, asked.limit, asked.visits)
    return make_streams(dataset, wishes)


def roomy(asked: Asked) -> Settings:
    """The settings with room for the requests and streams of this evaluation, where they leave less."""
    now = asked.settings
    room = {
        "max_images": max(now.max_images, *asked.batches),
        "max_waiting": max(now.max_waiting, asked.together),
        "max_streams": max(now.max_streams, 2 * asked.together),
        "timeout": None,
    }
    return now.model_copy(update=room)


async def open_driver(asked: Asked) -> Driver:
    """The engine with the model, or the server; ends the program if the model cannot be hosted."""
    from app.evaluation.running.drivers import EngineDriver, server_driver

    if asked.url is None:
        return EngineDriver(await open_engine(roomy(asked)))
    return server_driver(asked.url, asked.key)


async def fit(asked: Asked, driver: Driver, specs: list[Spec], dataset: Dataset, streams: Streams) -> Ready:
    """See whether the model has the classes and takes the strategies, and the folder the results."""
    from app.evaluation.labels.classes import match_classes
    from app.evaluation.running.cells import Folder
    from app.evaluation.running.grid import grid, save_streams
    from app.evaluation.running.runner import check_fit

    fitted = match_classes(dataset, await driver.classes(), skip_unknown=asked.skip_unknown)
    for line in fitted.notes:
        typer.echo(f"renorm: {line}", err=True)
    if fitted.left_out:
        streams = shown_streams(asked, fitted.dataset)
    dataset = fitted.dataset
    kept = {**await _kept(asked, driver, dataset, streams), **fitted.settings}
    fitting = await check_fit(driver, dataset, specs, max(asked.batches), leave_out=not asked.strategies)
    for spec, why in fitting.left_out:
        typer.echo(f"renorm: {spec.text} is left out: {why}", err=True)
    folder = Folder(asked.output, kept, anew=asked.anew)
    streams = save_streams(folder.streams, dataset, streams)
    cells = grid(fitting.specs, streams, asked.batches)
    return Ready(asked, driver, dataset, streams, folder, kept, cells, fitted.summary)


async def _kept(asked: Asked, driver: Driver, dataset: Dataset, streams: Streams) -> dict[str, str]:
    """What figures depend on."""
    from app.evaluation.datasets.data import fingerprint
    from app.evaluation.running.grid import streams_digest

    replayed = asked.streams is not None
    shown = [*dataset.shifted, *([dataset.domains.index(dataset.clean)] if dataset.clean else [])]
    return {
        "renorm": __version__,
        **await driver.identity(),
        "data": fingerprint(dataset, shown)[:16],
        "severity": str(asked.severity),
        "limit": "as saved" if replayed else str(asked.limit or "all"),
        "visits": "as saved" if replayed else str(asked.visits),
        "streams": streams_digest(streams) if replayed else "made",
    }
