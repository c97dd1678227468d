"""The images of a folder, in the order a person expects, a few at a time, with a bar that shows how far it got."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from app.client.errors import InvalidInput

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
"""Suffixes of the image files that the server reads."""


def image_files(folder: str | Path, pattern: str | None = None) -> list[Path]:
    """Return the image files of a folder, so that ``frame-2`` comes before ``frame-10``; hidden ones are left out.

    ``pattern`` is a glob such as ``**/*.png``; without it, all files directly in the folder whose suffix is that of an
    image.

    Raises:
        InvalidInput: it is not a folder, or no file in it matches.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder")
    paths = [path for path in folder.glob(pattern or "*") if path.is_file() and not path.name.startswith(".")]
    files = [path for path in paths if pattern is not None or path.suffix.lower() in SUFFIXES]
    if not files:
        missing = f"matches {pattern}" if pattern else f"ends in {', '.join(sorted(SUFFIXES))}"
        raise InvalidInput(f"no file in {folder} {missing}")
    return sorted(files, key=_natural)


def batches(paths: Sequence[Path], size: int) -> list[Sequence[Path]]:
    """Split the paths in order, ``size`` at a time.

    Raises:
        InvalidInput: ``size`` is less than 1.
    """
    if size < 1:
        raise InvalidInput(f"the batch size must be at least 1, not {size}")
    return [paths[i : i + size] for i in range(0, len(paths), size)]


@contextmanager
def bar(total: int, *, visible: bool) -> Iterator[Callable[[int], None]]:
    """Yield a function that counts images; ``visible`` draws a bar on standard error, where that is a terminal."""
    if not visible:
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415  # loaded only for a bar
    from rich.progress import MofNCompleteColumn, Progress  # noqa: PLC0415

    console = Console(stderr=True)
    with Progress(
        *Progress.get_default_columns(),
        MofNCompleteColumn(),
        console=console,
        disable=not console.is_terminal,
        # In a terminal, output during the run goes above the bar; in a pipe the output stays in place.
        redirect_stdout=sys.stdout.isatty(),
    ) as progress:
        task = progress.add_task("predicting", total=total)
        yield lambda images: progress.advance(task, images)


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    """Digits compare as numbers, the rest as text in small letters, folder by folder."""
    pieces = [piece for part in path.parts for piece in (*re.split(r"(\d+)", part.lower()), "")]
    return [(piece.isdecimal(), int(piece) if piece.isdecimal() else 0, piece) for piece in pieces]
