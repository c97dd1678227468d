"""Reliability diagrams: accuracy by confidence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from app.evaluation.metrics import BINS, CLEAN, Bins, Figures, mean, pool_bins
from app.evaluation.plots.canvas import COLOURS, FRAME, INK, canvas, escape, even_columns, save, style_axes, tiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MIN_SHARE = 0.001
"""Share of the images below which a bin is not drawn: its accuracy is chance."""


def draw_reliability(folder: Path, figures: Sequence[Figures]) -> Path:
    """Write `reliability.png`: for each strategy, accuracy by confidence over all images but the clean ones.

    If there are only clean streams, over these. The ECE is the mean over runs, as in the report.
    """
    shifted = [run for run in figures if run.cell.protocol != CLEAN] or list(figures)
    strategies = list(dict.fromkeys(run.cell.strategy for run in shifted))
    columns = even_columns(len(strategies), 6)
    rows = -(-len(strategies) // columns)
    figure = canvas(max(4.0, 2.05 * columns), 0.8 + 2.05 * rows)
    grid = tiles(figure, len(strategies), columns)
    for axes, strategy in zip(grid, strategies, strict=True):
        runs = [run for run in shifted if run.cell.strategy == strategy]
        _panel(axes, pool_bins(run.bins for run in runs), mean([run.ece for run in runs]))
        axes.set_title("\n".join(_lines(strategy)), fontsize=7.5, color=INK)
    figure.suptitle("Accuracy by confidence (blue), and share of the images (grey)", fontsize=10, color=INK)
    figure.supxlabel("confidence, %", fontsize=8, color=FRAME)
    figure.supylabel("accuracy, %", fontsize=8, color=FRAME)
    return save(figure, folder, "reliability")


def _lines(strategy: str, limit: int = 28) -> list[str]:
    """Split a long name into two lines, because long names differ at their ends."""
    if len(strategy) <= limit:
        return [escape(strategy, limit)]
    # After a sign that joins its parts, if any.
    end = max(strategy.rfind(sign, 0, limit) for sign in "+:,") + 1 or limit
    return [escape(strategy[:end], limit), escape(strategy[end:], limit)]


def _panel(axes: Axes, bins: Bins, ece: float) -> None:
    style_axes(axes)
    edges = 100 * np.arange(BINS + 1) / BINS
    width, middles = edges[1], edges[:-1] + edges[1] / 2
    is_drawn = bins.images > MIN_SHARE * bins.images.sum()
    accuracy = 100 * bins.correct[is_drawn] / bins.images[is_drawn]
    axes.bar(middles[is_drawn], accuracy, 0.9 * width, color="#a8d0ea")
    axes.plot(100 * bins.confidence[is_drawn] / bins.images[is_drawn], accuracy, ".", color=INK, markersize=3)
    axes.stairs(100 * bins.images / bins.images.sum(), edges, color=FRAME, fill=True)
    axes.plot([0, 100], [0, 100], color=COLOURS[1], linewidth=1, linestyle=(0, (4, 2)))
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.set_aspect("equal")
    axes.set_xticks([0, 50, 100])
    axes.set_yticks([0, 50, 100])
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    axes.text(4, 96, f"ECE {ece:.1f} %", ha="left", va="top", fontsize=7.5, color=INK, bbox=box)
