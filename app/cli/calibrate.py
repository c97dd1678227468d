"""`renorm calibrate-temperature`: fit the temperature that makes a model's confidence match its accuracy."""

from __future__ import annotations

import asyncio
import json as json_text
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import options as o
from app.cli.exits import exit_on_errors
from app.cli.settings import BAD_OPTION, CANNOT_RUN, fail, settings_from
from app.cli.startup import open_own_engine
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

The data are labelled held-out images of the training domain, not the training set: `CLASS/*.png`, or `clean.npy` with
`labels.npy`. A server uses the temperature for requests with the strategy `STRATEGY+temperature`.
"""

Data = Annotated[
    Path, typer.Option("--data", help="Labelled images: CLASS/*.png, or clean.npy and labels.npy.", metavar="FOLDER")
]
StrategyOption = Annotated[
    str | None,
    typer.Option("--strategy", help="NAME or NAME:PARAMETER=VALUE,...; by default the server's.", metavar="NAME"),
]
Batch = Annotated[int, typer.Option("--batch-size", help="Images per request.", min=1, metavar="NUMBER")]
Limit = Annotated[
    int | None, typer.Option("--limit", help="Images to sample; all by default.", min=1, metavar="NUMBER")
]
HeldOut = Annotated[
    float,
    typer.Option(
        "--held-out", help="Fraction of images held out for the report; 0 for none.", min=0, max=0.99, metavar="SHARE"
    ),
]
SkipUnknown = Annotated[
    bool, typer.Option("--skip-unknown", help="Skip images of classes that the model does not have.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@o.with_settings(*o.HOSTING)
def calibrate(
    data: Data,
    strategy: StrategyOption = None,
    batch_size: Batch = 64,
    limit: Limit = None,
    held_out: HeldOut = 0.5,
    skip_unknown: SkipUnknown = False,
    json: Json = False,
    config: o.ConfigOption = None,
    **options: Any,
) -> None:
    """Fit a softmax temperature for a model and strategy on labelled images, and save it for the server."""
    settings = settings_from({**options, "config": config})
    with exit_on_errors("nothing was saved"):
        front = _strategy_before_temperature(strategy or settings.strategy)
        limits = {"strategy": "source", "max_images": max(settings.max_images, batch_size), "timeout": None}
        enlarged = settings.model_copy(update=limits)
        model, fitted = asyncio.run(_fit(enlarged, data, front, batch_size, limit, held_out, skip_unknown))
        _save_and_report(settings, model, front, fitted, json=json)


def _strategy_before_temperature(text: str) -> Strategy:
    """Return the strategy to fit for: that of the text, without its temperature."""
    from adapters import COMBINATIONS, load_plugins, name_of
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
    if (
        specs[0].strategy in COMBINATIONS
    ):  # its name leaves no place for a temperature before the corrector that is last
        front = replace(front, correctors=tuple(corrector for corrector in front.correctors if not corrector.last))
    if front != strategy:
        key = key_of(front)
        typer.echo(f"renorm: fitting the temperature of '{name_of(strategy)}' to the scores of '{key}'", err=True)
    check_temperature_fits(front)
    return front


async def _fit(
    settings: Settings, data: Path, front: Strategy, batch: int, limit: int | None, held_out: float, skip_unknown: bool
) -> tuple[str, FittedTemperature]:
    from app.client.folders import bar
    from app.evaluation.temperature.collect import fit, open_labelled
    from app.models.labels import ClassNames
    from app.strategies import model_of

    engine = await open_own_engine(settings)
    try:
        classes = ClassNames(tuple(engine.hosted.classes), engine.hosted.class_ids)
        labelled = open_labelled(data, classes, skip_unknown=skip_unknown)
        for line in labelled.notes:
            typer.echo(f"renorm: {line}", err=True)
        count = min(limit or sys.maxsize, len(labelled.labels))
        if not sys.stderr.isatty():
            typer.echo(f"renorm: predicting {count:,} images", err=True)
        with bar(count, visible=True) as advance:
            fitted = await fit(engine, labelled, front, batch=batch, limit=limit, held_out=held_out, progress=advance)
        return model_of(engine.hosted, settings), fitted
    finally:
        await engine.close()


def _save_and_report(settings: Settings, model: str, front: Strategy, fitted: FittedTemperature, *, json: bool) -> None:
    from adapters import name_of
    from app.strategies import file_of, key_of
    from app.temperatures import Temperatures

    fit, file, key = fitted.calibration, file_of(settings), key_of(front)
    try:
        # Read as late as possible: another command may have saved one meanwhile.
        Temperatures.load(file).including(model, key, fit).save(file)
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}; choose another --temperatures FILE", status=CANNOT_RUN)
    if fit.nll_after > fit.nll_before:
        typer.echo("renorm: warning: the labels are less likely with it; use more images, or no temperature", err=True)
    if json:
        result = {"model": model, "strategy": key, **fit._asdict(), "accuracy": fitted.accuracy, "file": str(file)}
        typer.echo(json_text.dumps(result, indent=2))
        return
    title = f"Temperature {fit.temperature:.4g} for '{key}' on {model}, fitted on {fit.images:,} images"
    rows = [
        ["negative log-likelihood, nats", f"{fit.nll_before:.4f}", f"{fit.nll_after:.4f}"],
        ["calibration error (ECE), %", f"{fit.ece_before:.2f}", f"{fit.ece_after:.2f}"],
        ["accuracy, %", f"{fitted.accuracy:.2f}", f"{fitted.accuracy:.2f}"],
    ]
    basis = f"on {fit.held_out:,} held-out images" if fit.held_out else "on the same images (optimistic)"
    show(title, [basis, "without", "with"], rows, right={1, 2})
    typer.echo(f"Saved to {file}. A server with this --temperatures file uses it for '{name_of(front)}+temperature'.")
