"""Streams: the sequence of images and domains, the same for every strategy."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.evaluation.datasets.data import Dataset
from app.evaluation.datasets.domains import CLEAN, SEVERITIES
from app.evaluation.errors import EvaluationError
from app.evaluation.streams.orders import Order
from app.evaluation.streams.subsets import Indices
from app.evaluation.types import PROTOCOLS, WALK, StreamOrder

RISE_AND_FALL = (*SEVERITIES, *SEVERITIES[-2::-1])
"""The severities of the gradual protocol: 1-2-3-4-5-4-3-2-1."""

# The purpose of a generator: draws for one do not depend on draws for another.
_SUBSET, _ORDER, _MIXED, _SHARED = 0, 1, 2, 3


class StreamPlan(NamedTuple):
    """The data, order, seed and limit that a stream is made of."""

    dataset: Dataset
    order: Order
    seed: int
    limit: int | None


class DomainPart(NamedTuple):
    """A run of images: domain and image, both ``[n]``."""

    domain: NDArray[np.int32]
    image: Indices


def make_stream(
    dataset: Dataset, protocol: str, order: Order, seed: int, limit: int | None = None, visits: int = 5
) -> StreamOrder:
    """Make the stream of a protocol.

    - `single`: the corruptions in published order, each a segment of its own; `continual`: the same images in the same
      order without resets; `clean`: the clean images alone.
    - `mixed`: the images of all corruptions under one order; where the label decides, domains mix within a class.
    - `gradual`: each corruption at severity 1-2-3-4-5-4-3-2-1. Each of the nine steps shows all of that severity's
      images, so severities 1 to 4 are shown twice, in two orders.
    - `recurring`: `continual` over and over, ``visits`` times; each visit shows the same images in another order, so
      that errors of visits differ by adaptation and not by images.

    ``limit`` takes that many images of each domain, drawn so that classes are as even as they can be, before they are
    ordered; the choice depends on the seed, the domain and the kind of order alone. Runs of one class are therefore
    shorter than with all images, except in the orders ``stretches:N`` and ``one_class``, which draw from all images of
    the domain and repeat them where they are too few; the former may exceed ``limit`` by less than a stretch.

    The stream depends on the arguments alone; to outlast a new version of numpy, whose generators may change, save it
    with `save_stream`.

    Raises:
        EvaluationError: there is no such protocol, the data lack what it needs, or a number is too small.
    """
    if protocol not in PROTOCOLS:
        raise EvaluationError(f"unknown protocol {protocol!r}", hint=f"choose from {', '.join((*PROTOCOLS, WALK))}")
    for name, number, minimum in (("seed", seed, 0), ("limit", limit, 1), ("visits", visits, 1)):
        if number is not None and number < minimum:
            raise EvaluationError(f"{name} must be at least {minimum}, not {number}", hint=f"give {minimum} or more")
    parts = _PARTS[protocol](StreamPlan(dataset, order, seed, limit), visits)
    lengths = [len(part.image) for part in parts]
    return StreamOrder(
        protocol=protocol,
        order=order.name,
        seed=seed,
        domain=np.concatenate([part.domain for part in parts]),
        image=np.concatenate([part.image for part in parts]),
        segment=np.repeat(np.arange(len(parts), dtype=np.int32) * (protocol == "single"), lengths).astype(np.int32),
    )


def split_requests(stream: StreamOrder, batch: int) -> Iterator[slice]:
    """Cut the stream into requests of ``batch`` images; the last one of a segment may be short.

    Raises:
        EvaluationError: ``batch`` is less than 1.
    """
    if batch < 1:
        raise EvaluationError(f"the batch size must be at least 1, not {batch}", hint="give 1 or more")
    ends = [*(np.flatnonzero(np.diff(stream.segment)) + 1).tolist(), len(stream.segment)]
    for start, end in zip([0, *ends], ends, strict=False):
        yield from (slice(i, min(i + batch, end)) for i in range(start, end, batch))


def _rng(plan: StreamPlan, purpose: int, number: int | None = None, visit: int = 0) -> np.random.Generator:
    """Make a generator for each purpose and domain, so that an added domain does not change the others."""
    title = "" if number is None else plan.dataset.domains[number].title
    return np.random.default_rng([plan.seed, purpose, zlib.crc32(title.encode()), visit])


def _subset(plan: StreamPlan, number: int) -> Indices:
    """Choose the images of a domain by the order's rule: all, or as many as the limit."""
    labels = plan.dataset.domains[number].labels
    count = len(labels) if plan.limit is None else min(plan.limit, len(labels))
    return plan.order.choose(labels, count, _rng(plan, _SUBSET, number), _rng(plan, _SHARED))


def domain_part(plan: StreamPlan, number: int, visit: int = 0) -> DomainPart:
    """Choose the images of a domain, and order them; each visit shows the same images in another order."""
    chosen = _subset(plan, number)
    labels = plan.dataset.domains[number].labels[chosen]
    image = chosen[plan.order.arrange(labels, chosen, _rng(plan, _ORDER, number, visit))]
    return DomainPart(np.full(len(image), number, np.int32), image)


def _shifted(plan: StreamPlan) -> list[int]:
    if not plan.dataset.shifted:
        hint = "only the protocol clean works without corruptions"
        raise EvaluationError("the data have clean images only", hint=hint)
    return plan.dataset.shifted


def _continual(plan: StreamPlan, _: int) -> list[DomainPart]:
    return [domain_part(plan, number) for number in _shifted(plan)]


def _mixed(plan: StreamPlan, _: int) -> list[DomainPart]:
    chosen = [(number, _subset(plan, number)) for number in _shifted(plan)]
    domain = np.concatenate([np.full(len(images), number, np.int32) for number, images in chosen])
    image = np.concatenate([images for _, images in chosen])
    labels = np.concatenate([plan.dataset.domains[number].labels[images] for number, images in chosen])
    distinct = domain.astype(np.int64) * (int(image.max()) + 1) + image
    positions = plan.order.arrange(labels, distinct, _rng(plan, _MIXED))
    return [DomainPart(domain[positions], image[positions])]


def _gradual(plan: StreamPlan, _: int) -> list[DomainPart]:
    if _shifted(plan) and not plan.dataset.has_all_severities:
        hint = "give data with severities 1 to 5, such as the public CIFAR-10-C, or choose another protocol"
        raise EvaluationError("the protocol gradual needs every corruption at five severities", hint=hint)
    steps = [(name, s, i >= len(SEVERITIES)) for name in plan.dataset.corruptions for i, s in enumerate(RISE_AND_FALL)]
    return [domain_part(plan, plan.dataset.find(name, severity), int(falling)) for name, severity, falling in steps]


def _recurring(plan: StreamPlan, visits: int) -> list[DomainPart]:
    return [domain_part(plan, number, visit) for visit in range(visits) for number in _shifted(plan)]


def _clean(plan: StreamPlan, _: int) -> list[DomainPart]:
    if plan.dataset.clean is None:
        hint = f"add {CLEAN}.npy or a folder {CLEAN}, or choose another protocol"
        raise EvaluationError("the data have no clean images", hint=hint)
    return [domain_part(plan, plan.dataset.find(CLEAN))]


_PARTS: dict[str, Callable[[StreamPlan, int], list[DomainPart]]] = {
    "single": _continual,
    "continual": _continual,
    "mixed": _mixed,
    "gradual": _gradual,
    "recurring": _recurring,
    "clean": _clean,
}
