"""Draw the table that `shifted_stream.py --out results.csv` wrote: a group of bars per corruption.

python benchmarks/plot_errors.py results.csv docs/images/errors.png --title "CIFAR-10-C, severity 5"
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

COLOURS = ("#9aa0a6", "#1a73e8", "#188038", "#e37400", "#a142f4", "#d93025", "#12b5cb")


class Errors(NamedTuple):
    """Percent of images answered wrongly: ``values[strategy][corruption]``, in the order of the names."""

    strategies: list[str]
    corruptions: list[str]
    values: list[list[float]]


def read(path: Path) -> Errors:
    """The rows of corruptions, their mean and the clean images; other rows are no errors and are left out.

    Raises:
        ValueError: the file is not such a table, or has no complete row.
    """
    with path.open(newline="", encoding="utf-8") as file:
        head, *lines = list(csv.reader(file)) or [[]]
    if head[:1] != ["error %"]:
        raise ValueError(f"{path} is not a table of errors: write one with shifted_stream.py --out results.csv")
    kept = [line for line in lines if line[0] not in {"against source", "images/s"} and "-" not in line[1:]]
    if not kept:
        raise ValueError(f"{path} has no complete row: run shifted_stream.py to its end")
    columns = [[float(line[i]) for line in kept] for i in range(1, len(head))]
    return Errors(head[1:], [line[0].replace("_", " ") for line in kept], columns)


def draw(errors: Errors, title: str, out: Path) -> None:
    """Write the picture; its format follows from the name of ``out``."""
    # Without a window: this may run where there is no screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(11, 4.2), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    width = 0.84 / len(errors.strategies)
    for i, (name, values) in enumerate(zip(errors.strategies, errors.values, strict=True)):
        places = [place - 0.42 + (i + 0.5) * width for place in range(len(values))]
        axes.bar(places, values, width * 0.92, label=name, color=COLOURS[i % len(COLOURS)])
    axes.set_xticks(range(len(errors.corruptions)), errors.corruptions, rotation=35, ha="right")
    axes.set_ylabel("error, %")
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    figure.legend(frameon=False, ncols=len(errors.strategies), loc="outside lower center")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read, draw, write; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="the .csv file of shifted_stream.py")
    parser.add_argument("out", type=Path, help="the picture: .png or .svg")
    parser.add_argument("--title", default="Error on shifted streams")
    given = parser.parse_args(arguments)
    try:
        draw(read(given.table), given.title, given.out)
    except (OSError, ValueError) as error:
        print(f"plot_errors: {error}", file=sys.stderr)
        return 1
    print(f"wrote {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
