"""The memory of a thousand streams, measured in a process of their own."""

from __future__ import annotations

import ctypes
import gc
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from adapters import AdaptiveModel, Request
from benchmarks.speed.models import MODELS
from benchmarks.speed.results import MemoryGrowth

P = ParamSpec("P")
R = TypeVar("R")
SIZE = 32
TOGETHER = 10


def measure_growth(name: str, streams: int, device: str = "cpu") -> MemoryGrowth:
    """Add so many `adabn` streams to a model and see by how much the memory of this process grows.

    Ten streams before them bring what is made once. Then half of the streams, picked at random, send another image in
    another company: what a row shared with those it came with is freed or shows.

    Raises:
        OSError: the system does not tell how much memory a process has.
    """
    spec = MODELS[name]
    model = AdaptiveModel(spec.build().to(device), "adabn")
    image = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)).to(device)
    _send(model, image, range(TOGETHER))
    _give_back()
    baseline = resident(device)
    added = range(TOGETHER, TOGETHER + streams)
    _send(model, image, added)
    _send(model, image, random.Random(0).sample(added, streams // 2))  # noqa: S311
    _give_back()  # as before: what forwards needed and the allocator keeps is not the streams'
    return MemoryGrowth(name, spec.title, SIZE, streams, model.state_bytes(), resident(device) - baseline)


def _send(model: AdaptiveModel, image: Tensor, streams: Sequence[int]) -> None:
    for at in range(0, len(streams), TOGETHER):
        model.predict([Request(image, f"stream-{i}") for i in streams[at : at + TOGETHER]])


def _give_back() -> None:
    """Return what is free to the system: streams that moved into what building the network left would not show."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc; other allocators keep less
    if trim is not None:
        trim(0)


def resident(device: str = "cpu") -> int:
    """Bytes of memory that this process occupies, on the GPU those of its tensors.

    Raises:
        OSError: only Linux tells.
    """
    if device == "cuda":
        return torch.cuda.memory_allocated()
    status = Path("/proc/self/status")
    if not status.exists():
        raise OSError("the memory of a process is read from /proc, which this system does not have: run it on Linux")
    (line,) = [line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmRSS")]
    return 1024 * int(line.split()[1])


def call_in_new_process(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call it in a new process, where no memory that others freed is taken again."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()
