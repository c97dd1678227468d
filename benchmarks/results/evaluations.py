"""Run an evaluation of a plan, and read its finished cells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from app.evaluation.running.cells import MANIFEST, Folder
from app.evaluation.running.speed import with_speeds
from app.evaluation.types import Result
from benchmarks.results.plan import PublishedEvaluation, cells


class Measured(NamedTuple):
    """The finished part of an evaluation."""

    results: list[Result]
    settings: dict[str, str]  # its settings
    missing: int  # cells


def run(plan: PublishedEvaluation, data: Path, out: Path, processes: int | None = None) -> int:
    """Run an evaluation to its end, with its own progress; the exit status."""
    # One thread for each process: results must not depend on how many cores are idle.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    command = plan.command(str(data), out, processes)
    return subprocess.run([sys.executable, "-m", "app", *command], env=environment, check=False).returncode


def count_finished(plan: PublishedEvaluation, out: Path) -> int:
    """Return the number of the plan's cells that are in its folder.

    Raises:
        EvaluationError: a file is broken.
    """
    place = out / plan.name
    if not (place / MANIFEST).exists():
        return 0
    folder = Folder(place, json.loads((place / MANIFEST).read_text(encoding="utf-8")))
    return sum(folder.file(cell).exists() for cell in plan.cells())


def read(plans: Sequence[PublishedEvaluation], out: Path) -> Measured:
    """The finished cells of plans that share a folder, in their order.

    Raises:
        FileNotFoundError: nothing was run yet.
        ValueError: no cell is finished.
        EvaluationError: a file is broken.
    """
    place, expected = out / plans[0].name, cells(plans)
    if not (place / MANIFEST).exists():
        raise FileNotFoundError(f"{place} holds no evaluation: leave out --no-run")
    settings: dict[str, str] = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
    folder = Folder(place, settings)
    done = [cell for cell in expected if folder.file(cell).exists()]
    if not done:
        raise ValueError(f"{place} holds no finished cell: leave out --no-run")
    results = with_speeds(map(folder.load, done), folder.speeds())
    return Measured(results, settings, len(expected) - len(done))
