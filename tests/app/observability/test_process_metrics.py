"""Metrics of engine processes, of this process and of made-up ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from prometheus_client.core import Metric

from app.observability.process_metrics import process_metrics
from app.types import EngineProcess


def values(metrics: list[Metric]) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("engine", "")): sample.value for family in metrics for sample in family.samples
    }


def test_a_process_is_described_as_the_system_does() -> None:
    series = values(list(process_metrics([EngineProcess(3, os.getpid(), 2)])))
    assert series["renorm_engines", ""] == 1
    assert series["renorm_engine_restarts_total", ""] == 2
    times = os.times()
    assert series["renorm_engine_cpu_seconds_total", "3"] == pytest.approx(times.user + times.system, abs=1)
    assert 1e7 < series["renorm_engine_memory_bytes", "3"] < 1e11


def test_names_of_processes_may_contain_anything(tmp_path: Path) -> None:
    folder = tmp_path / "7"
    folder.mkdir()
    fields = ["S", *"0" * 10, "150", "50", *"0" * 5]
    (folder / "stat").write_text(f"7 (a) b (c) {' '.join(fields)}\n")
    (folder / "smaps_rollup").write_text("00-11 ---p\nRss:    40 kB\nPss:    10 kB\nPss_Anon:  5 kB\n")
    series = values(list(process_metrics([EngineProcess(0, 7, 0)], tmp_path)))
    assert series["renorm_engine_memory_bytes", "0"] == 10240
    assert series["renorm_engine_cpu_seconds_total", "0"] == 200 / os.sysconf("SC_CLK_TCK")


def test_a_process_that_has_ended_has_no_figures_of_its_own(tmp_path: Path) -> None:
    series = values(list(process_metrics([EngineProcess(0, 7, 4), EngineProcess(1, 8, 1)], tmp_path)))
    assert series == {("renorm_engines", ""): 2, ("renorm_engine_restarts_total", ""): 5}
