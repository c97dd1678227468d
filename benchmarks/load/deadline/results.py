"""The results of a run of `python -m benchmarks.load.deadline`, as ``deadline.json`` holds them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.load.deadline.queueing import FrameCounts


class OfflineRound(NamedTuple):
    """One round of a strategy that answered every frame: its accuracy, and the milliseconds a frame took."""

    accuracy: float
    frame_ms: float


class DeadlineRound(NamedTuple):
    """One round of a strategy at one utilisation: frames every ``interval_ms``, as it went and as simulated.

    ``real`` is None where the run only simulates; then there are no times either.
    """

    interval_ms: float
    offline: float  # accuracy of the same round, where every frame was answered
    simulated: FrameCounts
    real: FrameCounts | None = None
    latency_ms: float | None = None  # median, from when a frame was due
    late_ms: float | None = None  # 95th percentile of the camera's own lateness


@dataclass
class OfflineRow:
    """One strategy that answered every frame, round by round."""

    strategy: str
    has_learner: bool
    rounds: list[OfflineRound] = field(default_factory=list)

    @property
    def accuracy(self) -> float:
        """The median over rounds."""
        return median(entry.accuracy for entry in self.rounds)

    @property
    def frame_ms(self) -> float:
        """The median over rounds."""
        return median(entry.frame_ms for entry in self.rounds)

    def ratio(self, reference: OfflineRow) -> float:
        """Return the time of a frame over that of another strategy: the median of the ratios of rounds."""
        pairs = zip(self.rounds, reference.rounds, strict=False)
        return median(entry.frame_ms / base.frame_ms for entry, base in pairs)


@dataclass
class DeadlineRow:
    """One strategy at one utilisation in percent, round by round."""

    strategy: str
    utilisation: int
    rounds: list[DeadlineRound] = field(default_factory=list)

    def outcomes(self) -> list[FrameCounts]:
        """The rounds' counts: real, or simulated where the run only simulates."""
        return [entry.real or entry.simulated for entry in self.rounds]

    def middle(self, name: str) -> float:
        """The median over rounds of one property of `FrameCounts`."""
        return median(float(getattr(outcome, name)) for outcome in self.outcomes())

    @property
    def ratio(self) -> float:
        """Utility over offline accuracy: the median of the ratios of rounds."""
        return median(self._ratios())

    @property
    def simulated_ratio(self) -> float:
        """The same of the simulation."""
        return median(_divide(entry.simulated.utility, entry.offline) for entry in self.rounds)

    def ratio_over(self, reference: DeadlineRow) -> float:
        """Return `ratio` over that of another strategy: the median of the quotients of rounds."""
        pairs = zip(self._ratios(), reference._ratios(), strict=False)
        return median(_divide(ratio, base) for ratio, base in pairs)

    def middle_ms(self, name: str) -> float | None:
        """The median over rounds of one of their times, None where there are none."""
        times = [getattr(entry, name) for entry in self.rounds if getattr(entry, name) is not None]
        return median(times) if times else None

    def _ratios(self) -> list[float]:
        pairs = zip(self.outcomes(), self.rounds, strict=True)
        return [_divide(outcome.utility, entry.offline) for outcome, entry in pairs]


@dataclass
class DeadlineResults:
    """A whole run: the conditions, every strategy without a deadline, and at each utilisation."""

    machine: dict[str, str]
    offline: list[OfflineRow]
    rows: list[DeadlineRow]

    def offline_row(self, strategy: str) -> OfflineRow:
        """The row of a strategy without a deadline."""
        return next(row for row in self.offline if row.strategy == strategy)

    @property
    def utilisations(self) -> list[int]:
        """All utilisations, in order."""
        return sorted({row.utilisation for row in self.rows})

    def measured(self) -> DeadlineResults:
        """The same without what an interrupted run did not come to."""
        offline = [row for row in self.offline if row.rounds]
        return DeadlineResults(self.machine, offline, [row for row in self.rows if row.rounds])


def write(results: DeadlineResults, path: Path) -> None:
    """Write everything as JSON, each round included."""
    path.write_text(json.dumps(asdict(results), indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> DeadlineResults:
    """Read the results that `write` wrote.

    Raises:
        ValueError: the file is something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        offline = [
            OfflineRow(row["strategy"], row["has_learner"], [OfflineRound(*entry) for entry in row["rounds"]])
            for row in content["offline"]
        ]
        rows = [
            DeadlineRow(row["strategy"], row["utilisation"], [_round(entry) for entry in row["rounds"]])
            for row in content["rows"]
        ]
        return DeadlineResults(content["machine"], offline, rows)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a result of benchmarks.load.deadline: "
            "write one with python -m benchmarks.load.deadline --out FOLDER"
        ) from error


def _round(entry: Sequence[object]) -> DeadlineRound:
    interval_ms, offline, simulated, real, *times = entry
    outcomes = [FrameCounts(*counts) if isinstance(counts, list) else None for counts in (simulated, real)]
    return DeadlineRound(interval_ms, offline, *outcomes, *times)  # type: ignore[arg-type]  # as `write` wrote them


def _divide(utility: float, accuracy: float) -> float:
    return utility / accuracy if accuracy else 1.0
