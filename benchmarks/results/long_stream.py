"""The long streams: how the error, and the ranking of strategies, changes as a stream goes on."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from app.evaluation.report.tables import MISSING, code, embolden, markdown, number
from app.evaluation.types import Result

PROTOCOL, BATCH = "continual", 64
"""Of the streams that are followed: all corruptions, one after another, without a reset."""

FIRST = (2_000, 10_000)
"""Images from the beginning of the stream whose error is told beside that of all."""

DRAWN = ("source", "auto", "adabn", "unmix_tns", "iabn", "rotta", "tent", "adabn+lame")
"""Strategies in the picture; with all of them no line could be followed."""

COLUMNS = ("strategy", "order", "first_images", "error")


class PrefixErrorRate(NamedTuple):
    """Error in percent over the first images of a stream."""

    strategy: str
    order: str
    images: int
    error: float


def followed(results: Iterable[Result]) -> list[Result]:
    """Those of the streams that are followed, of one seed."""
    return [
        result
        for result in results
        if (result.cell.protocol, result.cell.batch, result.cell.seed) == (PROTOCOL, BATCH, 0)
    ]


def prefix_error_rates(results: Iterable[Result]) -> list[PrefixErrorRate]:
    """Those of each run over the first `FIRST` images, where it has so many, and over all."""
    return [
        PrefixErrorRate(result.cell.strategy, result.cell.order, images, 100.0 * float(wrong[:images].mean()))
        for result in results
        for wrong in [result.predicted != result.label]
        for images in [*(first for first in FIRST if first < len(wrong)), len(wrong)]
    ]


def write(path: Path, rows: Iterable[PrefixErrorRate]) -> None:
    """One line each, errors with four decimals.

    Raises:
        OSError: the file cannot be written.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([*row[:3], f"{row.error:.4f}"] for row in rows)


def read(path: Path) -> list[PrefixErrorRate]:
    """Read the rows that `write` wrote.

    Raises:
        ValueError: it is another file.
        OSError: it cannot be read.
    """
    with path.open(newline="", encoding="utf-8") as file:
        head, *rows = list(csv.reader(file)) or [[]]
    if tuple(head) != COLUMNS:
        raise ValueError(f"{path} has the columns {', '.join(head)}: expected {', '.join(COLUMNS)}")
    return [PrefixErrorRate(strategy, order, int(images), float(error)) for strategy, order, images, error in rows]


def table(rows: Sequence[PrefixErrorRate], order: str) -> str:
    """Error and rank of each strategy over the first images of the stream of this order; the best bold."""
    errors = {(row.strategy, row.images): row.error for row in rows if row.order == order}
    strategies = list(dict.fromkeys(strategy for strategy, _ in errors))
    lengths = sorted({images for _, images in errors})
    columns = {images: [errors.get((strategy, images)) for strategy in strategies] for images in lengths}
    rows_of_strategies = [
        [code(strategy), *(_cell(columns[images][i], columns[images]) for images in lengths)]
        for i, strategy in enumerate(strategies)
    ]
    for column in range(1, len(lengths) + 1):
        embolden(rows_of_strategies, column)
    return markdown([f"error % (rank), {order}", *(f"first {images:,}" for images in lengths)], rows_of_strategies)


def _cell(error: float | None, errors: Iterable[float | None]) -> str:
    if error is None:
        return MISSING
    rank = 1 + sum(rival is not None and rival < error for rival in errors)
    return f"{number(error)} ({rank})"
