"""The report of an evaluation: `report.md` for people, `results.csv` for programs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from app.evaluation.metrics import CLEAN, SOURCE, Figures, Summary, mean, measure_all, summarize
from app.evaluation.report.changes import after_changes
from app.evaluation.report.harm import HARM_THRESHOLD, harm
from app.evaluation.report.rows import write_rows
from app.evaluation.report.tables import Study, domain_table, markdown, number, overview_table, place_table, text
from app.evaluation.types import Result


def write_report(
    folder: Path,
    results: Iterable[Result],
    about: Mapping[str, str],
    *,
    domains: Sequence[str] = (),
    plots: Sequence[Path] = (),
) -> Path:
    """Write `report.md` and `results.csv` into ``folder``; the path of the report.

    ``about`` is shown at the top: model, data, command, machine. ``domains`` are names by index, ``plots`` the pictures
    to show, as `app.evaluation.plots.write.write_plots` returns them.

    Raises:
        ValueError: there are no results, or a cell appears twice.
        OSError: a file cannot be written.
    """
    figures = measure_all(results)
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "results.csv", figures)
    path = folder / "report.md"
    links = [(plot.stem, plot.relative_to(folder) if plot.is_relative_to(folder) else plot) for plot in plots]
    pictures = {name: f"![{name.replace('_', ' ')}]({place.as_posix()})\n" for name, place in links}
    path.write_text(_report(figures, about, domains, pictures), encoding="utf-8")
    return path


def _report(
    figures: Sequence[Figures], about: Mapping[str, str], names: Sequence[str], pictures: dict[str, str]
) -> str:
    study = Study(summarize(figures), names)
    parts = [
        "# Evaluation\n",
        about_table(about),
        section("Overview", overview_text(figures, study), overview_table(study), _pop_plots(pictures, "differences")),
        section("Where it hurts", harm_list(study)),
        *(section(f"{place[0]}, {place[1]}", *at_place(study, *place)) for place in study.ways),
        section("After a change of domain", *after_changes(study)),
        section("Over the stream", _pop_plots(pictures, "error"), _pop_plots(pictures, "drift")),
        section("Confidence", _pop_plots(pictures, "reliability")),
        section("Domains", _with_caption("Mean over all places except the clean ones.", domain_table(study))),
        section("Other pictures", _pop_plots(pictures, "")),
    ]
    return "\n".join(part for part in parts if part)


def about_table(about: Mapping[str, str]) -> str:
    """Return a table of the measured system and its settings; empty without any."""
    return markdown(["", ""], [[text(key), text(value)] for key, value in about.items()], 2) if about else ""


def section(title: str, *parts: str) -> str:
    """Return a heading of the second level and its parts; empty where all parts are."""
    return "\n".join([f"## {title}\n", *(part for part in parts if part)]) if any(parts) else ""


def harm_list(study: Study) -> str:
    """Return the list of harm of each strategy, with its caption."""
    return _with_caption(f"Places with an error more than {HARM_THRESHOLD:g} point above `{SOURCE}`.", harm(study))


def _with_caption(sentence: str, body: str) -> str:
    return f"{sentence}\n\n{body}" if body else ""


def at_place(study: Study, protocol: str, order: str) -> tuple[str, str, str]:
    """Return the table of a protocol and order, the spread over seeds, and the lengths of runs of one class.

    The spread of one seed, and lengths that are not known, are empty.
    """
    summaries = [summary for summary in study.summaries if summary.place[:2] == (protocol, order)]
    spreads = [summary.error_spread for summary in summaries if math.isfinite(summary.error_spread)]
    spread = ""
    if spreads:
        spread = f"Standard deviation over seeds: {mean(spreads):.1f} points in the mean, {max(spreads):.1f} at most.\n"
    return place_table(study, protocol, order), spread, class_run_text(summaries)


def class_run_text(summaries: Sequence[Summary]) -> str:
    """Return a sentence on the runs of one class in the streams of a place; empty where they are not known."""
    runs = next((summary.runs for summary in summaries if math.isfinite(summary.runs.mean)), None)
    if runs is None:
        return ""
    return f"Runs of one class: {number(runs.mean)} images in the mean, {number(runs.median)} in the median.\n"


def _pop_plots(pictures: dict[str, str], start: str) -> str:
    """Remove and return the pictures with this prefix, so that each is shown once."""
    return "\n".join(pictures.pop(name) for name in list(pictures) if name.startswith(start))


def overview_text(figures: Sequence[Figures], study: Study) -> str:
    """Return the number of runs, and the meaning of the columns of the overview."""
    seeds = len({run.cell.seed for run in figures})
    runs = f"{len(figures):,} runs of {sum(run.images for run in figures):,} images in all"
    clean = any(place.protocol == CLEAN for place in study.places)
    return (
        f"{runs}: {len(study.strategies)} strategies at up to {len(study.places)} places (protocol, order and request "
        f"size), {seeds} seed{'s' if seeds > 1 else ''}. Means are over seeds, then over places"
        f"{' except the clean ones' if clean else ''}. Differences are to `{SOURCE}` on the same images in the same "
        "order, in points; below zero is better. The worst is the place where the error is furthest above (or least "
        f"below) that of `{SOURCE}`. ECE is the expected calibration error in 15 bins. Best errors are bold.\n"
    )
