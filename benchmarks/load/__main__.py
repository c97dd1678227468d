"""Renorm under load: its throughput, latency and idle cost over HTTP, beside servers that do not adapt.

    python -m benchmarks.load --quick                    # a look, in less than a minute
    python -m benchmarks.load --out results              # everything: about a quarter of an hour on two cores
    python -m benchmarks.load --clients 32 --strategies adabn --no-peers --rounds 1
    python -m benchmarks.load --compile --rates 100 200 400

Starts `renorm serve` with the bundled network, and LitServe and MLServer with the same network, not adapted, from
environments of their own that the first run makes (--peers). Prints the targets with what was measured, and writes
load.md, images/load.png and load.json to the folder --out. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import positive, progress_bar, show
from benchmarks.load.job import Load
from benchmarks.load.payloads import FORMATS, Pictures
from benchmarks.load.peers import CACHE
from benchmarks.load.plan import LoadPlan
from benchmarks.load.plot import draw
from benchmarks.load.report import faults, loads, page, servers, targets, tried
from benchmarks.load.results import LoadResults, write
from benchmarks.load.run import LoadRun
from benchmarks.load.servers import LoadError

PICTURE = "images/load.png"


def report(results: LoadResults, out: Path | None) -> None:
    """Print all tables, drawn in a terminal and as Markdown elsewhere, and write everything to ``out``."""
    for name, value in results.machine.items():
        print(f"{name}: {value}")
    by_loop = [loads(results, closed=closed) for closed in (True, False) if results.loads(closed=closed)]
    for table in [*by_loop, tried(results), servers(results), targets(results)]:
        show(table)
    for note in [*(f"not measured: {name}: {reason}" for name, reason in results.notes.items()), *faults(results)]:
        print(note)
    if out is not None and results.rows:
        out.mkdir(parents=True, exist_ok=True)
        write(results, out / "load.json")
        (out / "load.md").write_text(page(results, PICTURE), encoding="utf-8")
        draw(results, out / PICTURE)
        print(f"wrote {out / 'load.md'}")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    cli = argparse.ArgumentParser(
        prog="python -m benchmarks.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cli.add_argument("--quick", action="store_true", help="one short round of few loads, peers with their best options")
    cli.add_argument(
        "--clients",
        nargs="+",
        type=positive,
        metavar="N",
        help="numbers of clients that wait for each answer (default: 1 8 32)",
    )
    cli.add_argument("--images", nargs="+", type=positive, metavar="N", help="images in a request (default: 1 8)")
    cli.add_argument("--rates", nargs="*", type=positive, metavar="N", help="requests per second (default: 50 100 200)")
    cli.add_argument("--seconds", type=_seconds, metavar="S", help="seconds of a measurement (default: 4)")
    cli.add_argument("--rounds", type=positive, metavar="N", help="rounds of all measurements (default: 3)")
    cli.add_argument(
        "--strategies",
        nargs="+",
        metavar="NAME",
        help="strategies (default: adabn source unmix_tns); the first one is compared",
    )
    cli.add_argument(
        "--threads",
        type=positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="threads of a server's forwards, divided among its workers (default: all cores)",
    )
    cli.add_argument("--compile", action="store_true", help="run `renorm serve --compile`")
    cli.add_argument("--serve-args", default="", metavar="ARGS", help="more options of `renorm serve`")
    cli.add_argument("--format", choices=FORMATS, default="png", help="format of the images (default: %(default)s)")
    cli.add_argument(
        "--side", type=positive, default=32, metavar="PX", help="width and height of the images (default: 32)"
    )
    _add_folders(cli)
    return cli


def _add_folders(cli: argparse.ArgumentParser) -> None:
    group = cli.add_mutually_exclusive_group()
    group.add_argument(
        "--peers", type=Path, default=CACHE, metavar="FOLDER", help="folder of the peers' environments (%(default)s)"
    )
    group.add_argument("--no-peers", dest="peers", action="store_const", const=None, help="measure Renorm alone")
    cli.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write load.md, images/load.png and load.json to this folder"
    )


def planned(options: argparse.Namespace) -> LoadPlan:
    """Return the plan of a command line; one of two sets of defaults fills it up."""
    quick: bool = options.quick
    clients = sorted(set(options.clients or ([1, 32] if quick else [1, 8, 32])))
    images = sorted(set(options.images or ([1] if quick else [1, 8])))
    rates = ([50] if quick else [50, 100, 200]) if options.rates is None else options.rates
    closed = [Load(n, size) for size in images for n in clients]
    # Single images of the most clients are what peers are compared by, and what one stream's queue is made of.
    heaviest = Load(clients[-1])
    closed += [load for load in (heaviest, heaviest._replace(shared=True)) if load not in closed and load.clients > 1]
    return LoadPlan(
        closed=closed,
        open=[Load(rate=rate) for rate in rates],
        strategies=options.strategies or (["adabn"] if quick else ["adabn", "source", "unmix_tns"]),
        seconds=options.seconds or (1.5 if quick else 4.0),
        warm_s=0.5 if quick else 1.0,
        rounds=options.rounds or (1 if quick else 3),
        threads=options.threads,
        compiled=options.compile,
        arguments=shlex.split(options.serve_args),
        peers=options.peers,
        tuned=not quick,
        idle_s=2.0 if quick else 5.0,
        blocks=3 if quick else 8,
        calls=50 if quick else 150,
        pictures=Pictures(options.format, options.side),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit status."""
    options = parser().parse_args(arguments)
    # Drawn seldom: the progress bar shares its cores with what is measured.
    with progress_bar(refresh_per_second=1) as progress:
        run = LoadRun(planned(options), progress)
        try:
            run.everything()
        except KeyboardInterrupt:
            # What was found before is worth keeping.
            run.results.notes["the rest"] = "interrupted"
        except LoadError as error:
            print(f"load: {error}", file=sys.stderr)
            return 1
    report(run.results, options.out)
    return 0


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"expected seconds, above 0 and at most 3600, not {text!r}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
