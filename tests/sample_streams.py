"""Streams of the images of the sample, sent to the bundled network side by side, and the errors of their answers."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapters import AdaptiveModel, Request, strategy
from adapters.composite import Strategy
from adapters.engine.outliers import BOUND
from app.evaluation.specs import parse_specs
from app.models import load
from app.models.hosted import Hosted
from app.models.pixels import Pixels
from app.settings import Settings

SAMPLE = Path(__file__).parent.parent / "benchmarks" / "sample"
CORRUPTIONS = ("contrast", "fog", "gaussian_noise")
MIXED, SORTED = "mixed classes", "sorted"
IMAGES = {MIXED: 100, SORTED: 200}
"""Twenty of each class where they are sorted, so that they make stretches."""
FLAT = ("black", "white")
TOGETHER = 10
"""So many images of each stream in one forward."""


@cache
def hosted() -> Hosted:
    return load(Settings())


@cache
def _wrapped(bound: float, number: int) -> AdaptiveModel:
    """The ``number``-th of the models that one test uses at once."""
    return AdaptiveModel(hosted().network, "source", bound=bound)


def adaptive(chosen: str | Strategy, *, bound: float = BOUND, number: int = 0) -> AdaptiveModel:
    """Return the wrapped network as if new, with this strategy and without a stream.

    Wrapping it and its first forward take a tenth of a second. A second model beside the first has another ``number``.
    """
    model = _wrapped(bound, number)
    model.reset()
    model.strategy = strategy(chosen) if isinstance(chosen, str) else chosen
    return model


@cache
def images(of: str) -> Tensor:
    if of == "mixed":
        every = torch.stack([images(corruption) for corruption in CORRUPTIONS])
        count = torch.arange(every.shape[1])
        mixed: Tensor = every[count % 3, count]
        return mixed
    if of in FLAT:
        pixels = torch.full((128, 32, 32, 3), 255 * (of == "white"), dtype=torch.uint8)
    else:
        pixels = torch.from_numpy(np.load(SAMPLE / f"{of}.npy"))
    prepared: Tensor = Pixels(hosted().preprocessing)(pixels)
    return prepared


@cache
def labels() -> Tensor:
    known: Tensor = torch.from_numpy(np.load(SAMPLE / "labels.npy")).long()
    return known


class Stream(NamedTuple):
    """What is sent: ``shown`` one after another, in requests of ``sizes`` images in turn."""

    name: str
    shown: tuple[str, ...]
    order: str
    sizes: tuple[int, ...]

    def requests(self) -> list[tuple[str, Tensor, Tensor]]:
        """Of each request: of which kind it is, its images, and their classes."""
        sent = []
        for of in self.shown:
            x, known = images(of), torch.full((len(images(of)),), -1) if of in FLAT else labels()
            if of not in FLAT:
                chosen = selected(self.order)
                x, known = x[chosen], known[chosen]
            taken = 0
            for size in cycle(self.sizes):
                sent.append((of, x[taken : taken + size], known[taken : taken + size]))
                taken += size
                if taken >= len(x):
                    break
        return sent


@cache
def selected(order: str) -> Tensor:
    """Which images of the sample are sent, in this order."""
    return labels().argsort(stable=True) if order == SORTED else torch.arange(IMAGES[order])


@cache
def frozen(of: str, order: str) -> float:
    """Percent of the images that the network itself gets wrong."""
    with torch.no_grad():
        wrong = hosted().network(images(of)[selected(order)]).argmax(1) != labels()[selected(order)]
    return 100 * float(wrong.double().mean())


ERRORS: dict[Stream, dict[str, float]] = {}
"""Percent wrong of each kind of images, of the streams that were sent."""


def send(streams: set[Stream]) -> None:
    """All of them side by side."""
    model = adaptive("source")
    waiting = {stream: stream.requests() for stream in streams - ERRORS.keys()}
    wrong: dict[Stream, dict[str, int]] = {stream: defaultdict(int) for stream in waiting}
    chosen = {spec.text: strategy(spec.strategy, spec.params) for spec in parse_specs({s.name for s in waiting})}
    while any(waiting.values()):
        batch = []
        for stream, requests in waiting.items():
            taken = 0
            while requests and taken < TOGETHER:
                batch.append((stream, *requests.pop(0)))
                taken += len(batch[-1][2])
        answers = model.predict([Request(x, stream, chosen[stream.name]) for stream, _, x, _ in batch])
        for (stream, of, _, known), answer in zip(batch, answers, strict=True):
            wrong[stream][of] += int((answer.logits.argmax(1) != known).sum())
    for stream, counts in wrong.items():
        ERRORS[stream] = {of: 100 * count / IMAGES[stream.order] for of, count in counts.items()}
