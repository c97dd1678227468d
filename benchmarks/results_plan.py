"""What `make results` measures: two evaluations, each a call of `renorm evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from app.evaluation.plan import StreamName, grid
from app.evaluation.specs import parse_specs
from app.evaluation.types import Cell


class Plan(NamedTuple):
    """One evaluation, kept in the folder ``name`` below that of all results."""

    name: str
    strategies: tuple[str, ...]
    protocols: tuple[str, ...]
    orders: tuple[str, ...]
    batches: tuple[int, ...]
    seeds: int
    limit: int
    domains: tuple[str, ...] = ()  # none named: all
    visits: int | None = None

    def command(self, data: str, out: Path, processes: int | None = None) -> list[str]:
        """What follows ``renorm`` on the command line. Figures do not depend on the number of processes."""
        domains = ["--domains", ",".join(self.domains)] if self.domains else []
        visits = [] if self.visits is None else ["--visits", str(self.visits)]
        return [
            *("evaluate", "--data", data, *domains),
            *("--strategies", ",".join(self.strategies)),
            *("--protocol", ",".join(self.protocols)),
            *("--order", ",".join(self.orders)),
            *("--batch-size", ",".join(map(str, self.batches))),
            *("--seeds", str(self.seeds), "--limit", str(self.limit), *visits),
            *([] if processes is None else ["--processes", str(processes)]),
            *("--output", (out / self.name).as_posix()),
        ]

    def cells(self) -> list[Cell]:
        """All cells that it has once it is finished, in the order in which reports show them."""
        streams = [StreamName(*name) for name in product(self.protocols, self.orders, range(self.seeds))]
        return grid(parse_specs(self.strategies), streams, self.batches)


SHIFTED: Sequence[str] = ("single", "continual", "mixed", "recurring")

GRID = Plan(
    name="grid",
    domains=("gaussian_noise", "glass_blur", "fog", "contrast"),
    strategies=(
        *("source", "bn", "alpha_bn", "adabn", "robust_bn", "unmix_tns", "iabn", "tema"),
        *("tent", "core", "rotta", "lame", "cofa", "lame:memory=0,when=always"),
        *("adabn+lame", "iabn+lame", "adabn+cofa", "unmix_tns+tent:lr=1e-5"),
    ),
    protocols=(*SHIFTED, "clean"),
    orders=("iid", "dirichlet:0.1"),
    batches=(1, 4, 16, 64),
    seeds=3,
    limit=250,
    visits=2,
)
"""Everything with everything, on few images of four corruptions of different kinds."""

LONG = Plan(
    name="long",
    strategies=(
        *("source", "bn", "adabn", "robust_bn", "unmix_tns", "iabn", "rotta"),
        *("adabn+lame", "iabn+lame", "adabn+cofa"),
    ),
    protocols=("continual",),
    orders=("dirichlet:0.1",),
    batches=(16,),
    seeds=1,
    limit=0,
)
"""All corruptions and all images in one correlated stream: whether what holds for a short one holds later."""
