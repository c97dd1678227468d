"""Study the strategy `auto` against the fixed strategies, and write docs/auto.md, its picture and docs/auto*.csv.

    python -m benchmarks.auto --data path/to/cifar10c --out results/auto
    python -m benchmarks.auto --data path/to/cifar10c --mnist results/mnist-c --held-out results/held-out
    python -m benchmarks.auto --data path/to/cifar10c --limit 50 --only cifar10 --docs /tmp/trial   # a look

What was interrupted goes on at the next call; the most wanted comes first. Rows in --docs stay until measured anew.
--no-run writes the finished cells (with --data, corruptions have their names), and --texts-only the page from the
CSV files, without data.
`python -m benchmarks.auto.corrupted_mnist` and `python -m benchmarks.results.held_out` make the data of --mnist and
--held-out.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from app.errors import RenormError
from app.evaluation.datasets.data import open_data
from app.evaluation.metrics import measure_all
from app.evaluation.report.rows import write_rows
from benchmarks.auto import page, picture
from benchmarks.auto.comparison import make_grid
from benchmarks.auto.corruptions import measure_harm, read_harm, write_harm
from benchmarks.auto.plan import GRADUAL, IMAGES, SUBJECTS, Subject, count_images
from benchmarks.auto.records import merge_harm, merge_rows
from benchmarks.common import positive
from benchmarks.results import page as results_page
from benchmarks.results.completeness import count_missing
from benchmarks.results.evaluations import Measured, count_finished, read, run
from benchmarks.results.plan import PublishedEvaluation, cells

ROOT = Path(__file__).resolve().parent.parent.parent


def run_all(subject: Subject, data: Path, out: Path, processes: int) -> int:
    """Run the evaluations of a subject that are not finished; the exit status of the first that fails."""
    dataset = open_data(data)
    for i, plan in enumerate(subject.evaluations, 1):
        title = f"{subject.name} {i} of {len(subject.evaluations)}: {_describe(plan)}"
        if GRADUAL in plan.protocols and not dataset.has_all_severities:
            print(f"auto: {title}: left out, because the data have one severity only", file=sys.stderr)
        elif count_finished(plan, out) == len(plan.cells()):
            print(f"auto: {title}: finished", file=sys.stderr)
        else:
            images = count_images(plan, len(dataset.shifted))
            print(f"auto: {title}: {images:,} images to predict", file=sys.stderr)
            if status := run(plan, data, out, processes):
                print(f"auto: it ended with status {status}; the same command goes on", file=sys.stderr)
                return status
    return 0


def _describe(plan: PublishedEvaluation) -> str:
    words = "; ".join(", ".join(part) for part in (plan.protocols, plan.orders))
    return f"{words}; requests of {plan.batches[0]}; {len(plan.strategies)} strategies"


def write(subjects: Sequence[Subject], out: Path, docs: Path, domains: Sequence[str]) -> None:
    """Write the CSV files of the subjects that were run, the picture and the page.

    Published rows whose cells are not in ``out`` stay: the files of a study may be gone when it is gone on with.
    ``domains`` are the names of the corruptions of the bundled network's data, by index.

    Raises:
        ValueError: nothing is finished.
        RenormError: a file is broken, or matplotlib is not installed.
        OSError: a file cannot be written.
    """
    facts = page.read_facts(docs)
    for subject in subjects:
        measured = _read_finished(subject, out)
        if measured:
            new_figures = measure_all(run for part in measured for run in part.results)
            figures = merge_rows(subject, new_figures, docs / page.csv_name(subject))
            write_rows(docs / page.csv_name(subject), figures)
        if measured and subject.name == SUBJECTS[0].name:
            old_harm = read_harm(docs / page.HARM_CSV) if subject in SUBJECTS else []
            harm = merge_harm(figures, measure_harm(new_figures, domains), old_harm)
            write_harm(docs / page.HARM_CSV, harm)
            unfinished = count_missing(cells(subject.evaluations), figures)
            facts = results_page.about(measured[0].settings, os.cpu_count() or 1, unfinished)
    rows = page.read_figures(docs)
    if not rows:
        raise ValueError(f"{out} holds no finished cell: leave out --no-run")
    if SUBJECTS[0].name in rows:
        picture.draw(make_grid(rows[SUBJECTS[0].name]), docs / page.PICTURE)
    text = page.make_page(rows, read_harm(docs / page.HARM_CSV), facts)
    (docs / "auto.md").write_text(text, encoding="utf-8")


def _read_finished(subject: Subject, out: Path) -> list[Measured]:
    """The finished cells of a subject, folder by folder, the missing ones counted."""
    folders: dict[str, list[PublishedEvaluation]] = {}
    for plan in subject.evaluations:
        folders.setdefault(plan.name, []).append(plan)
    groups = (plans for plans in folders.values() if any(count_finished(plan, out) for plan in plans))
    return [read(plans, out) for plans in groups]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    cli = argparse.ArgumentParser(
        prog="python -m benchmarks.auto", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cli.add_argument("--data", type=Path, metavar="FOLDER", help="CIFAR-10-C, with clean.npy beside the corruptions")
    cli.add_argument("--mnist", type=Path, metavar="FOLDER", help="MNIST under corruptions, laid out alike")
    cli.add_argument("--held-out", type=Path, metavar="FOLDER", help="the held-out corruptions, laid out alike")
    cli.add_argument("--only", choices=[subject.name for subject in SUBJECTS], help="one network and its data")
    cli.add_argument("--out", type=Path, default=Path("results/auto"), metavar="FOLDER", help="of the evaluations")
    cli.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="FOLDER", help="folder of the page")
    cli.add_argument("--limit", type=positive, default=IMAGES, metavar="NUMBER", help="images of each domain")
    cli.add_argument("--processes", type=positive, default=1, metavar="NUMBER", help="processes, each on one core")
    cli.add_argument("--no-run", action="store_true", help="run nothing: write the finished cells")
    cli.add_argument("--texts-only", action="store_true", help="write the page from the CSV files in --docs")
    return cli


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; the exit status."""
    cli = parser()
    options = cli.parse_args(arguments)
    subjects = [subject.reduced(options.limit) for subject in SUBJECTS if options.only in (None, subject.name)]
    has_data = any(getattr(options, subject.data) for subject in subjects)
    if not (options.texts_only or options.no_run or has_data):
        cli.error("give --data, --mnist or --held-out, or --no-run or --texts-only")
    try:
        if options.texts_only:
            (options.docs / "auto.md").write_text(page.make_text(options.docs), encoding="utf-8")
        else:
            for subject in () if options.no_run else subjects:
                data = getattr(options, subject.data)
                if data is not None and (status := run_all(subject, data, options.out, options.processes)):
                    return status
            domains = [domain.title for domain in open_data(options.data).domains] if options.data else []
            write(subjects, options.out, options.docs, domains)
    except (RenormError, OSError, ValueError) as error:
        print(f"auto: {error}", file=sys.stderr)
        return 1
    print(f"wrote {options.docs / 'auto.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
