"""One run of `python -m benchmarks.speed`: its plan, and the measuring."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from rich.progress import Progress
from torch import Tensor, nn

from benchmarks.speed import memory as speed_memory
from benchmarks.speed.cases import Compiled, eager, streams
from benchmarks.speed.clock import Case, cuda, measure, wall
from benchmarks.speed.models import MODELS
from benchmarks.speed.results import CaseGroup, SpeedResults, machine

TOGETHER = 32

Cases = tuple[list[Case], dict[str, str]]
"""The cases to time, and the reasons why others are missing."""


@dataclass(frozen=True)
class SpeedPlan:
    """The cases to measure; ``batches`` empty means those of each model."""

    models: list[str]
    batches: list[int]
    stream_models: list[str]  # the models on which many streams share a forward
    rounds: int
    strategies: list[str]
    compiled: list[str]
    memory: str | None  # the model on which the memory of streams is measured
    stored_streams: int  # how many streams that are
    minimum_s: float  # seconds that a sample takes at least
    device: str

    def sizes(self, name: str) -> list[int]:
        """Return the numbers of images in a forward of this model, in turn."""
        return self.batches or list(MODELS[name].batches)


class SpeedRun:
    """One run in progress: fills ``results`` group by group."""

    def __init__(self, plan: SpeedPlan, progress: Progress) -> None:
        self.plan, self._progress = plan, progress
        self.results = SpeedResults(machine(plan.device, plan.rounds))
        single = sum(len(plan.sizes(name)) for name in plan.models)
        total = single * (1 + bool(plan.compiled)) + len(plan.stream_models) + bool(plan.memory)
        self._overall = progress.add_task("groups", total=total)
        self._current = progress.add_task("", total=None)

    def everything(self) -> None:
        """Eager, many streams, memory; what needs a compiler comes last."""
        for name in self.plan.models:
            network = self._network(name)
            for batch in self.plan.sizes(name):
                self._group("eager", name, batch, partial(self._eager, network))
            if name in self.plan.stream_models:
                self._group("streams", name, TOGETHER, partial(self._streams, network))
        if self.plan.memory:
            self._memory(self.plan.memory)
        for name in self.plan.models if self.plan.compiled else ():
            # What was compiled for one model is not looked through for the next.
            torch.compiler.reset()
            compiled = Compiled(self._network(name), self.plan.compiled)
            for batch in self.plan.sizes(name):
                self._group("compiled", name, batch, partial(compiled.cases, tell=self._begin))

    def _eager(self, network: nn.Module, images: Tensor) -> Cases:
        return eager(network, images, self.plan.strategies), {}

    def _streams(self, network: nn.Module, images: Tensor) -> Cases:
        return streams(network, images, self.plan.strategies), {}

    def _network(self, name: str) -> nn.Module:
        self._begin(f"{MODELS[name].title}: building")
        return MODELS[name].build().to(self.plan.device)

    def _group(self, kind: str, name: str, batch: int, make: Callable[[Tensor], Cases]) -> None:
        # With many streams there are three cases for each strategy, and large ones.
        rounds = (self.plan.rounds + 1) // 2 if kind == "streams" else self.plan.rounds
        spec = MODELS[name]
        title = f"{spec.title}, {kind}, {batch}"
        self._begin(f"{title}: preparing")
        gc.collect()
        cases, missing = make(self._images(spec.size, batch))
        self._begin(title, total=len(cases) * (rounds + 1))

        def tick(case: str) -> None:
            self._progress.update(self._current, description=f"{title}: {case}", advance=1)

        clock = cuda if self.plan.device == "cuda" else wall
        seconds = measure(cases, rounds, clock, self.plan.minimum_s, tick)
        self.results.groups.append(CaseGroup(kind, name, spec.title, spec.size, batch, seconds, missing))
        self._progress.advance(self._overall)

    def _memory(self, name: str) -> None:
        self._begin(f"{MODELS[name].title}: memory of {self.plan.stored_streams:,} streams")
        try:
            self.results.held = speed_memory.call_in_new_process(
                speed_memory.measure_growth, name, self.plan.stored_streams, self.plan.device
            )
        except OSError as error:
            self.results.notes["memory"] = str(error)
        self._progress.advance(self._overall)

    def _begin(self, description: str, total: int | None = None) -> None:
        # A new task, because one that had a total cannot lose it.
        self._progress.remove_task(self._current)
        self._current = self._progress.add_task(description, total=total)

    def _images(self, size: int, batch: int) -> Tensor:
        images = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))
        return images.to(self.plan.device)
