"""Run the real server under frames that do not wait: strategies take turns, A B A B, round after round."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
from PIL import Image
from rich.progress import Progress

from app.evaluation.datasets.data import Dataset, open_data
from app.evaluation.running.runner import images_of, labels_of
from app.evaluation.specs import Spec
from app.evaluation.streams.orders import parse_order
from app.evaluation.streams.streams import make_stream
from app.strategies import resolve
from benchmarks.load.deadline.camera import CameraRecording, live_url, record
from benchmarks.load.deadline.queueing import simulate
from benchmarks.load.deadline.results import DeadlineResults, DeadlineRound, DeadlineRow, OfflineRound, OfflineRow
from benchmarks.load.results import machine
from benchmarks.load.servers import LoadError, ServerProcess, started

WARM_FRAMES, START_S = 20, 120.0


class Footage(NamedTuple):
    """The frames that a camera sends: encoded images, and the class of each."""

    frames: list[bytes]
    labels: list[int]


class DeadlinePlan(NamedTuple):
    """The strategies and utilisations to measure, and the frames."""

    specs: Sequence[Spec]  # the first is `source`
    utilisations: Sequence[int]  # in percent of the capacity with `source`
    rounds: int
    data: Path
    domains: Sequence[str]
    protocol: str
    order: str
    limit: int
    seed: int
    threads: int
    arguments: Sequence[str]  # further ones of `renorm serve`
    is_simulated: bool  # whether utilisations are only simulated

    @property
    def steps(self) -> int:
        """The number of passes over the frames."""
        passes = 0 if self.is_simulated else len(self.utilisations)
        return self.rounds * len(self.specs) * (1 + passes)


def load_footage(plan: DeadlinePlan) -> Footage:
    """Read the frames in the order of the plan's stream.

    Raises:
        EvaluationError: the data are missing or lack what the plan asks for.
        LoadError: the data are folders of image files.
    """
    dataset: Dataset = open_data(plan.data).select(plan.domains)
    if dataset.names:
        raise LoadError(f"{plan.data} has folders of images: give arrays, CORRUPTION.npy and labels.npy")
    stream = make_stream(dataset, plan.protocol, parse_order(plan.order), plan.seed, plan.limit or None)
    images = images_of(dataset, stream, slice(0, len(stream.image)))
    return Footage([_encode(np.asarray(image)) for image in images], labels_of(dataset, stream).tolist())


class DeadlineRun:
    """One run of a plan; ``results`` holds what was measured so far."""

    def __init__(self, plan: DeadlinePlan, footage: Footage, progress: Progress) -> None:
        self.plan, self.footage, self.progress = plan, footage, progress
        self.results = DeadlineResults(
            _conditions(plan, footage),
            [OfflineRow(spec.text, _has_learner(spec)) for spec in plan.specs],
            [DeadlineRow(spec.text, percent) for percent in plan.utilisations for spec in plan.specs],
        )
        self._streams = 0
        self._task = progress.add_task("starting the server", total=plan.steps)

    def measure(self) -> None:
        """Start the server, and measure all rounds.

        Raises:
            LoadError: the server does not start, or does not answer.
        """
        plan = self.plan
        options = ["--host", "127.0.0.1", "--threads", str(plan.threads), *plan.arguments]
        with started(
            "renorm",
            lambda port: [sys.executable, "-m", "app", "serve", "--port", str(port), *options],
            "/readyz",
            START_S,
            {"OMP_NUM_THREADS": str(plan.threads)},
        ) as server:
            for spec in plan.specs:
                self._record(server, spec, self.footage.frames[:WARM_FRAMES])
            for number in range(plan.rounds):
                self._measure_round(server, f"round {number + 1} of {plan.rounds}")

    def _measure_round(self, server: ServerProcess, title: str) -> None:
        offline = [self._measure_offline(server, spec, title) for spec in self.plan.specs]
        frame_s = fmean(offline[0].services_s)
        for percent in self.plan.utilisations:
            for spec, recording in zip(self.plan.specs, offline, strict=True):
                entry = self._simulate(recording, 100 * frame_s / percent)
                if not self.plan.is_simulated:
                    self._describe(f"{title}: {spec.text} at {percent} %")
                    entry = self._measure_frames(server, spec, entry)
                self._row(spec, percent).rounds.append(entry)

    def _measure_offline(self, server: ServerProcess, spec: Spec, title: str) -> CameraRecording:
        """Record answers to all frames; the server always has the next one, so their times are those of its work."""
        self._describe(f"{title}: {spec.text}, every frame")
        recording = self._record(server, spec, self.footage.frames)
        self.progress.advance(self._task)
        accuracy = recording.outcome(self.footage.labels).accuracy
        row = self.results.offline_row(spec.text)
        row.rounds.append(OfflineRound(accuracy, 1000 * fmean(recording.services_s)))
        return recording

    def _simulate(self, recording: CameraRecording, interval_s: float) -> DeadlineRound:
        labels = self.footage.labels
        outcome = simulate(interval_s, recording.services_s, recording.correct(labels))
        return DeadlineRound(1000 * interval_s, recording.outcome(labels).accuracy, outcome)

    def _measure_frames(self, server: ServerProcess, spec: Spec, entry: DeadlineRound) -> DeadlineRound:
        recording = self._record(server, spec, self.footage.frames, entry.interval_ms / 1000)
        self.progress.advance(self._task)
        return entry._replace(
            real=recording.outcome(self.footage.labels),
            latency_ms=1000 * recording.latency_s,
            late_ms=1000 * recording.late_s,
        )

    def _record(
        self, server: ServerProcess, spec: Spec, frames: Sequence[bytes], interval_s: float = 0.0
    ) -> CameraRecording:
        """Record one pass, on a new stream."""
        self._streams += 1
        url = live_url(server.port, f"deadline-{self._streams}", spec, drops=interval_s > 0)
        return record(url, frames, interval_s)

    def _row(self, spec: Spec, percent: int) -> DeadlineRow:
        return next(row for row in self.results.rows if (row.strategy, row.utilisation) == (spec.text, percent))

    def _describe(self, text: str) -> None:
        self.progress.update(self._task, description=text)


def _conditions(plan: DeadlinePlan, footage: Footage) -> dict[str, str]:
    cores = os.cpu_count()
    names = "all domains" if not plan.domains else ", ".join(plan.domains)
    return {
        **machine(plan.threads),
        "threads of a forward": str(plan.threads),
        "shared": f"server and camera share the {cores} cores",
        "frames": f"{len(footage.frames)} of {plan.data.name} ({names}), {plan.protocol}, {plan.order}",
        "rounds": str(plan.rounds),
    }


def _has_learner(spec: Spec) -> bool:
    return resolve(spec.strategy, spec.params).strategy.learner is not None


def _encode(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png", compress_level=1)
    return buffer.getvalue()
