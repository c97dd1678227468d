"""Heat map of all places: the difference of each strategy to the frozen model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from app.evaluation.metrics import SOURCE, Place, Summary
from app.evaluation.plots.canvas import FAINT, FRAME, INK, MISSING, WIDTH, canvas, escape, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDEST = 36
"""Maximum of places in a row; further ones begin a new panel, at a new protocol or order."""

MARGINS = 1.2  # inches beside cells and names
LETTER = 0.06  # inches that one takes above the cells

CELL_WIDTH, CELL_HEIGHT = 0.36, 0.21  # in inches: what "+10.0" needs


def draw_differences(folder: Path, summaries: Sequence[Summary], name: str = "differences") -> Path:
    """Write `NAME.png`: strategies by places, errors minus those of `SOURCE` in points; its own are errors.

    Blue is better than `SOURCE`, red is worse, grey is unknown.
    """
    from matplotlib import colormaps  # noqa: PLC0415
    from matplotlib.cm import ScalarMappable  # noqa: PLC0415
    from matplotlib.colors import Normalize  # noqa: PLC0415

    strategies = list(dict.fromkeys(summary.strategy for summary in summaries))
    by_cell = {(summary.strategy, summary.place): summary for summary in summaries}
    names = 0.075 * min(48, max(map(len, strategies)))
    room = max(1, min(WIDEST, int((WIDTH - names - MARGINS) / CELL_WIDTH)))
    rows = _rows(sorted({summary.place for summary in summaries}, key=_order(summaries)), room)
    limit = _limit([summary.difference for summary in summaries if summary.strategy != SOURCE])
    shades = ScalarMappable(Normalize(-limit, limit), colormaps["RdBu_r"])
    widest = max(len(places) for places in rows)
    height = sum(CELL_HEIGHT * len(strategies) + (1.15 if _narrow(row) else 0.75) for row in rows) + 0.35
    figure = canvas(names + CELL_WIDTH * widest + MARGINS, height)
    grid = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axes, places in zip(grid, rows, strict=True):
        _panel(axes, strategies, places, by_cell, shades)
        axes.set_xlim(-0.5, widest - 0.5)
    figure.suptitle(f"Error minus that of {SOURCE}, in points", fontsize=10, color=INK)
    bar = figure.colorbar(shades, ax=list(grid), shrink=min(1.0, 3.0 / height), aspect=25, pad=0.01, extend="both")
    bar.ax.tick_params(labelsize=7, colors=FRAME)
    bar.outline.set_visible(False)
    return save(figure, folder, name)


def _order(summaries: Sequence[Summary]) -> Any:
    ways = list(dict.fromkeys(summary.place[:2] for summary in summaries))
    return lambda place: (ways.index(place[:2]), place.batch)


def _rows(places: Sequence[Place], widest: int = WIDEST) -> list[list[Place]]:
    """Places cut into as few rows of at most ``widest`` as can be, all about as long, between protocols and orders."""
    groups = [list(group) for _, group in groupby(places, key=lambda place: place[:2])]
    aim = -(-len(places) // -(-len(places) // widest))
    rows: list[list[Place]] = [[]]
    for group in groups:
        if rows[-1] and (len(rows[-1]) >= aim or len(rows[-1]) + len(group) > widest):
            rows.append([])
        rows[-1] += group
    return rows


def _limit(differences: Sequence[float]) -> float:
    """Return the difference at which colours saturate, so that outliers do not make all others pale."""
    sizes = [abs(value) for value in differences if math.isfinite(value)]
    return max(2.0, float(np.percentile(sizes, 85))) if sizes else 2.0


def _panel(
    axes: Axes,
    strategies: Sequence[str],
    places: Sequence[Place],
    by_cell: Mapping[tuple[str, Place], Summary],
    shades: Any,
) -> None:
    values = np.full((len(strategies), len(places)), math.nan)
    for i, strategy in enumerate(strategies):
        for j, place in enumerate(places):
            summary = by_cell.get((strategy, place))
            if summary is not None:
                values[i, j] = summary.error if strategy == SOURCE else summary.difference
    frozen = np.array([strategy == SOURCE for strategy in strategies])
    colours = _colours(values, frozen, shades)
    axes.imshow(colours, aspect="auto", interpolation="nearest")
    for (i, j), value in np.ndenumerate(values):
        dark = float(colours[i, j, :3] @ (0.299, 0.587, 0.114)) < 0.55
        label = _format_value(float(value), signed=not frozen[i])
        axes.text(j, i, label, ha="center", va="center", fontsize=6.5, color="white" if dark else INK)
    axes.set_yticks(range(len(strategies)), [_label(name) for name in strategies])
    axes.set_xticks(range(len(places)), [str(place.batch) for place in places])
    axes.tick_params(length=0, labelsize=7.5, colors=INK)
    axes.spines[:].set_visible(False)
    _heads(axes, places)


def _label(strategy: str) -> str:
    return f"{SOURCE} (error, %)" if strategy == SOURCE else escape(strategy)


def _colours(values: NDArray[np.float64], frozen: NDArray[np.bool_], shades: Any) -> NDArray[np.float64]:
    from matplotlib.colors import to_rgba  # noqa: PLC0415

    colours = np.asarray(shades.to_rgba(np.nan_to_num(values)), np.float64)
    colours[np.isnan(values) | frozen[:, None]] = to_rgba(MISSING)
    return colours


def _format_value(value: float, *, signed: bool) -> str:
    if math.isnan(value):
        return "-"
    return f"{round(value, 1) + 0.0:+.1f}" if signed else f"{value:.1f}"


def _heads(axes: Axes, places: Sequence[Place]) -> None:
    """The protocol and order above its places, upright where they have no room, and a line between it and the next."""
    start = 0
    rotation = 90 if _narrow(places) else 0
    for way, group in groupby(places, key=lambda place: place[:2]):
        end = start + len(list(group))
        axes.text(
            (start + end - 1) / 2,
            -0.65,
            "\n".join(map(escape, way)),
            ha="center",
            va="bottom",
            multialignment="left" if rotation else "center",
            rotation=rotation,
            fontsize=7.5,
            color=INK,
        )
        if start:
            axes.axvline(start - 0.5, color="white", linewidth=3)
        start = end
    axes.set_xlabel("images a request", fontsize=7.5, color=FRAME)
    axes.set_xticks(np.arange(1, len(places)) - 0.5, minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(which="minor", axis="x", color=FAINT, linewidth=0.3)


def _narrow(places: Sequence[Place]) -> bool:
    """True if a protocol or an order is a longer word than its places are wide."""
    groups = ((way, len(list(group))) for way, group in groupby(places, key=lambda place: place[:2]))
    return any(LETTER * max(map(len, way)) > CELL_WIDTH * count for way, count in groups)
