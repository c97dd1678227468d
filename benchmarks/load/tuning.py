"""The best that a peer can do: every way to run it and to send images, under the heaviest load of single images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.load.hosting import hosting
from benchmarks.load.job import Load, LoadJob, Tally
from benchmarks.load.payloads import Dialect
from benchmarks.load.peers import Peer, PeerOptions
from benchmarks.load.plan import LoadPlan
from benchmarks.load.results import PeerTrial
from benchmarks.load.servers import HOST, LoadError, ServerProcess

Drive = Callable[[LoadJob], Tally]


class Best(NamedTuple):
    """A way to run a peer and to send it images."""

    peer: Peer
    python: Path
    options: PeerOptions
    dialect: Dialect


def likeliest(peer: Peer, python: Path) -> Best:
    """Return the way that was the best where all were tried: for a quick look."""
    return Best(peer, python, peer.options[0], peer.dialects()[0])


def steps(peer: Peer) -> int:
    """Return the number of measurements that finding the best takes."""
    return 2 * len(peer.options) * len(peer.bodies)


def best(plan: LoadPlan, peer: Peer, python: Path, drive: Drive) -> tuple[Best, list[PeerTrial], dict[str, str]]:
    """The way with the highest throughput, all that were tried, and why some could not be.

    Raises:
        LoadError: none works; the message says what was wrong with the last.
    """
    dialects = peer.dialects()
    tried: list[tuple[PeerTrial, Best]] = []
    failed: dict[str, str] = {}
    for options in peer.options:
        try:
            with hosting(peer, options, python, plan.threads) as server:
                trials = [_try(plan, peer, options, dialect, server, drive) for dialect in dialects]
        except LoadError as error:
            failed[f"{peer.title}, {options.label}"] = str(error)
            continue
        tried += [
            (trial, Best(peer, python, options, dialect)) for trial, dialect in zip(trials, dialects, strict=True)
        ]
    working = [pair for pair in tried if not pair[0].many.errors]
    if not working:
        reasons = [trial.many.fault for trial, _ in tried] + list(failed.values())
        raise LoadError(f"{peer.title} failed under every load: {reasons[-1]}")
    chosen = max(working, key=lambda pair: pair[0].many.images_per_s)[1]
    return chosen, [trial for trial, _ in tried], failed


def _try(
    plan: LoadPlan, peer: Peer, options: PeerOptions, dialect: Dialect, server: ServerProcess, drive: Drive
) -> PeerTrial:
    heavy, light = (
        drive(LoadJob(HOST, server.port, server.pid, dialect, load, plan.seconds, plan.warm_s, plan.pictures))
        for load in (plan.heaviest, Load())
    )
    return PeerTrial(peer.title, options.label, dialect.body, heavy, light)
