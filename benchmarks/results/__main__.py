"""Measure every strategy, and write docs/results.md, docs/results.csv and the table of strategies in README.md.

    python -m benchmarks.results --data path/to/cifar10c

What was interrupted goes on at the next call. DATA is laid out as CIFAR-10-C, with clean.npy beside the corruptions.
Published rows are not lost: nothing is written while cells of docs/results.csv are missing in --out.
Without data, --texts-only writes both texts from docs/results*.csv, with a dash for what was not run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from app.errors import RenormError
from app.evaluation.datasets.data import open_data
from app.evaluation.metrics import measure_all, summarize
from app.evaluation.plots.curves import draw_errors
from app.evaluation.plots.heatmap import draw_differences
from app.evaluation.plots.reliability import draw_reliability
from app.evaluation.report.rows import read_csv, write_rows
from app.evaluation.types import Result
from benchmarks.results import long_stream as results_long
from benchmarks.results import page as results_page
from benchmarks.results import readme_table as results_readme
from benchmarks.results.completeness import count_missing, refuse_loss
from benchmarks.results.evaluations import read, run
from benchmarks.results.plan import STUDY, cells

ROOT = Path(__file__).resolve().parent.parent.parent
READING = ROOT / "benchmarks" / "results" / "reading.md"


def write(out: Path, docs: Path, readme: Path, domains: Sequence[str]) -> None:
    """Write pictures, the CSV files, the page and the table of ``readme``. Texts are made of what the CSV files say.

    ``domains`` are the names of the corruptions, by index.

    Raises:
        EvaluationError, FileNotFoundError, ValueError: as `read` and `refuse_loss`, or the page has no markers.
        MissingPackageError: matplotlib is not installed.
        OSError: a file cannot be written.
    """
    measured = read(STUDY, out)
    figures = measure_all(measured.results)
    refuse_loss(cells(STUDY), figures, docs / "results.csv")
    long = results_long.followed(measured.results)
    _draw(docs / "images" / "results", measured.results, long, domains)
    write_rows(docs / "results.csv", figures)
    results_long.write(docs / "results-long.csv", results_long.prefix_error_rates(long))
    unfinished = count_missing(cells(STUDY), figures)
    _write_texts(docs, readme, results_page.about(measured.settings, os.cpu_count() or 1, unfinished))


def rewrite(docs: Path, readme: Path) -> None:
    """Write the page and the table of ``readme`` from the CSV files in ``docs``, without data.

    Raises:
        ValueError: ``readme`` has no markers.
        OSError: a file cannot be read or written.
    """
    facts = results_page.told_about((docs / "results.md").read_text(encoding="utf-8"))
    unfinished = count_missing(cells(STUDY), read_csv(docs / "results.csv"))
    facts.pop("unfinished", None)
    _write_texts(docs, readme, {**facts, **({"unfinished": unfinished} if unfinished else {})})


def _write_texts(docs: Path, readme: Path, facts: dict[str, str]) -> None:
    (docs / "results.md").write_text(make_page(docs, facts), encoding="utf-8")
    page = readme.read_text(encoding="utf-8")
    readme.write_text(results_readme.put(page, make_table(docs)), encoding="utf-8")


def make_page(docs: Path, facts: dict[str, str]) -> str:
    """docs/results.md of the CSV files beside it."""
    figures, long = read_csv(docs / "results.csv"), results_long.read(docs / "results-long.csv")
    choice = read_csv(docs / "results-choice.csv") if (docs / "results-choice.csv").exists() else []
    return results_page.page(figures, long, choice, facts, READING.read_text(encoding="utf-8"))


def make_table(docs: Path) -> str:
    """The table of README.md."""
    return results_readme.table(read_csv(docs / "results.csv"), results_readme.CHOICES)


def _draw(folder: Path, results: Sequence[Result], long: Sequence[Result], domains: Sequence[str]) -> None:
    figures = measure_all(results)
    draw_differences(folder, summarize(figures), "overview")
    draw_reliability(folder, figures)
    drawn_results = [result for result in long if result.cell.strategy in results_long.DRAWN]
    for drawn in draw_errors(folder, drawn_results, domains):
        shutil.move(drawn, folder / "stream.png")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    cli = argparse.ArgumentParser(
        prog="python -m benchmarks.results", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = cli.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, metavar="FOLDER", help="data in the layout of CIFAR-10-C")
    source.add_argument(
        "--texts-only", action="store_true", help="run nothing: write the texts from the CSV files in --docs"
    )
    cli.add_argument("--out", type=Path, default=Path("results"), metavar="FOLDER", help="folder of the evaluations")
    cli.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="FOLDER", help="folder of the page")
    cli.add_argument(
        "--readme", type=Path, default=ROOT / "README.md", metavar="FILE", help="file whose table is replaced"
    )
    cli.add_argument("--processes", type=int, default=1, metavar="NUMBER", help="number of processes, each on one core")
    cli.add_argument(
        "--no-run", action="store_true", help="run nothing: write the finished cells, even if others are missing"
    )
    return cli


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; the exit status."""
    options = parser().parse_args(arguments)
    for plan in () if options.no_run or options.texts_only else STUDY:
        if status := run(plan, options.data, options.out, options.processes):
            print(f"results: the evaluation '{plan.name}' ended with status {status}", file=sys.stderr)
            return status
    try:
        if options.texts_only:
            rewrite(options.docs, options.readme)
        else:
            domains = [domain.title for domain in open_data(options.data).domains]
            write(options.out, options.docs, options.readme, domains)
    except (RenormError, OSError, ValueError) as error:
        print(f"results: {error}", file=sys.stderr)
        return 1
    print(f"wrote {options.docs / 'results.md'} and the table of {options.readme}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
