"""`renorm calibrate-temperature`: fit the temperature that makes a model's confidence match how often it is right."""

from __future__ import annotations

import asyncio
import json as json_text
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import options as o
from app.cli.settings import BAD_OPTION, CANNOT_RUN, fail, settings_from
from app.cli.startup import open_engine
from app.cli.tables import show

if TYPE_CHECKING:
    from adapters import Strategy
    from app.evaluation.temperature.collect import FittedTemperature
    from app.settings import Settings

CALIBRATE_EXAMPLES = """\
Examples:

* `renorm calibrate-temperature --data cifar10c`

* `renorm calibrate-temperature --data validation --model timm:resnet50 --strategy unmix_tns --batch-size 16`

* `renorm calibrate-temperature --data validation --strategy adabn:momentum=0.2 --limit 5000 --json`

The data are labelled images as the model was trained for, but not those that it was trained on: `CLASS/*.png`, or
`clean.npy` with `labels.npy`. A server uses the temperature for requests that name `STRATEGY+temperature`.
"""

_NETWORK = ("model", "weights", "weights_key", "labels", "mean", "std", "size")
_HOSTING = (*_NETWORK, "device", "dtype", "threads", "temperatures")
INTERRUPTED = 130

Data = Annotated[
    Path, typer.Option("--data", help="CLASS/*.png, or clean.npy and labels.npy: labelled images.", metavar="FOLDER")
]
Named = Annotated[
    str | None,
    typer.Option("--strategy", help="NAME or NAME:PARAMETER=VALUE,...; by default the server's.", metavar="NAME"),
]
Batch = Annotated[int, typer.Option("--batch-size", help="Images in a request.", min=1, metavar="NUMBER")]
Limit = Annotated[int | None, typer.Option("--limit", help="Images to draw; by default all.", min=1, metavar="NUMBER")]
HeldOut = Annotated[
    float,
    typer.Option(
        "--held-out",
        help="Share of images to report on and not to fit on; 0 for none.",
        min=0,
        max=0.99,
        metavar="SHARE",
    ),
]
SkipUnknown = Annotated[
    bool, typer.Option("--skip-unknown", help="Leave out images of classes that the model does not have.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@o.with_settings(*_HOSTING)
def calibrate(
    data: Data,
    strategy: Named = None,
    batch_size: Batch = 64,
    limit: Limit = None,
    held_out: HeldOut = 0.5,
    skip_unknown: SkipUnknown = False,
    json: Json = False,
    config: o.ConfigOption = None,
    **options: Any,
) -> None:
    """Fit the temperature of a model under a strategy on labelled images, and keep it for the server."""
    settings = settings_from({**options, "config": config})
    with _explained():
        front = _front(strategy or settings.strategy)
        room = {"strategy": "source", "max_images": max(settings.max_images, batch_size), "timeout": None}
        roomy = settings.model_copy(update=room)
        model, fitted = asyncio.run(_fitted(roomy, data, front, batch_size, limit, held_out, skip_unknown))
        _keep_and_tell(settings, model, front, fitted, json=json)


def _front(text: str) -> Strategy:
    """The strategy to fit for: that of the text, or what stands before the temperature in it."""
    from adapters import load_plugins, name_of
    from app.evaluation.specs import check_specs, parse_specs
    from app.evaluation.temperature.collect import check_temperature_fits
    from app.strategies import in_front, key_of, resolve

    load_plugins()
    specs = parse_specs([text])
    if len(specs) != 1:
        fail(f"--strategy must be one strategy, not {text!r}", status=BAD_OPTION)
    check_specs(specs)
    strategy = resolve(specs[0].strategy, specs[0].params).strategy
    front = in_front(strategy)
    if front != strategy:
        key = key_of(front)
        typer.echo(
            f"renorm: the temperature in '{name_of(strategy)}' divides the scores of '{key}': fitting it", err=True
        )
    check_temperature_fits(front)
    return front


async def _fitted(
    settings: Settings, data: Path, front: Strategy, batch: int, limit: int | None, held_out: float, skip_unknown: bool
) -> tuple[str, FittedTemperature]:
    from app.evaluation.temperature.collect import fit, open_labelled
    from app.models.labels import ClassNames
    from app.strategies import model_of

    engine = await open_engine(settings)
    try:
        classes = ClassNames(tuple(engine.hosted.classes), engine.hosted.class_ids)
        labelled = open_labelled(data, classes, skip_unknown=skip_unknown)
        for line in labelled.notes:
            typer.echo(f"renorm: {line}", err=True)
        count = min(limit or sys.maxsize, len(labelled.labels))
        with _bar(count) as told:
            fitted = await fit(engine, labelled, front, batch=batch, limit=limit, held_out=held_out, progress=told)
        return model_of(engine.hosted, settings), fitted
    finally:
        await engine.close()


def _keep_and_tell(settings: Settings, model: str, front: Strategy, fitted: FittedTemperature, *, json: bool) -> None:
    from adapters import name_of
    from app.strategies import file_of, key_of
    from app.temperatures import Temperatures

    found, file, key = fitted.calibration, file_of(settings), key_of(front)
    try:
        # Read as late as it can be: another command may have kept one meanwhile.
        Temperatures.load(file).including(model, key, found).save(file)
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}; choose another --temperatures FILE", status=CANNOT_RUN)
    if found.nll_after > found.nll_before:
        typer.echo("renorm: with it the labels are less likely: give more images, or use none", err=True)
    if json:
        about = {"model": model, "strategy": key, **found._asdict(), "accuracy": fitted.accuracy, "file": str(file)}
        typer.echo(json_text.dumps(about, indent=2))
        return
    title = f"Temperature {found.temperature:.4g} for '{key}' on {model}, fitted on {found.images:,} images"
    rows = [
        ["negative log-likelihood, nats", f"{found.nll_before:.4f}", f"{found.nll_after:.4f}"],
        ["calibration error (ECE), %", f"{found.ece_before:.2f}", f"{found.ece_after:.2f}"],
        ["accuracy, %", f"{fitted.accuracy:.2f}", f"{fitted.accuracy:.2f}"],
    ]
    whose = f"on {found.held_out:,} others" if found.held_out else "on the same images, which flatters it"
    show(title, [whose, "without", "with"], rows, right={1, 2})
    typer.echo(f"Kept in {file}. A server that reads this file uses it for '{name_of(front)}+temperature'.")


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    """A function that counts images: drawn in a terminal, one line at the start elsewhere."""
    if not sys.stderr.isatty():
        typer.echo(f"renorm: answering {total:,} images", err=True)
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("answering", total=total)
        yield lambda images: progress.advance(task, images)


@contextmanager
def _explained() -> Iterator[None]:
    """End the program with one clear line where no temperature can be fitted."""
    from adapters import AdapterError
    from app.errors import RenormError
    from app.evaluation.errors import EvaluationError

    try:
        yield
    except KeyboardInterrupt:
        fail("stopped; nothing was kept", status=INTERRUPTED)
    except RenormError as error:
        why = f"{error.message}; {error.hint}" if error.hint else error.message
        fail(why, status=BAD_OPTION if isinstance(error, EvaluationError) else CANNOT_RUN)
    except AdapterError as error:
        fail(str(error), status=BAD_OPTION)
