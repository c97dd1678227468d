"""docs/results.md: what was measured, how to read it, and every figure that a person may want."""

from __future__ import annotations

import platform
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.evaluation.metrics import Figures, summarize
from app.evaluation.report.report import about_table, at_place, harm_list, overview_text, section
from app.evaluation.report.tables import Study, overview_table
from benchmarks.results import long_stream as results_long
from benchmarks.results import published as results_published
from benchmarks.results import readme_table
from benchmarks.results.choice_table import table
from benchmarks.results.long_stream import PrefixErrorRate
from benchmarks.results.plan import STUDY

DATA = "path/to/cifar10c"
"""What the page has instead of the folder on the machine that measured."""

PICTURES = {
    "overview": "Error minus the error of source at every place: blue is better, red is worse",
    "stream": "Error over the long streams",
    "reliability": "Accuracy by confidence",
}
"""The pictures in docs/images/results, by the names of their files."""

TOP = """\
# Results: errors of the strategies on CIFAR-10-C

<!-- Made by `make results` from results*.csv and benchmarks/results/reading.md: do not edit. -->

This page has the error of the bundled network with every strategy, measured by [`renorm evaluate`](evaluate.md), which
explains protocols and orders. To reproduce it:

```sh
make results DATA=path/to/cifar10c
```

This writes this page, the table of strategies in README, and the pictures. It runs the commands at the end of the page,
which takes about an hour on one idle core; an interrupted run resumes, and the page lists missing cells.

- **Images**: the first 1,000 CIFAR-10 test images with the fifteen corruptions of CIFAR-10-C at severity 5, made with
  their published parameters: 15,000 images per stream, 1,000 per clean stream.
- **Strategies**: with their defaults unless another value is shown; learners and correctors with the adapter of their
  own ([strategies.md](strategies.md)).
- **Data**: every cell is in [results.csv](results.csv), the long streams in [results-long.csv](results-long.csv), the
  choice of hyperparameters in [results-choice.csv](results-choice.csv).
"""

STREAM = """\
Errors over the first images of the stream, and the rank among the strategies that were run on it: all corruptions, one
after another, in requests of 64.
"""

USES = """\
Errors under corruptions, and the difference to `source` on clean images, in points. README shows the strategies that
most users choose between.
"""

CHOICE = """\
Nothing was tuned on the images above. Values were compared on held-out data: 500 other test images with the four
corruptions that are reserved for this (speckle noise, Gaussian blur, spatter, saturation), by
`python -m benchmarks.results.choice --cifar FOLDER`. The streams have all four corruptions, one after another or mixed,
in requests of 1 and 64; the column of clean streams is the difference to `source`. A value is *clearly better* than the
default if its mean is lower by a point or more and it is nowhere worse by a point or more.
"""


def about(settings: Mapping[str, str], cores: int, unfinished: str) -> dict[str, str]:
    """Return the facts at the top of the page: ``settings`` are those in the manifest of the evaluation.

    ``unfinished`` says which cells are missing; empty where none are.
    """
    images = "all images" if settings["limit"] == "all" else f"{settings['limit']} images"
    facts = {
        "model": f"{settings['model']} ({settings['architecture']}, {settings['type']}, weights {settings['weights']})",
        "data": f"{DATA} ({settings['data']}), severity {settings['severity']}, {images} of each domain",
        "answered by": f"the engine in this process, Renorm {settings['renorm']}, Python {platform.python_version()}",
        "machine": f"{platform.machine()}, {cores} cores, {platform.system()}",
    }
    return {**facts, "unfinished": unfinished} if unfinished else facts


def commands() -> str:
    """Return the commands that were run, as a person would type them."""
    typed = [["renorm", *plan.command(DATA, Path("results"))] for plan in STUDY]
    # An option and its value a line: the strategies alone fill one.
    lines = [shlex.join(words).replace(" --", " \\\n  --") for words in typed]
    return "```sh\n{}\n```\n".format("\n\n".join(lines))


def told_about(page: str) -> dict[str, str]:
    """Return the facts at the top of a page, as `about` made them."""
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", page.partition("\n## ")[0], re.MULTILINE)
    return {name: value for name, value in rows if name != "---"}


def page(
    figures: Sequence[Figures],
    long: Sequence[PrefixErrorRate],
    choice: Sequence[Figures],
    facts: Mapping[str, str],
    reading: str,
) -> str:
    """The whole page. ``reading`` stands in it as it is; ``choice`` may be empty."""
    study = Study(summarize(figures), ())
    parts = [
        TOP,
        about_table(facts),
        reading,
        section("Strategies and their uses", USES, readme_table.table(figures)),
        section("Overview", overview_text(figures, study), overview_table(study), picture("overview")),
        section("Where it hurts", harm_list(study)),
        section("Beside published figures", results_published.section_of(figures)),
        section("The long streams", *_long(long), picture("stream")),
        *(section(", ".join(way), *at_place(study, *way)) for way in study.ways),
        section("How hyperparameters were chosen", CHOICE, table(choice)) if choice else "",
        section("Confidence", picture("reliability")),
        section("What was run", commands()),
    ]
    return "\n".join(part for part in parts if part)


def picture(name: str, folder: str = "images/results") -> str:
    """A picture of `PICTURES` as Markdown."""
    return f"![{PICTURES[name]}]({folder}/{name}.png)\n"


def _long(rows: Sequence[PrefixErrorRate]) -> list[str]:
    return [STREAM, *(results_long.table(rows, order) for order in dict.fromkeys(row.order for row in rows))]
