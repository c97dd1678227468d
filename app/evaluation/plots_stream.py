"""The pictures of what happens along a stream: error and drift, as lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from app.evaluation.curves import Curve, Stretch, drift_curve, error_curve, mean_curve, stretches
from app.evaluation.measures import SOURCE
from app.evaluation.plots_canvas import (
    FAINT,
    FRAME,
    INK,
    Look,
    canvas,
    legend,
    legend_columns,
    looks,
    panels,
    plain,
    save,
    tidy,
)
from app.evaluation.types import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABELLED = 20
"""Stretches of one domain up to which each is named."""

Way = tuple[str, str]
Lines = dict[str, Curve]


def draw_errors(folder: Path, results: Sequence[Result], domains: Sequence[str]) -> list[Path]:
    """Write `error_over_stream_N.png` for each request size N: mean error over seeds, a panel for each order."""
    paths = []
    for batch in sorted({result.cell.batch for result in results}):
        own = [result for result in results if result.cell.batch == batch]
        title = f"Error over the stream, requests of {batch}"
        paths.append(_draw(folder, f"error_over_stream_{batch}", own, domains, (title, "error, %", error_curve)))
    return paths


def draw_drift(folder: Path, results: Sequence[Result], domains: Sequence[str]) -> Path:
    """Write `drift_over_stream.png`, of the largest requests, because theirs is the least noisy."""
    batch = max(result.cell.batch for result in results)
    own = [result for result in results if result.cell.batch == batch]
    title = f"Drift over the stream, requests of {batch}"
    return _draw(folder, "drift_over_stream", own, domains, (title, "drift", drift_curve))


def _draw(
    folder: Path,
    name: str,
    results: Sequence[Result],
    domains: Sequence[str],
    what: tuple[str, str, Callable[[Result], Curve]],
) -> Path:
    title, unit, curve = what
    styles = looks(result.cell.strategy for result in results)
    ways = list(dict.fromkeys((result.cell.protocol, result.cell.order) for result in results))
    columns = min(2, len(ways))
    rows, width = -(-len(ways) // columns), 6.6 * columns
    figure = canvas(width, 0.5 + 3.2 * rows + 0.2 * -(-len(styles) // legend_columns(styles, width)))
    for axes, way in zip(panels(figure, len(ways), columns), ways, strict=True):
        own = [result for result in results if (result.cell.protocol, result.cell.order) == way]
        named = _panel(axes, own, domains, styles, curve)
        pad = 42 if named else 4
        axes.set_title(", ".join(map(plain, way)), fontsize=9, color=INK, loc="left", pad=pad)
        axes.set_ylabel(unit, fontsize=8, color=FRAME)
        axes.set_xlabel("images", fontsize=8, color=FRAME)
    figure.suptitle(title, fontsize=10, color=INK)
    legend(figure, styles, width)
    return save(figure, folder, name)


def _panel(
    axes: Axes,
    results: Sequence[Result],
    domains: Sequence[str],
    styles: Mapping[str, Look],
    curve: Callable[[Result], Curve],
) -> bool:
    """Whether domains are named above the panel."""
    tidy(axes)
    for strategy, look in styles.items():
        seeds = [curve(result) for result in results if result.cell.strategy == strategy]
        if seeds:
            drawn = mean_curve(seeds)
            axes.plot(*drawn, **look.keywords(), zorder=3 if strategy == SOURCE else 2)
    axes.set_xlim(0, max(len(result.domain) for result in results))
    axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))
    return _mark(axes, _shared_stretches(results), domains)


def _shared_stretches(results: Sequence[Result]) -> list[Stretch]:
    """Those of the stream where all seeds show the domains in the same order, none otherwise."""
    first = results[0].domain
    same = all(np.array_equal(result.domain, first) for result in results)
    return stretches(first) if same else []


def _mark(axes: Axes, found: Sequence[Stretch], domains: Sequence[str]) -> bool:
    """A line where a domain begins, and its name where there is room; whether there was."""
    for stretch in found[1:]:
        axes.axvline(stretch.start, color=FAINT, linewidth=0.7, zorder=1)
    if not 1 < len(found) <= LABELLED:
        return False
    for index, start, stop in found:
        name = domains[index] if index < len(domains) else str(index)
        axes.annotate(
            plain(name.replace("_", " "), 18),
            ((start + stop) / 2, 1.0),
            (0, 1),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            rotation=38,
            ha="left",
            va="bottom",
            fontsize=6,
            color=FRAME,
            rotation_mode="anchor",
            annotation_clip=False,
        )
    return True
