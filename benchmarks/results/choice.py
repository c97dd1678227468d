"""Compare values of hyperparameters on corruptions and images that no table shows, and write docs/results-choice.csv.

    python -m benchmarks.results.choice --cifar path/to/cifar10

makes the data (see `held_out.py`), evaluates each value in turn on streams of all four corruptions, shuffled and
correlated, in requests of 1 and 64, and prints a table. Half an hour on one core; what was stopped goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from app.errors import RenormError
from app.evaluation.metrics import measure_all
from app.evaluation.report.rows import read_csv, write_rows
from benchmarks.results import evaluations, held_out
from benchmarks.results.choice_table import CHOICE, table
from benchmarks.results.completeness import refuse_loss

ROOT = Path(__file__).resolve().parent.parent.parent


def run(cifar: Path, out: Path) -> int:
    """Make the data and evaluate; the exit status."""
    data = out / "held-out"
    held_out.write(cifar, data)
    return evaluations.run(CHOICE, data, out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write and print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cifar", type=Path, metavar="FOLDER", help="CIFAR-10; without it, only the finished cells are written"
    )
    parser.add_argument("--out", type=Path, default=Path("results"), metavar="FOLDER", help="folder of the evaluations")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="FOLDER", help="folder of the CSV file")
    options = parser.parse_args(arguments)
    try:
        if options.cifar is not None and (status := run(options.cifar, options.out)):
            return status
        csv_file = options.docs / "results-choice.csv"
        figures = measure_all(evaluations.read([CHOICE], options.out).results)
        refuse_loss(CHOICE.cells(), figures, csv_file)
        write_rows(csv_file, figures)
        print(table(read_csv(csv_file)))
    except (RenormError, OSError, ValueError) as error:
        print(f"choice: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
