"""Line plots of error and drift along a stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from app.evaluation.curves import Curve, Stretch, drift_curve, error_curve, mean_curve, stretches
from app.evaluation.metrics import SOURCE
from app.evaluation.plots.canvas import (
    FAINT,
    FRAME,
    INK,
    WIDTH,
    LineStyle,
    canvas,
    escape,
    legend,
    legend_columns,
    line_styles,
    panels,
    save,
    style_axes,
)
from app.evaluation.types import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_LABELS = 20
"""The number of stretches up to which each has a label."""


def draw_errors(folder: Path, results: Sequence[Result], domains: Sequence[str]) -> list[Path]:
    """Write `error_over_stream_N.png` for each request size N: mean error over seeds, a panel for each order.

    Errors are running means, of the number of images stated below each panel, with a band of one standard error.
    """
    paths = []
    for batch in sorted({result.cell.batch for result in results}):
        subset = [result for result in results if result.cell.batch == batch]
        title = f"Error over the stream, requests of {batch}"
        paths.append(_draw(folder, f"error_over_stream_{batch}", subset, domains, (title, "error, %", error_curve)))
    return paths


def draw_drift(folder: Path, results: Sequence[Result], domains: Sequence[str]) -> Path:
    """Write `drift_over_stream.png`, of the largest requests, because theirs is the least noisy; panels share axes."""
    batch = max(result.cell.batch for result in results)
    subset = [result for result in results if result.cell.batch == batch]
    title = f"Drift over the stream, requests of {batch}"
    return _draw(folder, "drift_over_stream", subset, domains, (title, "drift", drift_curve))


def _draw(
    folder: Path,
    name: str,
    results: Sequence[Result],
    domains: Sequence[str],
    contents: tuple[str, str, Callable[[Result], Curve]],
) -> Path:
    title, unit, curve = contents
    styles = line_styles(result.cell.strategy for result in results)
    ways = list(dict.fromkeys((result.cell.protocol, result.cell.order) for result in results))
    columns = min(2, len(ways))
    rows, width = -(-len(ways) // columns), WIDTH / 2 * columns
    figure = canvas(width, 0.5 + 3.2 * rows + 0.2 * -(-len(styles) // legend_columns(styles, width)))
    grid = panels(figure, len(ways), columns)
    for axes, way in zip(grid, ways, strict=True):
        way_results = [result for result in results if (result.cell.protocol, result.cell.order) == way]
        drawn = _panel(axes, way_results, styles, curve)
        pad = 42 if _mark(axes, _shared_stretches(way_results), domains) else 4
        axes.set_title(", ".join(map(escape, way)), fontsize=9, color=INK, loc="left", pad=pad)
        axes.set_ylabel(unit, fontsize=8, color=FRAME)
        axes.set_xlabel(_axis_label(drawn), fontsize=8, color=FRAME)
    # After drawing all: the shared axis must contain every line.
    grid[0].set_ylim(bottom=0.0)
    figure.suptitle(title, fontsize=10, color=INK)
    legend(figure, styles, width)
    return save(figure, folder, name)


def _panel(
    axes: Axes, results: Sequence[Result], styles: Mapping[str, LineStyle], curve: Callable[[Result], Curve]
) -> list[Curve]:
    """Draw a line with its band for each strategy, and return the curves."""
    style_axes(axes)
    lines: list[Curve] = []
    shade = min(0.15, 0.6 / len(styles))  # many bands upon each other would hide the lines
    for strategy, style in styles.items():
        seeds = [curve(result) for result in results if result.cell.strategy == strategy]
        if seeds:
            drawn = mean_curve(seeds)
            front = 3 if strategy == SOURCE else 2
            axes.plot(drawn.position, drawn.value, **style._asdict(), zorder=front)
            low, high = drawn.value - drawn.error, drawn.value + drawn.error
            if np.isfinite(drawn.error).any():
                axes.fill_between(drawn.position, low, high, color=style.color, alpha=shade, linewidth=0, zorder=1)
            lines.append(drawn)
    axes.set_xlim(0, max(len(result.domain) for result in results))
    return lines


def _axis_label(drawn: Sequence[Curve]) -> str:
    windows = sorted({curve.window for curve in drawn})
    span = " to ".join(f"{window:,}" for window in dict.fromkeys((windows[0], windows[-1])))
    band = "; band: one standard error" if any(np.isfinite(curve.error).any() for curve in drawn) else ""
    return f"images (running mean of {span}{band})"


def _shared_stretches(results: Sequence[Result]) -> list[Stretch]:
    """Return the stretches of the stream if all seeds have the same order of domains, none otherwise."""
    first = results[0].domain
    is_shared = all(np.array_equal(result.domain, first) for result in results)
    return stretches(first) if is_shared else []


def _mark(axes: Axes, shared: Sequence[Stretch], domains: Sequence[str]) -> bool:
    """Draw a line where a domain begins, and its name where there is room; return True if there was."""
    for stretch in shared[1:]:
        axes.axvline(stretch.start, color=FAINT, linewidth=0.7, zorder=1)
    if not 1 < len(shared) <= MAX_LABELS:
        return False
    for index, start, stop in shared:
        name = domains[index] if index < len(domains) else str(index)
        axes.annotate(
            escape(name.replace("_", " "), 18),
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
