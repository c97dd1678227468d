"""Draw `speed.json`: for each model and batch the time of a forward relative to plain eval.

python -m benchmarks.speed.plot docs/speed.json docs/images/speed.png
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adapters import COMBINATIONS, names
from benchmarks.common import plot
from benchmarks.speed.cases import FROZEN, PLAIN
from benchmarks.speed.report import title_of
from benchmarks.speed.results import CaseGroup, SpeedResults, of_kind, read

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REFERENCE, TEXTBOOK, EAGER, COMPILED = "#9aa0a6", "#e37400", "#1a73e8", "#188038"
LEGEND = {
    REFERENCE: "not adapting",
    TEXTBOOK: "as research code writes it",
    EAGER: "Renorm",
    COMPILED: "Renorm, compiled",
}


def bars(results: SpeedResults, group: CaseGroup) -> list[tuple[str, float, str]]:
    """Names, ratios to plain eval and colours of one model and batch, eager and compiled, from top to bottom."""
    heights = [(case, group.ratio(case, PLAIN), _colour(case)) for case in group.seconds]
    for compiled_group in of_kind(results.groups, "compiled"):
        if (compiled_group.model, compiled_group.batch) == (group.model, group.batch):
            cases = [case for case in compiled_group.seconds if case != PLAIN]
            heights += [
                (_compiled(case), compiled_group.ratio(case, PLAIN), _colour(_compiled(case))) for case in cases
            ]
    return heights


def draw(results: SpeedResults, out: Path) -> None:
    """Write the picture; its format follows from the name of ``out``.

    Raises:
        ValueError: the run timed no model by itself.
    """
    # Without a window: this may run where there is no screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.patches import Patch  # noqa: PLC0415

    groups = of_kind(results.groups, "eager")
    if not groups:
        raise ValueError("the run holds no time of a model: run it with at least one of --models")
    models = list(dict.fromkeys(group.model for group in groups))
    columns = max(sum(group.model == model for group in groups) for model in models)
    tallest = max(len(bars(results, group)) for group in groups)
    size = (min(13.3, 1.5 + 4.2 * columns), 0.8 + (0.9 + 0.2 * tallest) * len(models))
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(models), columns, squeeze=False)
    for row, model in zip(grid, models, strict=True):
        shown_groups = [group for group in groups if group.model == model]
        for axes, group in zip(row, shown_groups, strict=False):
            _panel(axes, bars(results, group), f"{title_of(group)}, batch {group.batch}")
        for axes in row[len(shown_groups) :]:
            axes.set_visible(False)
    drawn = {colour for group in groups for _, _, colour in bars(results, group)}
    handles = [Patch(color=colour, label=label) for colour, label in LEGEND.items() if colour in drawn]
    figure.legend(handles=handles, frameon=False, ncols=2 * columns, loc="outside lower center", fontsize=8)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


def _panel(axes: Axes, heights: list[tuple[str, float, str]], title: str) -> None:
    names, ratios, colours = zip(*heights, strict=True)
    drawn = axes.barh(range(len(names)), ratios, 0.78, color=colours)
    labels = axes.bar_label(drawn, fmt="%.2f", padding=3, fontsize=7)
    for label in labels:
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.invert_yaxis()
    axes.axvline(1, color="#202124", linewidth=0.8, linestyle=":")
    axes.set_xlim(0, 1.15 * max(ratios))
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("time, plain eval = 1", fontsize=7)
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _compiled(case: str) -> str:
    return case if case == FROZEN else f"{case}, compiled"


def _colour(case: str) -> str:
    if case.startswith("textbook"):
        return TEXTBOOK
    if case.endswith(", compiled"):
        return COMPILED
    return EAGER if case in (*names("adapter"), *COMBINATIONS) else REFERENCE


def main(arguments: Sequence[str] | None = None) -> int:
    """Read, draw, write; the exit status."""
    return plot("speed", __doc__, lambda results, out: draw(read(results), out), arguments)


if __name__ == "__main__":
    sys.exit(main())
