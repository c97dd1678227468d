"""Stretches: runs of a set number of images of one class, whose images may come again."""

from __future__ import annotations

import numpy as np

from app.evaluation.streams.subsets import Indices


def arrange_stretches(labels: Indices, images: Indices, rng: np.random.Generator, *, length: int) -> Indices:
    """Order ``images``, ``[T]``, in stretches of ``length`` images of one class, in a drawn order.

    The number of images of each class is a multiple of ``length``. Two stretches of one class follow each other only
    where the other classes are too few to stand between. An image comes again only after the other images of its class.

    Returns:
        A permutation of 0..T-1.
    """
    classes, counts = np.unique(labels, return_counts=True)
    waiting = [arrange_rounds(np.flatnonzero(labels == label), images, rng) for label in classes]
    ordered: list[Indices] = []
    for k in draw_sequence(counts // length, rng):
        ordered.append(waiting[k][:length])
        waiting[k] = waiting[k][length:]
    return np.concatenate(ordered)


def draw_sequence(counts: Indices, rng: np.random.Generator) -> list[int]:
    """Draw a sequence with ``counts[k]`` of each k, in which equal neighbours occur only where they must."""
    remaining, sequence = counts.copy(), list[int]()
    for total in range(int(counts.sum()), 0, -1):
        weights = remaining.astype(np.float64)
        if sequence and remaining[sequence[-1]] < total:
            weights[sequence[-1]] = 0.0
        # More than half of what remains: put off once more, it would have to follow itself.
        k = int(weights.argmax())
        if 2 * weights[k] <= total:
            k = int(np.searchsorted(weights.cumsum(), rng.random() * weights.sum(), side="right"))
        remaining[k] -= 1
        sequence.append(k)
    return sequence


def arrange_rounds(places: Indices, images: Indices, rng: np.random.Generator) -> Indices:
    """Shuffle ``places`` of ``images``: those of images that come for the first time before those of the second."""
    shuffled = rng.permutation(places)
    by_image = shuffled[np.argsort(images[shuffled], kind="stable")]
    _, first, counts = np.unique(images[by_image], return_index=True, return_counts=True)
    rounds = np.arange(len(by_image)) - np.repeat(first, counts)
    return by_image[np.lexsort((rng.permutation(len(by_image)), rounds))]
