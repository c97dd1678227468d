"""Measure the cost of adapting: forwards of `AdaptiveModel` and of the same network without adapting, timed in turn.

    python -m benchmarks.speed --quick                        # a look, in less than a minute
    python -m benchmarks.speed --out results                  # everything: about 15 minutes on two cores
    python -m benchmarks.speed --models resnet50 --batch 16 --no-compile --rounds 21
    python -m benchmarks.speed --device cuda --out results

Prints the targets with what was measured, and writes speed.md, images/speed.png and speed.json to the folder --out.
Leave the machine alone meanwhile: ratios are taken within a round, but a busy machine still blurs them.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from adapters import COMBINATIONS, names
from benchmarks.common import positive, progress_bar, show
from benchmarks.speed.models import MODELS
from benchmarks.speed.plot import draw
from benchmarks.speed.report import notes, page, targets
from benchmarks.speed.results import SpeedResults, write
from benchmarks.speed.run import SpeedPlan, SpeedRun

PICTURE = "images/speed.png"
STRATEGIES = [*names("adapter"), *COMBINATIONS]


def report(results: SpeedResults, out: Path | None) -> None:
    """Print the targets, drawn in a terminal and as Markdown elsewhere, and write everything to ``out``."""
    for name, value in results.machine.items():
        print(f"{name}: {value}")
    show(targets(results))
    for note in notes(results):
        print(f"not measured: {note}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write(results, out / "speed.json")
        (out / "speed.md").write_text(page(results, PICTURE), encoding="utf-8")
        draw(results, out / PICTURE)
        print(f"wrote {out / 'speed.md'}")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    cli = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cli.add_argument("--quick", action="store_true", help="few rounds, small forwards, nothing compiled")
    cli.add_argument("--models", nargs="+", choices=MODELS, metavar="NAME", help=f"models, of {', '.join(MODELS)}")
    cli.add_argument(
        "--batch", nargs="+", type=positive, default=[], metavar="N", help="batch sizes (default: those of the model)"
    )
    cli.add_argument("--rounds", type=positive, metavar="N", help="rounds (default: 7, with --quick 3)")
    cli.add_argument("--strategies", nargs="+", choices=STRATEGIES, metavar="NAME", help="strategies (default: all)")
    cli.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="also time compiled networks, adapting and not (default; with --quick not)",
    )
    cli.add_argument(
        "--compile-strategies",
        nargs="+",
        choices=names("adapter"),
        metavar="NAME",
        help="strategies to time compiled (default: --strategies)",
    )
    cli.add_argument("--threads", type=positive, metavar="N", help="threads of torch (default: its own choice)")
    cli.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    cli.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write speed.md, images/speed.png and speed.json to this folder"
    )
    return cli


def planned(options: argparse.Namespace) -> SpeedPlan:
    """Return the plan of a command line; one of two sets of defaults fills it up."""
    quick: bool = options.quick
    models = options.models or [name for name, model in MODELS.items() if model.quick or not quick]
    compiling = not quick if options.compile is None else options.compile
    strategies = options.strategies or names("adapter")
    return SpeedPlan(
        models=models,
        batches=options.batch or ([1] if quick else []),
        # A forward of many large images is no quick look.
        stream_models=[name for name in models if MODELS[name].has_streams and not (quick and MODELS[name].size > 32)],
        rounds=options.rounds or (3 if quick else 7),
        strategies=strategies,
        compiled=(options.compile_strategies or strategies) if compiling else [],
        memory=next((name for name in models if MODELS[name].memory), None),
        stored_streams=300 if quick else 1000,
        minimum_s=0.02 if quick else 0.1,
        device=options.device,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit status."""
    options = parser().parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("speed: this build of torch finds no GPU: leave out --device cuda", file=sys.stderr)
        return 1
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    with progress_bar(refresh_per_second=10) as progress:
        run = SpeedRun(planned(options), progress)
        words = shlex.join(sys.argv[1:] if arguments is None else arguments)
        run.results.machine["command"] = f"python -m benchmarks.speed {words}"
        status = _finished(run, progress.console)
    if run.results.groups:
        report(run.results, options.out)
    return status


def _finished(run: SpeedRun, console: Console) -> int:
    """Run to the end, or as far as it goes: what was found before is worth keeping."""
    try:
        run.everything()
    except KeyboardInterrupt:
        run.results.notes["rest"] = "interrupted"
    except ModuleNotFoundError as error:
        run.results.notes["rest"] = f"{error}"
        console.print(f"speed: {error}: install renorm with its extras timm and bench")
        return 1
    except Exception as error:
        run.results.notes["rest"] = f"stopped by {type(error).__name__}: {error}"
        console.print_exception()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
