"""The servers of the comparison, started alike: the same threads, and asleep until they are measured."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from benchmarks.load.peers import Peer, PeerOptions
from benchmarks.load.plan import OURS, LoadPlan
from benchmarks.load.servers import ROOT, ServerProcess, started

START_S = 60.0
COMPILE_S = 900.0  # a server that compiles does so before it is ready


def renorm(plan: LoadPlan) -> AbstractContextManager[ServerProcess]:
    """``renorm serve`` with the bundled network, and an engine of one thread for each of the plan's threads.

    Raises:
        LoadError: it does not start.
    """
    engines = ["--workers", str(plan.threads), "--threads", "1"]
    options = ["--host", "127.0.0.1", *engines, *["--compile"] * plan.compiled, *plan.arguments]
    return started(
        OURS,
        lambda port: [sys.executable, "-m", "app", "serve", "--port", str(port), *options],
        "/readyz",
        COMPILE_S if plan.compiled else START_S,
        {"OMP_NUM_THREADS": "1"},
    )


def hosting(peer: Peer, options: PeerOptions, python: Path, threads: int) -> AbstractContextManager[ServerProcess]:
    """A peer with the same network, not adapted; its workers share ``threads`` out among themselves.

    Raises:
        LoadError: it does not start.
    """
    threads = max(1, threads // max(1, options.workers))
    variables = {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    return started(peer.title, peer.command(python, options, threads), peer.ready, START_S, variables)


@contextmanager
def awake(server: ServerProcess) -> Iterator[None]:
    """Let a sleeping server run while the block lasts."""
    server.wake()
    try:
        yield
    finally:
        server.sleep()
