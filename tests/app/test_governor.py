"""How many threads a forward takes, on a machine that is told what it does."""

from __future__ import annotations

import pytest

from app.governor import CpuTimes, Governor, read_times


class Machine:
    """Two cores; time passes as a test says."""

    def __init__(self, most: int = 2) -> None:
        self.now, self.everyone, self.own = 0.0, 0.0, 0.0
        self.applied: list[int] = []
        self.governor = Governor(most, self.applied.append, self.read, lambda: self.now, cores=2)

    def read(self) -> CpuTimes | None:
        return CpuTimes(self.everyone, self.own)

    def second(self, own: float, others: float) -> int:
        """A second in which this program and others take so much CPU; the threads of the next forward."""
        self.now, self.own, self.everyone = self.now + 1, self.own + own, self.everyone + own + others
        self.governor.adjust()
        return self.governor.threads


def test_all_threads_while_the_machine_is_its_own() -> None:
    machine = Machine()
    assert [machine.second(1.2, 0.7) for _ in range(3)] == [2, 2, 2]
    assert machine.applied == [2]


def test_one_thread_beside_busy_programs_and_all_again_afterwards() -> None:
    machine = Machine()
    seen = [machine.second(own, others) for own, others in ((1.2, 0.7), (0.7, 1.3), (0.9, 1.1), (1.2, 0.8))]
    assert seen == [2, 1, 1, 2]
    assert machine.applied == [2, 1, 2]


def test_it_does_not_look_at_every_forward() -> None:
    machine = Machine()
    machine.everyone = 100.0
    machine.now = 0.1
    machine.governor.adjust()
    assert machine.governor.threads == 2


def test_a_single_thread_stays_one() -> None:
    machine = Machine(most=1)
    assert machine.second(0.1, 1.9) == 1
    assert machine.applied == [1]


def test_a_system_that_tells_nothing_changes_nothing() -> None:
    machine = Machine()
    machine.read = lambda: None  # type: ignore[method-assign]
    machine.governor = Governor(2, machine.applied.append, machine.read, lambda: machine.now, cores=2)
    assert machine.second(0.1, 1.9) == 2


def test_the_kernel_counts_forward() -> None:
    before, after = read_times(), read_times()
    if before is None or after is None:
        pytest.fail("this system has no /proc/stat")
    assert after.everyone >= before.everyone > 0
    assert after.this_process >= before.this_process > 0
