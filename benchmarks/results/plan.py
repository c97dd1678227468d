"""The evaluations of `make results`: calls of `renorm evaluate` into one folder, the most wanted first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from app.evaluation.running.grid import StreamName, grid
from app.evaluation.specs import parse_specs
from app.evaluation.types import Cell


class PublishedEvaluation(NamedTuple):
    """One call, kept in the folder ``name`` below that of all results; ``limit`` 0 shows all images of a domain."""

    name: str
    strategies: tuple[str, ...]
    protocols: tuple[str, ...]
    orders: tuple[str, ...]
    batches: tuple[int, ...]
    seeds: int = 1
    limit: int = 0
    options: tuple[str, ...] = ()  # further words: the model and its weights

    def command(self, data: str, out: Path, processes: int | None = None) -> list[str]:
        """Return the words after ``renorm`` on the command line. Figures do not depend on the number of processes."""
        return [
            *("evaluate", "--data", data),
            *("--strategies", ",".join(self.strategies)),
            *("--protocol", ",".join(self.protocols)),
            *("--order", ",".join(self.orders)),
            *("--batch-size", ",".join(map(str, self.batches))),
            *("--seeds", str(self.seeds), "--limit", str(self.limit)),
            *self.options,
            # Speed is measured by `make bench`, where nothing runs beside it.
            "--no-speed",
            *([] if processes is None else ["--processes", str(processes)]),
            *("--output", (out / self.name).as_posix()),
        ]

    def cells(self) -> list[Cell]:
        """All cells that it has once it is finished, in the order in which reports show them."""
        streams = [StreamName(*name) for name in product(self.protocols, self.orders, range(self.seeds))]
        return grid(parse_specs(self.strategies), streams, self.batches)


PUBLISHED_LAME = "lame:memory=0,when=always"
"""LAME as its paper has it."""

FREE = (
    *("source", "bn", "alpha_bn", "adabn", "robust_bn", "unmix_tns", "iabn", "tema", "james_stein", "shrinkage"),
    *("lame", "cofa", "adabn+lame", "iabn+lame", "james_stein+lame", "auto", "adabn+cofa"),
)
"""Without gradients: they run everywhere."""

SLOW = ("tent", "core", "core:least_images=2", "rotta", "unmix_tns+tent:lr=1e-5")
"""With gradients: five to twenty times as slow, so they run in requests of 64 and in few other places."""

ORDERS = ("iid", "dirichlet:0.1")


def _grid(
    strategies: Sequence[str], protocols: Sequence[str], orders: Sequence[str], batch: int
) -> PublishedEvaluation:
    return PublishedEvaluation("grid", tuple(strategies), tuple(protocols), tuple(orders), (batch,))


STUDY: tuple[PublishedEvaluation, ...] = (
    _grid((*FREE, PUBLISHED_LAME), ("continual", "clean"), ORDERS, 64),
    _grid(SLOW, ("continual", "clean"), ORDERS, 64),
    _grid(FREE, ("continual", "clean"), ORDERS, 1),
    _grid((*FREE, PUBLISHED_LAME), ("mixed", "single"), ORDERS, 64),
    _grid(("tent", "rotta"), ("mixed",), ("iid",), 64),
    _grid(("tent",), ("single",), ORDERS, 64),
    _grid(
        ("source", "bn", "adabn", "unmix_tns", "tent", "rotta", PUBLISHED_LAME, "adabn+lame"),
        ("continual",),
        ("ptta",),
        64,
    ),
    _grid(("tent", "core"), ("continual",), ("iid",), 1),
)
"""1,000 images of each of 15 corruptions: about an hour on one core. Where it is stopped, what is there already answers
the most asked questions. Everything with everything would take a day."""


def cells(study: Sequence[PublishedEvaluation] = STUDY) -> list[Cell]:
    """The cells of all plans, each once: by strategy as they come first, so that tables have them in one order."""
    all_cells = list(dict.fromkeys(cell for plan in study for cell in plan.cells()))
    strategies = list(dict.fromkeys(cell.strategy for cell in all_cells))
    return sorted(all_cells, key=lambda cell: strategies.index(cell.strategy))
