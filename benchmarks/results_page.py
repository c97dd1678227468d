"""docs/results.md: what was measured, how to read it, and every figure that a person may want."""

from __future__ import annotations

import platform
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import results_long
from results_long import Reach
from results_plan import GRID, LONG

from app.evaluation.measures import Figures, summarize
from app.evaluation.report import about_table, at_place, explained, harm_list, section
from app.evaluation.tables import Study, overview_table

DATA = "path/to/cifar10c"
"""What the page has instead of the folder on the machine that measured."""

PICTURES = {
    "overview": "Error minus that of source, means over protocols: blue is better, red is worse",
    "differences": "Error minus that of source at every place",
    "stream": "Error over the long stream",
    "reliability": "Accuracy by confidence",
}
"""The pictures in docs/images/results, by the names of their files."""

TOP = """\
# Measured errors

<!-- Made by `make results` from results.csv, results-long.csv and benchmarks/results_reading.md: do not edit. -->

Two evaluations of the bundled network with [`renorm evaluate`](evaluate.md), which explains protocols and orders: a
grid of strategies, protocols, orders and request sizes on few images, and one long stream. Images are CIFAR-10 test
images, corrupted with the published parameters of CIFAR-10-C. Strategies have their defaults but where another value is
shown; learners and correctors stand on the adapter that they go with ([strategies.md](strategies.md)). Every figure of
the grid, cell by cell, is in [results.csv](results.csv), those of the long stream in
[results-long.csv](results-long.csv).

```sh
make results DATA=path/to/cifar10c
```

makes this page again, with README's table of strategies and the pictures; it runs the two commands below the next
table, about an hour and a half on two cores, and goes on where it was stopped.
"""

STREAM = """\
All corruptions, one after another, in requests of 16. Errors over the first images of the stream, and the rank among
these strategies.
"""


def about(kept: Mapping[str, str], long_kept: Mapping[str, str], cores: int, unfinished: str) -> dict[str, str]:
    """What is told at the top: ``kept`` are the settings in the manifest of the grid, ``long_kept`` of the long stream.

    ``unfinished`` says which cells are missing; empty where none are.
    """
    told = {
        "model": f"{kept['model']} ({kept['architecture']}, {kept['type']}, weights {kept['weights']})",
        "data of the grid": _data(kept),
        "data of the long stream": _data(long_kept),
        "answered by": f"the engine in this process, Renorm {kept['renorm']}, Python {platform.python_version()}",
        "machine": f"{platform.machine()}, {cores} cores, {platform.system()}",
        "images/s": "of requests sent one after the other, with one thread",
    }
    return {**told, "unfinished": unfinished} if unfinished else told


def _data(kept: Mapping[str, str]) -> str:
    images = "all images" if kept["limit"] == "all" else f"{kept['limit']} images"
    return f"{DATA} ({kept['data']}), severity {kept['severity']}, {images} of each domain"


def commands() -> str:
    """What was run, as a person would type it."""
    typed = [["renorm", *plan.command(DATA, Path("results"))] for plan in (GRID, LONG)]
    # An option and its value a line: the strategies alone fill one.
    lines = [shlex.join(words).replace(" --", " \\\n  --") for words in typed]
    return "```sh\n{}\n\n{}\n```\n".format(*lines)


def told_about(page: str) -> dict[str, str]:
    """What a page tells at its top, as `about` made it."""
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", page.partition("\n## ")[0], re.MULTILINE)
    return {name: value for name, value in rows if name != "---"}


def page(figures: Sequence[Figures], long: Sequence[Reach], told: Mapping[str, str], reading: str) -> str:
    """The whole page. ``reading`` stands in it as it is."""
    study = Study(summarize(figures), ())
    parts = [
        TOP,
        about_table(told),
        commands(),
        reading,
        section("Overview", explained(figures, study), overview_table(study), picture("overview")),
        section("Where it hurts", harm_list(study)),
        section("The long stream", *_long(long), picture("stream")),
        *(section(", ".join(way), *at_place(study, *way)) for way in study.ways),
        section("Every place", picture("differences")),
        section("Confidence", picture("reliability")),
    ]
    return "\n".join(part for part in parts if part)


def picture(name: str, folder: str = "images/results") -> str:
    """A picture of `PICTURES` as Markdown."""
    return f"![{PICTURES[name]}]({folder}/{name}.png)\n"


def _long(rows: Sequence[Reach]) -> list[str]:
    return [STREAM, *(results_long.table(rows, order) for order in dict.fromkeys(row.order for row in rows))]
