"""docs/auto.md: the study of `auto`, every figure of it computed from the CSV files beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from app.evaluation.metrics import CLEAN, Figures
from app.evaluation.recovery import RECURRING, SUCCESSIVE
from app.evaluation.report.report import about_table, section
from app.evaluation.report.rows import read_csv
from app.evaluation.types import PROTOCOLS
from benchmarks.auto import calibration
from benchmarks.auto.comparison import (
    Grid,
    distances_to_best,
    find_best_mean,
    make_grid,
    mean_error,
    select_compared,
    select_protocols,
)
from benchmarks.auto.corruptions import HARM, CorruptionHarm, harm_table, read_harm
from benchmarks.auto.plan import AUTO, GRADUAL, GRADUAL_IMAGES, SUBJECTS, Subject
from benchmarks.auto.tables import (
    ablation_table,
    places_table,
    recovery_table,
    strategies_table,
    visits_table,
    worst_table,
)
from benchmarks.auto.targets import targets_table
from benchmarks.results.page import told_about

PICTURE = "images/auto.png"
HARM_CSV = "auto-corruptions.csv"

TOP = """\
# `auto`: the study of the strategy that nobody has to choose

<!-- Made by `python -m benchmarks.auto` from auto*.csv: do not edit. -->

`auto` is `shrinkage+lame`: at every layer it normalizes with the stream's running averages, drawn toward the trained
statistics as far as chance explains the difference, where the stream's own answers say how many of its images are
independent, and a sudden change shortens the averages. Where the contrast of images differs by more than content
explains, as in a mixture of domains, each is drawn to its own statistics. Where answers repeat beyond chance, it lets
similar images agree. [strategies.md](strategies.md) has the parts and hyperparameters; this page has what `auto` gains
and where it loses, against the strategies that a user would otherwise have to choose from.
"""

PROTOCOL = f"""\
```sh
python -m benchmarks.auto --data path/to/cifar10c --mnist results/mnist-c --held-out results/held-out
```

makes this page with [`renorm evaluate`](evaluate.md), which explains protocols and orders; it resumes, starts with
what is most wanted, and keeps published rows until they are measured again. A *place* is a protocol, an order and a
request size; its error is the mean over all corruptions.

- **Images**: 1,000 of each corruption, at severity 5; one seed, which matters most in `one_class` and `stretches:1000`,
  where it draws the class. `gradual` shows {GRADUAL_IMAGES} images of each severity; where data have a single one, its
  cells are missing.
- **Fixed strategies**: those in the first table, with their defaults. The *best fixed strategy of a place* is chosen
  with the labels of that very place: no user could choose it, and there is no strategy that is it everywhere.
- **Hyperparameters** of `auto` were chosen on four held-out corruptions (speckle noise, Gaussian blur, spatter,
  saturation) of other images, with the bundled network. Nothing was chosen on other corruptions, networks or data.
- **Versions**: domains that move, MNIST and the held-out corruptions are of the present version of `auto`. Its clean
  streams and single corruptions are of versions that told mixtures otherwise, which changes nothing where none is
  found: the 16 places in requests of 16 were measured again, with the same errors. Some in requests of 1, 4 and 64 and
  some ablations are of a version before those; 79 cells of both differ by 0.2 points at most.
- Means over places are those of the places where every fixed strategy and `auto` were run; clean streams are a column
  of their own.
"""

TARGETS = """\
Set before `auto` was made. The grids of the other networks and data are small: their figures stand for fewer places.
A place is a mean over corruptions: [single ones](#single-corruptions) can lose more. Utility under a deadline
is in [evaluate.md](evaluate.md#deadline-stream), the cost of a forward in [speed.md](speed.md). Where fixed
strategies hardly differ at their best no choice among them gains much: a row says what the labels of each place would.
"""

WORST = "The places where `auto` is furthest above the best fixed strategy of the place:\n"

HARM_TEXT = f"""\
A mean over corruptions can hide one that gets worse. A corruption at a place counts as harmed if its error is more than
{HARM:g} point above that of `source`.
"""

RECOVERY = """\
Images after a change of the corruption until the error of 50 images in succession is within 2 points of the segment's
own best. Chance makes it more than 0 for a strategy that never adapts too: compare with `source`.
"""

VISITS = """\
The same domains come again: 20 visits in the order `iid`, 5 in the others. Visits show the same images, so they differ
by adaptation alone.
"""

CONTENT = """\
Whether images differ because domains are mixed or because of what they show cannot be seen in a stream alone. What
tells it best is contrast: the logarithm of the variance within an image at a layer. In images of one domain it differs
little, whatever they show; noise, blur and fog change it by factors. How far content spreads it is measured once for a
network, without data, on images of dead leaves: discs that cover each other. The table, made by
`python -m benchmarks.auto.content`, has the variance between images in that unit, as the median over the layers, in
networks that normalize with trained statistics. Above 0.4, which was chosen on the four held-out corruptions and the
ResNet-20 alone, `auto` takes domains to be mixed; it compares images with those before them, so that a change of domain
is no mixture. The corruptions are the fifteen of CIFAR-10-C, and four of our own on 20 photographs of ImageNet.

| network | layers | clean | corrupted, least | corrupted, most | a mixture |
| --- | ---: | ---: | ---: | ---: | ---: |
| ResNet-20, CIFAR-10 | 16 | 0.20 | 0.03 | 0.24 | 0.75 |
| VGG, CIFAR-10 | 5 | 0.15 | 0.03 | 0.16 | 0.62 |
| MobileNetV2, ImageNet | 44 | 0.24 | 0.13 | 0.29 | 1.12 |

The means of images, which told mixtures before, tell them less well: 1.72 for the mixture of the ResNet-20, where one
domain reaches 1.05, and no more for that of the VGG than for one of its domains (1.18). Domains that differ in
brightness alone are not told apart: then `auto` does what it does for a stream of one domain.
"""

ABLATION = "Parts of `auto` turned off; the error at every place where all variants were run:\n"


def read_figures(docs: Path) -> dict[str, list[Figures]]:
    """The figures of each subject by its name; without those of subjects that were not run.

    Raises:
        ValueError, OSError: as `read_csv`.
    """
    files = {subject.name: docs / csv_name(subject) for subject in SUBJECTS}
    return {name: read_csv(file) for name, file in files.items() if file.exists()}


def csv_name(subject: Subject) -> str:
    """The name of a subject's CSV file beside the page."""
    return "auto.csv" if _is_main(subject) else f"auto-{subject.name}.csv"


def read_facts(docs: Path) -> dict[str, str]:
    """The facts at the top of the page in ``docs``; none without a page."""
    file = docs / "auto.md"
    return told_about(file.read_text(encoding="utf-8")) if file.exists() else {}


def make_page(
    figures: Mapping[str, Sequence[Figures]], harm: Sequence[CorruptionHarm], facts: Mapping[str, str]
) -> str:
    """The whole page, of the figures of each subject by its name; ``harm`` is that of the bundled network."""
    measured = {subject: make_grid(figures[subject.name]) for subject in SUBJECTS if figures.get(subject.name)}
    parts = [TOP, about_table(facts), section("The protocol", PROTOCOL), _targets_section(measured)]
    for subject, grid in measured.items():
        parts.append(_subject_section(subject, grid))
        if _is_main(subject):
            parts += [
                section("Single corruptions", HARM_TEXT, harm_table(harm)) if harm else "",
                *_further_sections(grid),
            ]
    return "\n".join(part for part in parts if part)


def make_text(docs: Path) -> str:
    """The page made anew of the CSV files in ``docs`` and the facts at the top of the page there.

    Raises:
        ValueError, OSError: a file is broken.
    """
    return make_page(read_figures(docs), read_harm(docs / HARM_CSV), read_facts(docs))


def _is_main(subject: Subject) -> bool:
    return subject.name == SUBJECTS[0].name


def _targets_section(measured: Mapping[Subject, Grid]) -> str:
    columns = {f"{subject.title} ({len(grid)} places)": grid for subject, grid in measured.items()}
    return section("Targets, reached and missed", TARGETS, targets_table(columns))


def _subject_section(subject: Subject, grid: Grid) -> str:
    picture = f"![Error by order: source, the best fixed strategy and auto]({PICTURE})\n"
    candidates = ("single", CLEAN) if _is_main(subject) else ("single", CLEAN, GRADUAL)
    protocols = [protocol for protocol in candidates if any(place.protocol == protocol for place in grid)]
    return section(
        subject.title[0].upper() + subject.title[1:],
        _in_words(grid),
        strategies_table(grid),
        picture if _is_main(subject) else "",
        "Place by place:\n",
        places_table(grid, protocols),
        WORST,
        worst_table(grid),
    )


def _in_words(grid: Grid) -> str:
    shifted = select_compared(select_protocols(grid, clean=False))
    total = len(select_compared(grid))
    if not shifted:
        return "No place with a shift has every strategy yet.\n"
    name, error = find_best_mean(shifted)
    losses = sum(distance.points > 0 for distance in distances_to_best(grid, AUTO))
    return (
        f"Over the {len(shifted)} places with a shift, `auto` has a mean error of {mean_error(shifted, AUTO):.1f} %, "
        f"`source` {mean_error(shifted, 'source'):.1f} %, and the best fixed strategy, `{name}`, {error:.1f} %. "
        f"Some fixed strategy is better than `auto` at {losses} of {total} places.\n"
    )


def _further_sections(grid: Grid) -> list[str]:
    """The sections that only the whole grid has."""
    ablation = ablation_table(grid)
    moving = [protocol for protocol in PROTOCOLS if protocol not in ("single", CLEAN)]

    def has(*protocols: str) -> bool:
        return any(place.protocol in protocols for place in grid)

    return [
        section("Domains that follow each other or mix", places_table(grid, moving)) if has(*moving) else "",
        section("After a change", RECOVERY, recovery_table(grid)) if has(*SUCCESSIVE) else "",
        section("Recurring domains", VISITS, visits_table(grid)) if has(RECURRING) else "",
        section("Content and mixtures", CONTENT),
        section("Calibration", calibration.TEXT, calibration.calibration_table(grid)),
        section("What each part is worth", ABLATION, ablation) if ablation else "",
    ]
