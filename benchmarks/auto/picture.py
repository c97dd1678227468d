"""The picture of the study: the error by order for `source`, the best fixed strategy of each place, and `auto`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from app.evaluation.metrics import CLEAN, SOURCE, Summary
from app.evaluation.plots.canvas import COLOURS, FRAME, INK, WIDTH, canvas, require_matplotlib, save, style_axes
from benchmarks.auto.comparison import Grid, find_best_fixed, select_compared
from benchmarks.auto.plan import AUTO

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BATCH = 16
"""Images a request in the picture."""

BARS = ((SOURCE, INK), ("best fixed strategy of the place", COLOURS[4]), (AUTO, COLOURS[1]))
"""What the bars show, with their colours."""

BAR_WIDTH = 0.27


def draw(grid: Grid, path: Path) -> None:
    """Write a PNG with a panel for streams under corruption and one for clean streams, where all strategies were run.

    Raises:
        MissingPackageError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    require_matplotlib()
    from matplotlib.patches import Patch  # noqa: PLC0415

    compared = select_compared(grid)
    figure = canvas(WIDTH * 0.8, 3.4)
    titles = {"single": "corrupted", CLEAN: "clean"}
    for axes, (protocol, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        _panel(axes, {place.order: row for place, row in compared.items() if place[::2] == (protocol, BATCH)}, title)
    handles = [Patch(color=colour, label=name) for name, colour in BARS]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(BARS), frameon=False, fontsize=8)
    save(figure, path.parent, path.stem)


def _panel(axes: Axes, rows: Mapping[str, Mapping[str, Summary]], title: str) -> None:
    """Draw three bars for each order."""
    style_axes(axes)
    for number, (name, colour) in enumerate(BARS):
        heights = [(row[name] if name in row else find_best_fixed(row)).error for row in rows.values()]
        places = [i + (number - 1) * BAR_WIDTH for i in range(len(rows))]
        axes.bar(places, heights, BAR_WIDTH, color=colour)
    axes.set_xticks(range(len(rows)), list(rows), rotation=30, ha="right", fontsize=7)
    axes.set_title(f"{title}, requests of {BATCH}", fontsize=9, color=INK, loc="left")
    axes.set_ylabel("error, %", fontsize=8, color=FRAME)
