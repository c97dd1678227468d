"""The plan of a run of `python -m benchmarks.load`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.load.job import Load
from benchmarks.load.payloads import Dialect, Pictures
from benchmarks.load.servers import ServerProcess

OURS = "renorm"


class LoadPlan(NamedTuple):
    """The loads to measure, and their durations."""

    closed: Sequence[Load]
    open: Sequence[Load]
    strategies: Sequence[str]  # of Renorm; peers are compared with the first
    seconds: float  # of a measurement, after warm_s that do not count
    warm_s: float
    rounds: int
    threads: int  # of all forwards of a server together
    compiled: bool
    arguments: Sequence[str]  # further ones of `renorm serve`
    peers: Path | None  # folder of their environments, None without peers
    tuned: bool  # whether several ways to run each peer are tried
    idle_s: float
    blocks: int  # of calls with and without a server
    calls: int  # in a block
    pictures: Pictures

    @property
    def heaviest(self) -> Load:
        """Single images of the most clients, each with a stream of its own."""
        return Load(max(load.clients for load in self.closed))


class Contender(NamedTuple):
    """A server as it is asked: with a strategy, in a form, under some loads."""

    title: str
    server: ServerProcess
    dialect: Dialect
    loads: Sequence[Load]


def renorm_contenders(plan: LoadPlan, server: ServerProcess) -> list[Contender]:
    """Renorm with each strategy. Where it is compared, single images go as a form too, as other servers need them."""
    first, *further = plan.strategies
    loads = [*plan.closed, *plan.open]
    return [
        Contender(name_of(first), server, Dialect(OURS, "raw", first), loads),
        Contender(f"{name_of(first)}, form", server, Dialect(OURS, "form", first), [plan.heaviest]),
        *(Contender(name_of(strategy), server, Dialect(OURS, "raw", strategy), plan.closed) for strategy in further),
    ]


def name_of(strategy: str) -> str:
    """Return the name of Renorm with a strategy in tables."""
    return f"{OURS} {strategy}"
