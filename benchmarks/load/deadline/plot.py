"""Draw `deadline.json`: utility, and utility over offline accuracy, at each utilisation.

python -m benchmarks.load.deadline.plot docs/deadline.json docs/images/deadline.png
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import plot
from benchmarks.load.deadline.report import TARGET
from benchmarks.load.deadline.results import DeadlineResults, read


def draw(results: DeadlineResults, out: Path) -> None:
    """Write the picture; its format follows from the name of ``out``.

    Raises:
        ValueError: the run holds no measurement.
    """
    # Without a window: this may run where there is no screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    if not results.rows:
        raise ValueError("the run holds no measurement: run python -m benchmarks.load.deadline to its end")
    figure = Figure(figsize=(9.5, 4.0), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    utility, ratio = figure.subplots(1, 2)
    for number, row in enumerate(results.offline):
        points = [point for point in results.rows if point.strategy == row.strategy]
        places = [point.utilisation for point in points]
        utility.plot(places, [100 * point.middle("utility") for point in points], "o-", color=f"C{number}")
        ratio.plot(places, [point.ratio for point in points], "o-", color=f"C{number}", label=row.strategy)
    ratio.axhline(TARGET, linestyle="--", color="#5f6368", linewidth=1, label=f"target at 100 %: {TARGET}")
    utility.set_ylabel("utility: correct answers among all frames, %", fontsize=8)
    ratio.set_ylabel("utility / offline accuracy", fontsize=8)
    for axes in (utility, ratio):
        axes.set_xlabel("utilisation: time of a source frame over the interval of frames, %", fontsize=8)
        axes.set_xticks(results.utilisations)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    ratio.legend(frameon=False, fontsize=8, loc="lower left")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read, draw, write; the exit status."""
    return plot("load.deadline", __doc__, lambda results, out: draw(read(results), out), arguments)


if __name__ == "__main__":
    sys.exit(main())
