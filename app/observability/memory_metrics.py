"""Prometheus metrics of the memory that requests hold."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from app.resources.memory import Ledger, MemoryUse


def memory_metrics(ledger: Ledger | None, parts: Sequence[MemoryUse] = ()) -> list[Metric]:
    """Return the bytes in use and available: of ``ledger``, by kind of message, and of the engine's ``parts``.

    Empty without a ledger.
    """
    if ledger is None:
        return []
    used_bytes = GaugeMetricFamily("renorm_memory_bytes", "Bytes that requests hold", labels=["kind"])
    capacity = GaugeMetricFamily("renorm_memory_capacity_bytes", "Bytes that requests may hold", labels=["kind"])
    refused = CounterMetricFamily("renorm_memory_refusals", "Requests for which no memory was left", labels=["reason"])
    for kind, amount in sorted(ledger.held.items()):
        used_bytes.add_metric([kind], amount)
    capacity.add_metric(["received"], ledger.capacity)
    capacity.add_metric(["connection"], ledger.share)
    for part in parts:
        used_bytes.add_metric([part.kind], part.held)
        capacity.add_metric([part.kind], part.capacity)
    for reason, count in sorted(ledger.refused.items()):
        refused.add_metric([reason], count)
    return [used_bytes, capacity, refused]
