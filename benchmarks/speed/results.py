"""The results of a run of `python -m benchmarks.speed`, as ``speed.json`` holds them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, median

import torch

from benchmarks.common import processor


@dataclass(frozen=True)
class CaseGroup:
    """Cases that were timed in turn: one model, one number of images in a forward.

    ``seconds`` holds a value per round for each case; ``notes`` why a case has none.
    """

    kind: str  # eager, streams or compiled
    model: str
    title: str
    size: int
    batch: int
    seconds: dict[str, list[float]]
    notes: dict[str, str] = field(default_factory=dict)

    def ratio(self, case: str, *references: str) -> float:
        """Return the time of a case over the mean of ``references``: the median over the rounds.

        Taken round by round, where both ran under the same conditions, and not from two medians.
        """
        rounds = zip(*(self.seconds[reference] for reference in references), strict=True)
        reference_means: list[float] = [mean(row) for row in rounds]
        ratios: list[float] = [
            sample / reference_mean for sample, reference_mean in zip(self.seconds[case], reference_means, strict=True)
        ]
        return median(ratios)

    def milliseconds(self, case: str) -> float:
        """The median time of a call."""
        return 1000 * median(self.seconds[case])


@dataclass(frozen=True)
class MemoryGrowth:
    """The growth of memory while ``streams`` streams of ``state_bytes`` each were added."""

    model: str
    title: str
    size: int
    streams: int
    state_bytes: int
    grown: int

    @property
    def ratio(self) -> float:
        """Growth against the exact size of the states."""
        return self.grown / (self.streams * self.state_bytes)


@dataclass
class SpeedResults:
    """A whole run."""

    machine: dict[str, str]
    groups: list[CaseGroup] = field(default_factory=list)
    held: MemoryGrowth | None = None
    notes: dict[str, str] = field(default_factory=dict)


def machine(device: str, rounds: int) -> dict[str, str]:
    """Return the conditions that figures depend on, for people: processor, versions, threads, memory formats."""
    device_name = torch.cuda.get_device_name() if device == "cuda" else processor()
    return {
        "machine": f"{device_name}, {os.cpu_count()} cores, {platform.system()}",
        "torch": f"{torch.__version__}, Python {platform.python_version()}",
        "threads": f"{torch.get_num_threads()}",
        "memory format": "channels_last in Renorm and where a reference says so, elsewhere the default",
        "rounds": f"{rounds}, with many streams {(rounds + 1) // 2}; medians",
        "load of the machine before": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
    }


def write(results: SpeedResults, path: Path) -> None:
    """Everything as JSON, each sample included."""
    path.write_text(json.dumps(asdict(results), indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> SpeedResults:
    """Read the results that `write` wrote.

    Raises:
        ValueError: the file is something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        groups = [CaseGroup(**group) for group in content["groups"]]
        held = None if content["held"] is None else MemoryGrowth(**content["held"])
        return SpeedResults(content["machine"], groups, held, content["notes"])
    except (KeyError, TypeError, ValueError) as error:
        hint = "write one with python -m benchmarks.speed --out FOLDER"
        raise ValueError(f"{path} is not a result of benchmarks.speed: {hint}") from error


def of_kind(groups: Sequence[CaseGroup], kind: str) -> list[CaseGroup]:
    """The groups of one kind."""
    return [group for group in groups if group.kind == kind]
