"""Orders of the images of a domain: shuffled, or with classes in bursts, as in real streams."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from app.evaluation.errors import EvaluationError
from app.evaluation.streams.stretches import arrange_rounds, arrange_stretches
from app.evaluation.streams.subsets import Indices, balanced_subset, repeated_subset, stretch_subset

PTTA_GAMMA = 0.1
PTTA_SLOTS = 100
MIN_CHUNK = 10
REDRAWS = 20
MAX_STRETCH = 100_000

Choose = Callable[[Indices, int, np.random.Generator, np.random.Generator], Indices]
Arrange = Callable[[Indices, Indices, np.random.Generator], Indices]


class Order(NamedTuple):
    """A rule for the images of a domain: those to show, and their order. All chance comes from the generators.

    ``choose`` takes the labels of a domain ``[N]``, the number of images wished for, a generator of the domain, and one
    that is alike for all domains; it returns positions 0..N-1, with repetitions where the order repeats images.
    ``arrange`` takes the labels of chosen images ``[T]``, numbers that tell images apart ``[T]``, and a generator; it
    returns a permutation of 0..T-1.
    """

    name: str
    choose: Choose
    arrange: Arrange


def parse_order(text: str) -> Order:
    """Parse an order: ``iid``, ``sorted``, ``dirichlet:0.1``, ``ptta``, ``stretches:100`` or ``one_class``.

    Raises:
        EvaluationError: the order is unknown, the concentration is not a number above 0, or the length of stretches is
            not an integer above 0.
    """
    name, colon, argument = text.strip().partition(":")
    if name == "dirichlet":
        delta = _concentration(text, argument)
        return Order(f"dirichlet:{delta:.12g}", _choose_balanced, _distinct(partial(dirichlet, delta=delta)))
    if name == "stretches":
        length = _length(text, argument)
        return Order(
            f"stretches:{length}", partial(_choose_stretches, length=length), partial(arrange_stretches, length=length)
        )
    if (name, colon) == ("one_class", ""):
        return Order(name, _choose_one_class, _arrange_one_class)
    orders = {"iid": iid, "sorted": by_class, "ptta": ptta}
    if name not in orders or colon:
        hint = "choose iid, dirichlet:0.1 (smaller is more correlated), sorted, ptta, stretches:100 or one_class"
        raise EvaluationError(f"unknown order {text!r}", hint=hint)
    return Order(name, _choose_balanced, _distinct(orders[name]))


def iid(labels: Indices, rng: np.random.Generator) -> Indices:
    """All images shuffled."""
    return rng.permutation(len(labels))


def by_class(labels: Indices, rng: np.random.Generator) -> Indices:
    """One class after another; the order of the classes, and of the images of each, is drawn."""
    groups = _groups(labels, rng)
    return np.concatenate([groups[k] for k in rng.permutation(len(groups))])


def dirichlet(labels: Indices, rng: np.random.Generator, *, delta: float) -> Indices:
    """Classes that come in bursts (NOTE, Gong et al. 2022; UnMix-TNS, Tomar et al. 2024).

    The stream has as many chunks as there are classes. Each class is split over the chunks by Dirichlet(``delta``),
    where a chunk that already has its fair share N / chunks gets no more of the classes that follow. Inside a chunk the
    classes come one after another, in an order drawn for the chunk.

    The papers draw again until each chunk holds 10 images, without limit. Here it is 10 or a third of the fair share,
    whichever is less, and after 20 draws the draw with the largest smallest chunk counts. The classes are split in a
    random order, not by number, so that no class is always the last, which fills the rest.
    """
    groups = _groups(labels, rng)
    return _deal(groups, chunk_counts([len(group) for group in groups], delta, rng), rng)


def chunk_counts(sizes: list[int], delta: float, rng: np.random.Generator) -> Indices:
    """Draw the images of each class in each chunk of `dirichlet`, ``[classes, chunks]``; ``sizes`` are by class."""
    minimum = min(MIN_CHUNK, sum(sizes) // len(sizes) // 3)
    best = _draw_counts(sizes, delta, rng)
    for _ in range(REDRAWS - 1):
        if _smallest(best) >= minimum:
            break
        best = max(best, _draw_counts(sizes, delta, rng), key=_smallest)
    return best


def ptta(labels: Indices, rng: np.random.Generator) -> Indices:
    """Classes that come in bursts, of any length (practical test-time adaptation: RoTTA, Yuan et al. 2023).

    There are as many slots as classes, at most 100. Each class is split over the slots by Dirichlet(0.1), whatever they
    hold already, and a slot may stay empty. Inside a slot the classes come one after another, in a drawn order.
    """
    groups = _groups(labels, rng)
    slots = min(len(groups), PTTA_SLOTS)
    counts = np.array([_cut(len(group), slots, PTTA_GAMMA, rng) for group in groups])
    return _deal(groups, counts, rng)


def _distinct(arrange: Callable[[Indices, np.random.Generator], Indices]) -> Arrange:
    """Return the rule as one that does not look at the numbers of images."""
    return lambda labels, _, rng: arrange(labels, rng)


def _choose_balanced(labels: Indices, count: int, rng: np.random.Generator, _: np.random.Generator) -> Indices:
    return balanced_subset(labels, count, rng)


def _choose_stretches(
    labels: Indices, count: int, rng: np.random.Generator, _: np.random.Generator, *, length: int
) -> Indices:
    return stretch_subset(labels, count, rng, length=length)


def _choose_one_class(labels: Indices, count: int, rng: np.random.Generator, shared: np.random.Generator) -> Indices:
    """Choose ``count`` images of a class; all domains draw the same class from ``shared``."""
    label = shared.choice(np.unique(labels))
    return np.sort(repeated_subset(np.flatnonzero(labels == label), count, rng))


def _arrange_one_class(labels: Indices, images: Indices, rng: np.random.Generator) -> Indices:
    return arrange_rounds(np.arange(len(labels)), images, rng)


def _length(text: str, number: str) -> int:
    hint = "write stretches:100; for one class without end, choose one_class"
    if not (number.isascii() and number.isdecimal() and 1 <= int(number) <= MAX_STRETCH):
        raise EvaluationError(f"{text!r} needs a number of images, 1 to {MAX_STRETCH:,}", hint=hint)
    return int(number)


def _concentration(text: str, number: str) -> float:
    hint = "write dirichlet:0.1; for classes that never mix, choose sorted"
    try:
        delta = float(number)
    except ValueError:
        raise EvaluationError(f"{text!r} needs a concentration, a number", hint=hint) from None
    # Gamma variates of a larger one overflow, and long before that the order is as good as shuffled.
    if not (math.isfinite(delta) and 0 < delta <= 1e6):
        raise EvaluationError(f"the concentration in {text!r} must be above 0 and at most 1e6", hint=hint)
    return delta


def _groups(labels: Indices, rng: np.random.Generator) -> list[Indices]:
    """The images of each class that occurs, each class shuffled."""
    shuffled = rng.permutation(len(labels))
    shuffled = shuffled[np.argsort(labels[shuffled], kind="stable")]
    return np.split(shuffled, np.flatnonzero(np.diff(labels[shuffled])) + 1)


def _cut(images: int, parts: int, concentration: float, rng: np.random.Generator) -> Indices:
    """Draw the number of images of each part, ``[parts]``, with shares from a symmetric Dirichlet distribution."""
    ends = (np.cumsum(rng.dirichlet(np.full(parts, concentration)))[:-1] * images).astype(np.int64)
    return np.diff(ends, prepend=0, append=images)


def _draw_counts(sizes: list[int], delta: float, rng: np.random.Generator) -> Indices:
    counts = np.zeros((len(sizes), len(sizes)), np.int64)
    filled = np.zeros(len(sizes), np.int64)
    for k in rng.permutation(len(sizes)):
        # A Dirichlet distribution over some of the parts is the one over all, restricted to them and scaled to sum 1.
        below = np.flatnonzero(filled * len(sizes) < sum(sizes))
        counts[k, below] = _cut(sizes[k], len(below), delta, rng)
        filled += counts[k]
    return counts


def _smallest(counts: Indices) -> int:
    return int(counts.sum(0).min())


def _deal(groups: list[Indices], counts: Indices, rng: np.random.Generator) -> Indices:
    """Chunk after chunk, the classes inside each in an order of its own."""
    ends = counts.cumsum(1)
    return np.concatenate(
        [
            groups[k][ends[k, chunk] - counts[k, chunk] : ends[k, chunk]]
            for chunk in range(counts.shape[1])
            for k in rng.permutation(np.flatnonzero(counts[:, chunk]))
        ]
    )
