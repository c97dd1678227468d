"""Shared parts of all pictures: a canvas without a window, and colours that colour-blind readers can tell apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from app.errors import MissingPackageError
from app.evaluation.metrics import SOURCE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FRAME, FAINT, MISSING = "#202124", "#5f6368", "#dadce0", "#f1f3f4"

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#882255", "#e69f00", "#332288", "#999933")
"""Colours of the palettes of Okabe and Ito, and of Tol, that are visible on white."""

DASHES = ("solid", (0, (4, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (2, 2.5)), (0, (8, 1.5, 1, 1, 1, 1.5)))


class LineStyle(NamedTuple):
    """The line style of a strategy: keywords of matplotlib's ``plot``."""

    color: str
    linestyle: Any
    linewidth: float


WIDTH = 12.3
"""Inches that a picture is wide at most: 1,600 pixels."""


def require_matplotlib() -> None:
    """Check that matplotlib is installed.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401, PLC0415
    except ModuleNotFoundError as missing:
        raise MissingPackageError(
            f"plots need the package '{missing.name}', which is not installed", hint="pip install 'renorm[eval]'"
        ) from missing


def canvas(width: float, height: float) -> Figure:
    """Return an empty white picture, in inches."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    return Figure(figsize=(width, height), dpi=130, layout="constrained", facecolor="white")


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Write a PNG and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    _write(figure, path)
    return path


def _write(figure: Figure, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415

    drawn = FigureCanvasAgg(figure)
    drawn.draw()  # type: ignore[no-untyped-call]
    # 256 colours are enough, and a third of the bytes: reports are kept and mailed.
    pixels = np.asarray(drawn.buffer_rgba())  # type: ignore[no-untyped-call]
    picture = Image.fromarray(pixels).convert("RGB")
    picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path)


def line_styles(strategies: Iterable[str]) -> Mapping[str, LineStyle]:
    """Return the style of each strategy: a colour for its adapter, dashes where it repeats; ``source`` is black."""
    styles: dict[str, LineStyle] = {}
    colours: dict[str, int] = {}
    uses: dict[int, int] = {}
    for name in dict.fromkeys(strategies):
        if name == SOURCE:
            styles[name] = LineStyle(INK, "solid", 1.6)
            continue
        adapter = name.partition("+")[0].partition(":")[0]
        colour = colours.setdefault(adapter, len(colours) % len(COLOURS))
        dash = uses.get(colour, 0)
        uses[colour] = dash + 1
        styles[name] = LineStyle(COLOURS[colour], DASHES[dash % len(DASHES)], 1.1)
    return styles


def escape(value: str, limit: int = 48) -> str:
    """Escape a name for matplotlib: no formula between dollars, and at most ``limit`` letters."""
    short = value if len(value) <= limit else f"{value[: limit - 1]}…"
    return short.replace("$", r"\$")


def style_axes(axes: Axes) -> None:
    """Style axes: two spines, a faint grid, small grey numbers."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FRAME)
    axes.tick_params(labelsize=7, colors=FRAME)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)


def legend_columns(names: Iterable[str], width: float) -> int:
    """Return the number of legend columns that fit into ``width`` inches."""
    lengths = [len(escape(name)) for name in names]
    return max(1, min(len(lengths), int(width / (0.55 + 0.075 * max(lengths)))))


def legend(figure: Figure, styles: Mapping[str, LineStyle], width: float) -> None:
    """Draw a legend below all panels."""
    from matplotlib.lines import Line2D  # noqa: PLC0415

    names = [escape(name) for name in styles]
    handles = [Line2D([], [], **style._asdict()) for style in styles.values()]
    figure.legend(
        handles,
        names,
        ncols=legend_columns(styles, width),
        loc="outside lower center",
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        handlelength=3.2,
    )


def panels(figure: Figure, count: int, columns: int) -> list[Axes]:
    """Add ``count`` panels in rows of ``columns`` with a shared vertical axis; the last one fills its row."""
    rows = -(-count // columns)
    grid = figure.add_gridspec(rows, columns)
    axes: list[Axes] = []
    for i in range(count):
        row, column = divmod(i, columns)
        place = grid[row, column:] if i == count - 1 else grid[row, column]
        axes.append(figure.add_subplot(place, sharey=axes[0] if axes else None))
    return axes


def even_columns(count: int, limit: int) -> int:
    """Return the number of columns, at most ``limit``, that leaves the last row as full as possible."""
    if count <= limit:
        return count
    return min(range(limit, limit // 2, -1), key=lambda columns: -count % columns)


def tiles(figure: Figure, count: int, columns: int) -> list[Axes]:
    """Add ``count`` small panels of one size in rows of ``columns``, with shared axes."""
    rows = -(-count // columns)
    grid: list[Axes] = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    for axes in grid[count:]:
        axes.remove()
    return grid[:count]
