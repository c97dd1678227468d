"""How many threads a forward takes, on a machine whose forwards take as long as a test says."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress

import pytest

from app.resources.governor import Governor, limit_spinning


class Machine:
    """Seconds that an image takes with one thread and with all; the choice of each forward is recorded."""

    def __init__(self, single: float, together: float, most: int = 2) -> None:
        self.now, self.single, self.together = 0.0, single, together
        self.seen: list[int] = []
        self._threads = 0
        self.governor = Governor(most, self._apply, lambda: self.now)

    def _apply(self, threads: int) -> None:
        self._threads = threads

    def run(self, forwards: int, images: int = 8, pause: float = 0.0) -> list[int]:
        """The threads of so many forwards."""
        self.seen = []
        for _ in range(forwards):
            with self.governor.forward(images):
                self.seen.append(self._threads)
                self.now += images * (self.single if self._threads == 1 else self.together)
            self.now += pause
        return self.seen

    def share(self, threads: int) -> float:
        return self.seen.count(threads) / len(self.seen)


def test_all_threads_where_they_are_faster() -> None:
    machine = Machine(single=0.002, together=0.0012)
    machine.run(2000)
    assert machine.share(2) > 0.97


def test_one_thread_beside_a_busy_program_and_all_again_soon_after_it() -> None:
    machine = Machine(single=0.002, together=0.0012)
    machine.run(200)
    machine.together = 0.02
    # One forward or two are slow before it is noticed.
    assert machine.run(500)[3:].count(2) <= 2
    machine.together = 0.0012
    began = machine.now
    while machine.run(1) != [2] or machine.run(1) != [2]:
        assert machine.now - began < 40
    machine.run(500)
    assert machine.share(2) > 0.97


@pytest.mark.parametrize("together", [0.01, 0.1, 1.0], ids=["five", "fifty", "five-hundred"])
def test_trying_all_threads_beside_a_busy_program_costs_little_time(together: float) -> None:
    machine = Machine(single=0.002, together=together)
    machine.run(10)
    before = machine.now
    machine.run(20_000)
    alone = 20_000 * 8 * machine.single
    assert (machine.now - before) / alone < 1.05


def test_choices_that_hardly_differ_do_not_alternate() -> None:
    machine = Machine(single=0.00195, together=0.002)
    machine.run(1000)
    assert machine.share(2) > 0.98


def test_sizes_are_chosen_for_each_alone() -> None:
    machine = Machine(single=0.002, together=0.001)
    machine.run(100, images=32)
    machine.together = 0.004
    machine.run(100, images=1)
    assert machine.share(1) > 0.97
    machine.together = 0.001
    machine.run(100, images=32)
    assert machine.share(2) > 0.97


def test_a_single_core_is_left_alone() -> None:
    machine = Machine(single=0.001, together=0.1, most=1)
    assert set(machine.run(50)) == {1}


def test_a_forward_that_fails_says_nothing_of_the_pace() -> None:
    machine = Machine(single=0.002, together=0.001)
    machine.run(100)
    with suppress(RuntimeError), machine.governor.forward(8):
        machine.now += 100
        raise RuntimeError
    assert machine.run(100).count(2) >= 98


@pytest.mark.parametrize(
    ("variables", "spins"),
    [({}, "20000"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None), ({"GOMP_SPINCOUNT": "7"}, "7")],
    ids=["none", "policy", "count"],
)
def test_threads_spin_briefly_unless_somebody_chose_otherwise(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], spins: str | None
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    limit_spinning()
    assert os.environ.get("GOMP_SPINCOUNT") == spins


def test_the_command_limits_spinning_before_torch_is_there() -> None:
    code = """
import importlib, os, sys
serve = importlib.import_module("app.cli.serve")
assert "torch" not in sys.modules
serve.settings_from = lambda *_, **__: sys.exit(int(os.environ["GOMP_SPINCOUNT"]) // 100)
serve.serve()
"""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    assert subprocess.run([sys.executable, "-c", code], env=variables, check=False).returncode == 200
