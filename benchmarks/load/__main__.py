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

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.common import markdown
from benchmarks.load.job import Load
from benchmarks.load.payloads import FORMATS, Pictures
from benchmarks.load.peers import CACHE
from benchmarks.load.plan import Plan
from benchmarks.load.plot import draw
from benchmarks.load.report import faults, loads, page, servers, targets, tried
from benchmarks.load.results import Results, write
from benchmarks.load.run import Run
from benchmarks.load.servers import LoadError

PICTURE = "images/load.png"


def report(results: Results, out: Path | None) -> None:
    """Print all tables, drawn in a terminal and as Markdown elsewhere, and write everything to ``out``."""
    for name, value in results.machine.items():
        print(f"{name}: {value}")
    by_loop = [loads(results, closed=closed) for closed in (True, False) if results.loads(closed=closed)]
    for table in [*by_loop, tried(results), servers(results), targets(results)]:
        _show(table)
    for note in [*(f"not measured: {name}: {why}" for name, why in results.notes.items()), *faults(results)]:
        print(note)
    if out is not None and results.rows:
        out.mkdir(parents=True, exist_ok=True)
        write(results, out / "load.json")
        (out / "load.md").write_text(page(results, PICTURE), encoding="utf-8")
        draw(results, out / PICTURE)
        print(f"wrote {out / 'load.md'}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--quick", action="store_true", help="one short round of few loads, peers as they run best here")
    made.add_argument("--clients", nargs="+", type=_positive, metavar="N", help="that wait (default: 1 8 32)")
    made.add_argument("--images", nargs="+", type=_positive, metavar="N", help="in a request (default: 1 8)")
    made.add_argument("--rates", nargs="*", type=_positive, metavar="N", help="requests a second (default: 50 100 200)")
    made.add_argument("--seconds", type=_seconds, metavar="S", help="of a measurement (default: 4)")
    made.add_argument("--rounds", type=_positive, metavar="N", help="default: 3")
    made.add_argument(
        "--strategies", nargs="+", metavar="NAME", help="default: adabn source unmix_tns; the first is compared"
    )
    made.add_argument(
        "--threads",
        type=_positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="of the forwards of a server, shared out among its workers (default: all cores)",
    )
    made.add_argument("--compile", action="store_true", help="run `renorm serve --compile`")
    made.add_argument("--serve-args", default="", metavar="ARGS", help="further options of `renorm serve`")
    made.add_argument("--format", choices=FORMATS, default="png", help="of the images (default: %(default)s)")
    made.add_argument(
        "--side", type=_positive, default=32, metavar="PX", help="of the images that are sent (default: 32)"
    )
    where = made.add_mutually_exclusive_group()
    where.add_argument(
        "--peers", type=Path, default=CACHE, metavar="FOLDER", help="of their environments (%(default)s)"
    )
    where.add_argument("--no-peers", dest="peers", action="store_const", const=None, help="measure Renorm alone")
    made.add_argument("--out", type=Path, metavar="FOLDER", help="write load.md, images/load.png and load.json there")
    return made


def planned(given: argparse.Namespace) -> Plan:
    """What the command line asks for, the rest from one of two sets of defaults."""
    quick: bool = given.quick
    clients = sorted(set(given.clients or ([1, 32] if quick else [1, 8, 32])))
    images = sorted(set(given.images or ([1] if quick else [1, 8])))
    rates = ([50] if quick else [50, 100, 200]) if given.rates is None else given.rates
    closed = [Load(n, each) for each in images for n in clients]
    # Single images of the most clients are what peers are compared by, and what one stream's queue is made of.
    many = Load(clients[-1])
    closed += [load for load in (many, many._replace(shared=True)) if load not in closed and load.clients > 1]
    return Plan(
        closed=closed,
        open=[Load(rate=rate) for rate in rates],
        strategies=given.strategies or (["adabn"] if quick else ["adabn", "source", "unmix_tns"]),
        seconds=given.seconds or (1.5 if quick else 4.0),
        warm_s=0.5 if quick else 1.0,
        rounds=given.rounds or (1 if quick else 3),
        threads=given.threads,
        compiled=given.compile,
        arguments=shlex.split(given.serve_args),
        peers=given.peers,
        tuned=not quick,
        idle_s=2.0 if quick else 5.0,
        blocks=3 if quick else 8,
        calls=50 if quick else 150,
        pictures=Pictures(given.format, given.side),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit status."""
    given = parser().parse_args(arguments)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # Drawn seldom: the progress bar shares its cores with what is measured.
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=1) as progress:
        run = Run(planned(given), progress)
        try:
            run.everything()
        except KeyboardInterrupt:
            # What was found before is worth keeping.
            run.results.notes["the rest"] = "interrupted"
        except LoadError as error:
            print(f"load: {error}", file=sys.stderr)
            return 1
    report(run.results, given.out)
    return 0


def _show(table: Sequence[Sequence[str]]) -> None:
    if not sys.stdout.isatty():
        sys.stdout.write("\n" + markdown(table))
        return
    drawn = Table(*table[0])
    for line in table[1:]:
        drawn.add_row(*line)
    Console().print(drawn)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, not {text!r}")
    return int(text)


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
