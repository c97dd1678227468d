"""Subsets: the images of a domain that a stream shows, and how often."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def balanced_subset(labels: Indices, count: int, rng: np.random.Generator) -> Indices:
    """Choose ``count`` of the images ``[N]``, as evenly over the classes as possible; all where there are no more.

    Returns:
        Positions in ``labels``, rising, each once.
    """
    if count >= len(labels):
        return np.arange(len(labels), dtype=np.int64)
    shuffled = rng.permutation(len(labels))
    shuffled = shuffled[np.argsort(labels[shuffled], kind="stable")]
    _, first, counts = np.unique(labels[shuffled], return_index=True, return_counts=True)
    # Images take turns by class: the first of each class, then the second of each, in a drawn order of the classes.
    turn = np.arange(len(labels)) - np.repeat(first, counts)
    place = np.repeat(rng.permutation(len(counts)), counts)
    return np.sort(shuffled[np.lexsort((place, turn))][:count])


def stretch_subset(labels: Indices, count: int, rng: np.random.Generator, *, length: int) -> Indices:
    """Choose the images of stretches of ``length`` images of one class, ``count`` images or more in all.

    There are ``ceil(count / length)`` stretches, divided among the classes as evenly as possible; where they are fewer
    than the classes, some classes are not shown. Where the stretches of a class need more images than it has, each of
    its images is taken equally often, or once more.

    Returns:
        Positions in ``labels``, rising, with repetitions.
    """
    classes = rng.permutation(np.unique(labels))
    stretches = -(-count // length)
    shares = stretches // len(classes) + (np.arange(len(classes)) < stretches % len(classes))
    chosen = [
        repeated_subset(np.flatnonzero(labels == label), length * int(share), rng)
        for label, share in zip(classes, shares, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def repeated_subset(images: Indices, count: int, rng: np.random.Generator) -> Indices:
    """Choose ``count`` of the images, ``[count]``: each ``count // len(images)`` times, and a drawn rest once more."""
    rounds, extra = divmod(count, len(images))
    return np.concatenate([np.tile(images, rounds), rng.permutation(images)[:extra]])
