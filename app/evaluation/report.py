"""The report of an evaluation: `report.md` for people, `results.csv` for programs."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from app.evaluation.harm import HURTS, harm
from app.evaluation.measures import CLEAN, SOURCE, Figures, differences, mean, measure_all, summarize
from app.evaluation.tables import Study, domain_table, markdown, overview_table, place_table, text
from app.evaluation.types import Result

COLUMNS = (
    *("strategy", "protocol", "order", "batch", "seed", "images", "error", "ece"),
    *("difference_to_source", "images_per_s", "state_bytes", "seconds"),
)
"""Of `results.csv`: errors and ECE in percent, the difference in points; empty where it is not known."""


def write_csv(path: Path, results: Iterable[Result]) -> None:
    """One row for each cell: by strategy in the order given, then protocol, order, request size and seed.

    Raises:
        ValueError: there are no results, or a cell was given twice.
        OSError: the file cannot be written.
    """
    _write_rows(path, measure_all(results))


def write_report(
    folder: Path,
    results: Iterable[Result],
    about: Mapping[str, str],
    *,
    domains: Sequence[str] = (),
    plots: Sequence[Path] = (),
) -> Path:
    """Write `report.md` and `results.csv` into ``folder``; the path of the report.

    ``about`` is shown at the top as given: model, data, command, machine. ``domains`` are names by index, ``plots``
    pictures to be shown, as `app.evaluation.plots.write_plots` returns them.

    Raises:
        ValueError: there are no results, or a cell was given twice.
        OSError: a file cannot be written.
    """
    figures = measure_all(results)
    folder.mkdir(parents=True, exist_ok=True)
    _write_rows(folder / "results.csv", figures)
    path = folder / "report.md"
    links = [(plot.stem, plot.relative_to(folder) if plot.is_relative_to(folder) else plot) for plot in plots]
    pictures = {name: f"![{name.replace('_', ' ')}]({place.as_posix()})\n" for name, place in links}
    path.write_text(_report(figures, about, domains, pictures), encoding="utf-8")
    return path


def _write_rows(path: Path, figures: Sequence[Figures]) -> None:
    against = differences(figures)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for one in figures:
            measured = (one.error, one.ece, against.get(one.cell, math.nan), one.images_per_s)
            rounded = [f"{value:.4f}" if math.isfinite(value) else "" for value in measured]
            writer.writerow([*one.cell, one.images, *rounded, one.state_bytes, f"{one.seconds:.4f}"])


def _report(
    figures: Sequence[Figures], about: Mapping[str, str], names: Sequence[str], pictures: dict[str, str]
) -> str:
    study = Study(summarize(figures), names)
    parts = [
        "# Evaluation\n",
        markdown(["", ""], [[text(key), text(value)] for key, value in about.items()], left=2) if about else "",
        _section("Overview", _explained(figures, study), overview_table(study), _taken(pictures, "differences")),
        _section(
            "Where it hurts", _told(f"Places with an error more than {HURTS:g} point above `{SOURCE}`.", harm(study))
        ),
        *(_section(f"{place[0]}, {place[1]}", *_at(study, *place)) for place in study.ways),
        _section("Over the stream", _taken(pictures, "error"), _taken(pictures, "drift")),
        _section("Confidence", _taken(pictures, "reliability")),
        _section("Domains", _told("Mean over all places but the clean ones.", domain_table(study))),
        _section("Other pictures", _taken(pictures, "")),
    ]
    return "\n".join(part for part in parts if part)


def _section(title: str, *parts: str) -> str:
    """Empty where all parts are."""
    return "\n".join([f"## {title}\n", *(part for part in parts if part)]) if any(parts) else ""


def _told(sentence: str, body: str) -> str:
    return f"{sentence}\n\n{body}" if body else ""


def _at(study: Study, protocol: str, order: str) -> tuple[str, str]:
    here = [one for one in study.summaries if one.place[:2] == (protocol, order)]
    spreads = [one.error_spread for one in here if math.isfinite(one.error_spread)]
    spread = ""
    if spreads:
        spread = f"Standard deviation over seeds: {mean(spreads):.1f} points in the mean, {max(spreads):.1f} at most.\n"
    return place_table(study, protocol, order), spread


def _taken(pictures: dict[str, str], start: str) -> str:
    """The pictures whose names begin so; each is shown once."""
    return "\n".join(pictures.pop(name) for name in list(pictures) if name.startswith(start))


def _explained(figures: Sequence[Figures], study: Study) -> str:
    seeds = len({one.cell.seed for one in figures})
    runs = f"{len(figures):,} runs of {sum(one.images for one in figures):,} images in all"
    clean = any(place.protocol == CLEAN for place in study.places)
    return (
        f"{runs}: {len(study.strategies)} strategies at up to {len(study.places)} places (protocol, order and request "
        f"size), {seeds} seed{'s' if seeds > 1 else ''}. Means are over seeds, then over places"
        f"{' but the clean ones' if clean else ''}. A difference is to `{SOURCE}` on the same images in the same "
        "order, in points; below zero is better. The worst is the place where the error is furthest above (or least "
        f"below) that of `{SOURCE}`. ECE is the expected calibration error in 15 bins. Best errors are bold.\n"
    )
