"""The pictures of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from app.evaluation.metrics import measure_all, summarize
from app.evaluation.plots.canvas import require_matplotlib
from app.evaluation.plots.curves import draw_drift, draw_errors
from app.evaluation.plots.heatmap import draw_differences
from app.evaluation.plots.reliability import draw_reliability
from app.evaluation.types import Result


def write_plots(folder: Path, results: Sequence[Result], *, domains: Sequence[str] = ()) -> list[Path]:
    """Write the pictures as PNG files into ``folder`` and return their paths.

    Differences to the frozen model, errors over the stream for each request size, drift, and reliability. ``domains``
    are names by index.

    Raises:
        MissingPackageError: matplotlib is not installed.
        ValueError: there are no results, or a cell appears twice.
        OSError: a file cannot be written.
    """
    require_matplotlib()
    figures = measure_all(results)
    rank = {run.cell: place for place, run in enumerate(figures)}
    ordered = sorted(results, key=lambda result: rank[result.cell])
    return [
        draw_differences(folder, summarize(figures)),
        *draw_errors(folder, ordered, domains),
        draw_drift(folder, ordered, domains),
        draw_reliability(folder, figures),
    ]
