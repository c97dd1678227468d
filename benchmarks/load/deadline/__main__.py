"""A deadline stream: frames arrive whether or not the last one is answered, and count only if they are answered.

    python -m benchmarks.load.deadline --quick                       # a look, in about half a minute
    python -m benchmarks.load.deadline --data path/to/cifar10c --limit 30 --out results
    python -m benchmarks.load.deadline --strategies adabn adabn+tent --utilisations 90 100 110 --rounds 5
    python -m benchmarks.load.deadline --simulate --utilisations 50 100 150 200 300

Starts `renorm serve` and sends frames over WS /v1/streams/{stream}/live with one waiting place, where a newer frame
replaces the one that waits. Utility is the share of correct answers among all frames: the share answered times the
accuracy of the answers (Tempora's discrete utility, arXiv 2602.06136). At a utilisation of 100 % frames arrive as often
as the server answers them with `source`, measured in the same round. Strategies take turns, figures are medians of
rounds. Prints tables, and writes deadline.md, images/deadline.png and deadline.json to the folder --out.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from adapters import AdapterError
from app.evaluation.errors import EvaluationError
from app.evaluation.specs import check_specs, parse_specs
from benchmarks.common import positive, progress_bar, show
from benchmarks.load.deadline.plot import draw
from benchmarks.load.deadline.report import SOURCE, page, tables
from benchmarks.load.deadline.results import DeadlineResults, write
from benchmarks.load.deadline.run import DeadlinePlan, DeadlineRun, load_footage
from benchmarks.load.payloads import SAMPLE
from benchmarks.load.servers import LoadError

PICTURE = "images/deadline.png"
PROTOCOLS = ("continual", "mixed", "clean")
"""The protocols of `renorm evaluate` that never reset the stream and need no severities."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    cli = argparse.ArgumentParser(
        prog="python -m benchmarks.load.deadline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = cli.add_argument
    add("--quick", action="store_true", help="one round of source and adabn at 50 and 100 %%, on 20 images of a domain")
    add(
        "--strategies",
        nargs="+",
        metavar="NAME",
        help="NAME or NAME:PARAMETER=VALUE,... (default: adabn unmix_tns adabn+lame adabn+tent); source always runs",
    )
    add("--utilisations", nargs="+", type=positive, metavar="PERCENT", help="loads (default: 50 80 100 120)")
    add("--rounds", type=positive, metavar="N", help="rounds of all measurements (default: 3)")
    add("--simulate", action="store_true", help="only time every frame, and compute the utilities from these times")
    add(
        "--data",
        type=Path,
        default=SAMPLE,
        metavar="FOLDER",
        help="arrays laid out as CIFAR-10-C (default: %(default)s)",
    )
    add("--domains", nargs="+", default=[], metavar="NAME", help="only these corruptions (default: all)")
    add("--limit", type=int, metavar="N", help="images of a domain, 0 for all (default: 100)")
    add("--protocol", choices=PROTOCOLS, default=PROTOCOLS[0], help="order of domains (default: %(default)s)")
    add("--order", default="iid", metavar="NAME", help="order of images, as renorm evaluate has them (default: iid)")
    add("--seed", type=int, default=0, metavar="N", help="seed of the order (default: 0)")
    add("--threads", type=positive, default=1, metavar="N", help="threads of a forward (default: %(default)s)")
    add("--serve-args", default="", metavar="ARGS", help="more options of `renorm serve`")
    add("--out", type=Path, metavar="FOLDER", help="write deadline.md, images/deadline.png and deadline.json there")
    return cli


def planned(options: argparse.Namespace) -> DeadlinePlan:
    """Return the plan of a command line; one of two sets of defaults fills it up.

    Raises:
        EvaluationError, AdapterError: a strategy or its parameters are invalid.
    """
    quick: bool = options.quick
    names = options.strategies or (["adabn"] if quick else ["adabn", "unmix_tns", "adabn+lame", "adabn+tent"])
    specs = parse_specs([SOURCE, *names])
    check_specs(specs)
    limit = options.limit if options.limit is not None else (20 if quick else 100)
    return DeadlinePlan(
        specs=specs,
        utilisations=sorted(set(options.utilisations or ([50, 100] if quick else [50, 80, 100, 120]))),
        rounds=options.rounds or (1 if quick else 3),
        data=options.data,
        domains=options.domains,
        protocol=options.protocol,
        order=options.order,
        limit=limit,
        seed=options.seed,
        threads=options.threads,
        arguments=shlex.split(options.serve_args),
        is_simulated=options.simulate,
    )


def report(results: DeadlineResults, out: Path | None) -> None:
    """Print all tables, drawn in a terminal and as Markdown elsewhere, and write everything to ``out``."""
    for name, value in results.machine.items():
        print(f"{name}: {value}")
    results = results.measured()
    if not results.offline:
        print("nothing was measured")
        return
    for table in tables(results):
        show(table)
    if out is not None and results.rows:
        out.mkdir(parents=True, exist_ok=True)
        write(results, out / "deadline.json")
        (out / "deadline.md").write_text(page(results, PICTURE), encoding="utf-8")
        draw(results, out / PICTURE)
        print(f"wrote {out / 'deadline.md'}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit status."""
    options = parser().parse_args(arguments)
    try:
        plan = planned(options)
        footage = load_footage(plan)
        # Drawn seldom: the progress bar shares its cores with what is measured.
        with progress_bar(refresh_per_second=1) as progress:
            run = DeadlineRun(plan, footage, progress)
            try:
                run.measure()
            except KeyboardInterrupt:
                run.results.machine["interrupted"] = "yes: later rounds are missing"
    except (LoadError, EvaluationError, AdapterError) as error:
        hint = getattr(error, "hint", "")
        print(f"deadline: {error}{f' ({hint})' if hint and hint not in str(error) else ''}", file=sys.stderr)
        return 1
    report(run.results, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
