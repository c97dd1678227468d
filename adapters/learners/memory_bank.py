"""The memory bank of RoTTA: recent, confident images, balanced over the classes."""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

import torch
from torch import Tensor


class Bank(NamedTuple):
    """The images that a stream remembers: always ``capacity`` slots, filled or not, so that its size is constant."""

    images: Tensor  # [capacity, ...] as requests hold them
    labels: Tensor  # [capacity] int64 on the CPU like all below: the class that the answer to it named
    uncertainties: Tensor  # [capacity] float64, the entropy of that answer in nats
    ages: Tensor  # [capacity] int64, the number of images offered since, itself included
    filled: Tensor  # [capacity] bool


def empty_bank(capacity: int, image: Tensor) -> Bank:
    """Return an empty bank for images like ``image`` ``[1, ...]``."""
    types = (torch.int64, torch.float64, torch.int64, torch.bool)
    return Bank(image.new_zeros(capacity, *image.shape[1:]), *(torch.zeros(capacity, dtype=kind) for kind in types))


class EvictionRule(NamedTuple):
    """The score by which images are evicted.

    A bank of N slots for K classes has a quota of N/K images for each class, which need not be whole. An item of age A
    whose answer had entropy U is the more expendable the larger ``H(A, U) = t / (1 + exp(-A/N)) + u U / ln K``.
    """

    classes: int  # K
    lambda_t: float  # t, how much age counts
    lambda_u: float  # u, how much uncertainty counts

    def age_score(self, age: int, capacity: int) -> float:
        """Return the first term of H."""
        return self.lambda_t / (1 + math.exp(-age / capacity))

    def uncertainty_score(self, uncertainty: float) -> float:
        """Return the second term of H; with a single class nothing is uncertain."""
        return self.lambda_u * uncertainty / math.log(self.classes) if self.classes > 1 else 0.0


class Item(NamedTuple):
    """The label, uncertainty and age of an image in the bank."""

    label: int
    uncertainty: float
    uncertainty_score: float  # the second term of H
    birth: int  # the number of images offered before it, so that ageing writes nothing


class MemoryBankUpdate:
    """The update of a bank by one request: offer its images in order, then take the new bank.

    The bank given is never written to. Its images are copied once, and only if one of the request's was taken in.
    """

    def __init__(self, bank: Bank, rule: EvictionRule, images: Tensor) -> None:
        self._bank, self._rule, self._images = bank, rule, images
        columns = zip(*(field.tolist() for field in bank[1:]), strict=True)
        self._clock = 0
        self._items = [
            Item(label, uncertainty, rule.uncertainty_score(uncertainty), -age) if filled else None
            for label, uncertainty, age, filled in columns
        ]
        self._counts = Counter(item.label for item in self._items if item)
        self._unwritten: dict[int, int] = {}  # slot: which of the request's images goes there
        self._new_images: Tensor | None = None

    def offer(self, index: int, label: int, uncertainty: float) -> None:
        """Add the request's image of that index, in place of another if need be, or refuse it; then all age.

        Below its class's quota it takes a free slot, or else competes with the items of the most frequent classes;
        otherwise with those of its own class. It replaces the most expendable of these if that is more expendable than
        itself when new; of equals the one of the highest class, then the latest.

        Paper: Yuan, Xie and Li 2023, "Robust Test-Time Adaptation in Dynamic Scenarios", section 3.
        """
        item = Item(label, uncertainty, self._rule.uncertainty_score(uncertainty), self._clock)
        slot = self._slot(item)
        if slot is not None:
            old = self._items[slot]
            if old is not None:
                self._counts[old.label] -= 1
            self._counts[label] += 1
            self._items[slot] = item
            self._unwritten[slot] = index
        self._clock += 1

    def bank(self) -> Bank:
        """Return the current bank; a bank returned before may be written to by later offers."""
        if self._unwritten:
            if self._new_images is None:
                self._new_images = self._bank.images.clone()
            slots, indices = (torch.tensor(list(values)) for values in zip(*self._unwritten.items(), strict=True))
            additions = self._images[indices.to(self._images.device)]
            self._new_images[slots.to(self._new_images.device)] = additions.to(self._new_images.device)
            self._unwritten = {}
        images = self._bank.images if self._new_images is None else self._new_images
        rows = [
            (item.label, item.uncertainty, self._clock - item.birth, True) if item else (0, 0.0, 0, False)
            for item in self._items
        ]
        pairs = zip(zip(*rows, strict=True), self._bank[1:], strict=True)
        return Bank(images, *(torch.tensor(column, dtype=old.dtype, device=old.device) for column, old in pairs))

    def _slot(self, item: Item) -> int | None:
        capacity = len(self._items)
        if self._counts[item.label] < capacity / self._rule.classes:
            if None in self._items:
                return self._items.index(None)
            largest = max(self._counts.values())
            rivals = {label for label, count in self._counts.items() if count == largest}
        else:
            rivals = {item.label}
        age_score, clock = self._rule.age_score, self._clock
        # The first of a tuple that differs decides: the most expendable, of the highest class, the latest.
        score, _, _, slot = max(
            (age_score(clock - entry.birth, capacity) + entry.uncertainty_score, entry.label, entry.birth, slot)
            for slot, entry in enumerate(self._items)
            if entry is not None and entry.label in rivals
        )
        return slot if score > age_score(0, capacity) + item.uncertainty_score else None
