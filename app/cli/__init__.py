"""The command `renorm` and its subcommands. Heavy imports happen inside commands, so that --help is instant."""

from __future__ import annotations

from typing import Annotated

import typer

from app import __version__
from app.cli.calibrate import CALIBRATE_EXAMPLES, calibrate
from app.cli.calibrate_baseline import BASELINE_EXAMPLES, calibrate_baseline
from app.cli.config import CONFIG_EXAMPLES, config
from app.cli.describe import DESCRIBE_EXAMPLES, describe
from app.cli.evaluate.command import EVALUATE_EXAMPLES, evaluate
from app.cli.key import keys
from app.cli.predict import PREDICT_EXAMPLES, predict
from app.cli.serve import SERVE_EXAMPLES, serve
from app.cli.strategies import STRATEGIES_EXAMPLES, strategies
from app.cli.streams import RESET_EXAMPLES, STREAMS_EXAMPLES, reset, streams

cli = typer.Typer(
    name="renorm",
    help="Serve an image classifier that adapts to drifting inputs at test time: no labels, no retraining.",
    epilog="Every setting can also be set by an environment variable: RENORM_PORT=9000 renorm serve",
    no_args_is_help=True,
    add_completion=False,
    # A traceback that shows local variables would show the admin key.
    pretty_exceptions_show_locals=False,
    rich_markup_mode="markdown",
)


def main() -> None:
    """Run the command line."""
    cli(prog_name="renorm")


def _print_version(is_requested: bool) -> None:
    if is_requested:
        typer.echo(f"renorm {__version__}")
        raise typer.Exit


@cli.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    del version


cli.command(epilog=SERVE_EXAMPLES)(serve)
cli.command(epilog=DESCRIBE_EXAMPLES)(describe)
cli.command(epilog=PREDICT_EXAMPLES)(predict)
cli.command(epilog=STREAMS_EXAMPLES)(streams)
cli.command(epilog=RESET_EXAMPLES)(reset)
cli.command(epilog=STRATEGIES_EXAMPLES)(strategies)
cli.command(epilog=EVALUATE_EXAMPLES)(evaluate)
cli.command("calibrate", epilog=BASELINE_EXAMPLES)(calibrate_baseline)
cli.command("calibrate-temperature", epilog=CALIBRATE_EXAMPLES)(calibrate)
cli.command(epilog=CONFIG_EXAMPLES)(config)
cli.add_typer(keys)
