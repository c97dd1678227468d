"""The results of a run of `python -m benchmarks.load`, as ``load.json`` holds them."""

from __future__ import annotations

import json
import math
import os
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.common import processor
from benchmarks.load.job import Load, Tally


@dataclass(frozen=True)
class LoadRow:
    """One contender under one load, round by round."""

    contender: str
    load: Load
    rounds: list[Tally]

    def middle(self, name: str) -> float:
        """The median over the rounds of one of a tally's numbers, NaN where a round has none."""
        values: list[float] = [getattr(tally, name) for tally in self.rounds]
        return math.nan if any(map(math.isnan, values)) else median(values)

    @property
    def errors(self) -> int:
        """Of all rounds."""
        return sum(tally.errors for tally in self.rounds)


class PeerTrial(NamedTuple):
    """One way to run a peer, under the heaviest load of single images and under the lightest."""

    peer: str
    options: str
    body: str
    many: Tally
    one: Tally


class IdleUsage(NamedTuple):
    """A server that nobody asks anything: percent of one core that it uses, and its memory in bytes."""

    cpu: float
    memory: int


class Addition(NamedTuple):
    """The time that a server adds: median milliseconds of each block over HTTP, and of the same work without it."""

    http: list[float]
    call: list[float]

    @property
    def added(self) -> float:
        """The median of the differences between neighbouring blocks."""
        return median(over - without for over, without in zip(self.http, self.call, strict=True))


@dataclass
class LoadResults:
    """A whole run. ``strategy`` is the one that peers are compared with; keys of ``idle`` are titles of servers."""

    machine: dict[str, str]
    strategy: str
    rows: list[LoadRow] = field(default_factory=list)
    tried: list[PeerTrial] = field(default_factory=list)
    idle: dict[str, IdleUsage] = field(default_factory=dict)
    addition: Addition | None = None
    agreement: dict[str, float] = field(default_factory=dict)  # share of images answered as `source` answers them
    notes: dict[str, str] = field(default_factory=dict)

    def row(self, contender: str, load: Load) -> LoadRow | None:
        """One contender under one load, where that was measured."""
        return next((row for row in self.rows if (row.contender, row.load) == (contender, load)), None)

    def loads(self, *, closed: bool) -> list[Load]:
        """The loads that were measured, of one kind of loop."""
        return list(dict.fromkeys(row.load for row in self.rows if (row.load.rate == 0) == closed))

    @property
    def heaviest(self) -> Load | None:
        """Single images of the most clients, each with a stream of its own."""
        single = [load for load in self.loads(closed=True) if load.images == 1 and not load.shared]
        return max(single, key=lambda load: load.clients, default=None)

    def ratio(self, contender: str, reference: str, load: Load) -> float | None:
        """Return the ratio of two throughputs: the median over rounds, where both ran under like conditions."""
        row, reference_row = self.row(contender, load), self.row(reference, load)
        if row is None or reference_row is None:
            return None
        # A run that was interrupted may have a round of one and not of the other.
        pairs = list(zip(row.rounds, reference_row.rounds, strict=False))
        if not pairs or any(peer.images_per_s == 0 for _, peer in pairs):
            return None
        return median(tally.images_per_s / peer.images_per_s for tally, peer in pairs)


def machine(threads: int) -> dict[str, str]:
    """Return the conditions that figures depend on, for people."""
    cores = os.cpu_count()
    return {
        "machine": f"{processor()}, {cores} cores, {platform.system()}",
        "versions": f"torch {version('torch')}, Python {platform.python_version()}",
        "threads of a forward": f"{threads} in every server, shared out among its workers, and in the call without one",
        "shared": f"server and clients share the {cores} cores",
        "load of the machine before": f"{os.getloadavg()[0]:.1f}",
    }


def write(results: LoadResults, path: Path) -> None:
    """Everything as JSON, each round included."""
    path.write_text(json.dumps(asdict(results), indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> LoadResults:
    """Read the results that `write` wrote.

    Raises:
        ValueError: the file is something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["rows"] = [
            LoadRow(r["contender"], Load(*r["load"]), [Tally(**t) for t in r["rounds"]]) for r in content["rows"]
        ]
        content["tried"] = [PeerTrial(t[0], t[1], t[2], Tally(**t[3]), Tally(**t[4])) for t in content["tried"]]
        content["idle"] = {name: IdleUsage(*idle) for name, idle in content["idle"].items()}
        content["addition"] = content["addition"] and Addition(*content["addition"])
        return LoadResults(**content)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a result of benchmarks.load: write one with python -m benchmarks.load --out FOLDER"
        ) from error
