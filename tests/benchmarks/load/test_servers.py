"""Servers as processes: ready, asleep, measured, and gone with their children."""

from __future__ import annotations

import os
import sys
import time

import psutil
import pytest

from benchmarks.load.servers import LoadError, others_cpu_s, started, tree_cpu_s

# Its child spins: a server that polls while idle, as some do.
BUSY = """
import http.server, subprocess, sys
subprocess.Popen([sys.executable, "-c", "while True: pass"])
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def running(port: int) -> list[str]:
    return [sys.executable, "-c", BUSY, str(port)]


def used(pid: int, seconds: float = 0.3) -> float:
    before = tree_cpu_s(pid)
    time.sleep(seconds)
    return tree_cpu_s(pid) - before


def test_a_server_sleeps_wakes_and_ends_with_its_children() -> None:
    with started("busy", running, "/", 30, {}) as server:
        family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        assert len(family) == 2
        assert server.memory > 1_000_000
        assert used(server.pid) > 0
        server.sleep()
        time.sleep(0.05)
        assert used(server.pid) == 0
        server.wake()
        assert used(server.pid) > 0
        # Stopping works on one that sleeps, too.
        server.sleep()
    assert not any(process.is_running() for process in family)
    assert tree_cpu_s(server.pid) == 0


def test_cpu_time_of_this_program_is_not_that_of_others() -> None:
    before, own = others_cpu_s(), tree_cpu_s(os.getpid())
    while tree_cpu_s(os.getpid()) - own < 0.3:
        sum(range(10_000))
    # Nothing is known of the others, but that time of theirs never runs backwards by ours.
    assert others_cpu_s() - before > -0.2


def test_a_server_that_cannot_start_tells_why() -> None:
    said = "broken did not start: no room left"
    command = [sys.executable, "-c", "raise SystemExit('no room left')"]
    with pytest.raises(LoadError, match=said), started("broken", lambda _: command, "/", 30, {}):
        pytest.fail("it never runs")


def test_a_server_that_is_never_ready_is_given_up() -> None:
    with pytest.raises(LoadError, match="did not start"), started("slow", running, "/nothing", 0.5, {}):
        pytest.fail("it answers 404 only")
