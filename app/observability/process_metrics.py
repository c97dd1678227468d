"""Prometheus metrics of engine processes, which those of the front's own process do not cover."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from app.types import EngineProcess

PROC = Path("/proc")


def process_metrics(processes: Sequence[EngineProcess], proc: Path = PROC) -> Iterator[Metric]:
    """Yield the number of engine processes, their restarts, and what each uses, where the system tells it."""
    restarts = CounterMetricFamily("renorm_engine_restarts", "Engine processes that ended and were replaced")
    restarts.add_metric([], sum(process.restarts for process in processes))
    yield GaugeMetricFamily("renorm_engines", "Engine processes; 0 if forwards run in the server's own", len(processes))
    yield restarts
    cpu = CounterMetricFamily("renorm_engine_cpu_seconds", "CPU time of an engine process", labels=["engine"])
    memory = GaugeMetricFamily(
        "renorm_engine_memory_bytes",
        "Memory of an engine process; what processes share counts for each in part",
        labels=["engine"],
    )
    for process in processes:
        with suppress(OSError, ValueError, IndexError):  # it has just ended, or this is another system
            cpu.add_metric([str(process.number)], _cpu_s(proc / str(process.pid)))
            memory.add_metric([str(process.number)], _memory_bytes(proc / str(process.pid)))
    yield from (cpu, memory)


def _cpu_s(folder: Path) -> float:
    # The fields after the name, which may contain anything: state is the third, user and system time 14 and 15.
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_bytes(folder: Path) -> int:
    lines = (folder / "smaps_rollup").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
