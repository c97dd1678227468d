"""Draw `load.json`: the throughput of clients that wait, and the latency of requests at fixed rates.

python -m benchmarks.load.plot docs/load.json docs/images/load.png
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common import plot
from benchmarks.load.plan import OURS
from benchmarks.load.results import LoadResults, read

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS_COLOURS = ("#1a73e8", "#12b5cb", "#188038", "#a142f4")
PEER_COLOURS = ("#e37400", "#9aa0a6", "#d93025")


def colours(results: LoadResults) -> dict[str, str]:
    """A colour for each contender."""
    names = list(dict.fromkeys(row.contender for row in results.rows))
    renorms, peers = [n for n in names if n.startswith(OURS)], [n for n in names if not n.startswith(OURS)]
    chosen = {name: OURS_COLOURS[i % len(OURS_COLOURS)] for i, name in enumerate(renorms)}
    return chosen | {name: PEER_COLOURS[i % len(PEER_COLOURS)] for i, name in enumerate(peers)}


def draw(results: LoadResults, out: Path) -> None:
    """Write the picture; its format follows from the name of ``out``.

    Raises:
        ValueError: the run holds no measurement.
    """
    # Without a window: this may run where there is no screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    if not results.rows:
        raise ValueError("the run holds no measurement: run python -m benchmarks.load to its end")
    panels = [panel for panel, closed in ((_throughput, True), (_latency, False)) if results.loads(closed=closed)]
    height = 1.5 + 0.13 * len(results.rows)
    figure = Figure(figsize=(5.5 * len(panels), max(4.2, height)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        panel(axes, results)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.3)
        axes.tick_params(axis="x", labelsize=8)
        axes.set_axisbelow(True)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, ncols=4, loc="outside lower center", fontsize=8)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


def _throughput(axes: Axes, results: LoadResults) -> None:
    measured, tint = results.loads(closed=True), colours(results)
    top = 0.0
    ticks = []
    for load in measured:
        rows = [row for row in results.rows if row.load == load and row.rounds]
        for row in rows:
            labels = axes.get_legend_handles_labels()[1]
            label = row.contender if row.contender not in labels else "_"
            axes.barh(top, row.middle("images_per_s"), 0.9, color=tint[row.contender], label=label)
            top += 1
        ticks.append(top - (len(rows) + 1) / 2)
        top += 1
    axes.set_yticks(ticks, [load.label.replace(", ", ",\n") for load in measured], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("images per second", fontsize=8)
    axes.set_title("clients that wait", fontsize=9)


def _latency(axes: Axes, results: LoadResults) -> None:
    """A line from the median to the 99th percentile for each contender, with both numbers, rate after rate."""
    tint = colours(results)
    # One that answered too little has no percentiles.
    rows = [row for row in results.rows if row.load.rate and row.rounds and math.isfinite(row.middle("p99"))]
    rows.sort(key=lambda row: (row.load.rate, list(tint).index(row.contender)))
    for place, row in enumerate(rows):
        middle, slow = row.middle("p50"), row.middle("p99")
        axes.plot([middle, slow], [place, place], color=tint[row.contender], linewidth=2)
        axes.plot(middle, place, "o", color=tint[row.contender], markersize=7)
        axes.plot(slow, place, "|", color=tint[row.contender], markersize=14, markeredgewidth=2.5)
        for value, above in ((middle, "median"), (slow, "99 %")):
            words = f"{above} {value:.1f}" if place == 0 else f"{value:.1f}"
            axes.annotate(words, (value, place), (0, 9), textcoords="offset points", ha="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [f"{row.contender},\n{row.load.rate:g} requests/s" for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.7)
    axes.set_xlim(0, 1.15 * max([row.middle("p99") for row in rows], default=1.0))
    axes.set_xlabel("latency in ms, from the median (dot) to the 99th percentile (bar)", fontsize=8)
    axes.set_title("requests at fixed rates", fontsize=9)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read, draw, write; the exit status."""
    return plot("load", __doc__, lambda results, out: draw(read(results), out), arguments)


if __name__ == "__main__":
    sys.exit(main())
