"""A strategy of several parts: one adapter, at most one learner, and correctors one after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from adapters.base import AnyAdapter, AnyCorrector, AnyLearner
from adapters.errors import CombinationError


@dataclass(frozen=True)
class Composite:
    """A strategy named with plus signs: ``unmix_tns+tent+lame`` normalizes, learns and corrects.

    >>> from adapters import Composite, Lame, UnMixTNS
    >>> [type(part).__name__ for part in Composite(UnMixTNS(), correctors=(Lame(),))]
    ['UnMixTNS', 'Lame']

    Raises:
        CombinationError: a corrector twice, or one behind a corrector whose answers no other can go on from.
    """

    adapter: AnyAdapter
    learner: AnyLearner | None = None
    correctors: tuple[AnyCorrector, ...] = ()

    def __post_init__(self) -> None:
        kinds = [type(corrector) for corrector in self.correctors]
        if len(set(kinds)) < len(kinds):
            raise CombinationError("each corrector can be used once in a strategy: leave out the second")
        for first, second in pairwise(self.correctors):
            if getattr(first, "last", False):
                first_name, second_name = type(first).__name__, type(second).__name__
                raise CombinationError(
                    f"{first_name} gives probabilities, and {second_name} needs the network's scores: "
                    f"name {second_name} before {first_name}"
                )

    @cached_property
    def answering(self) -> AnyAdapter:
        """The adapter that requests are answered with."""
        answering: AnyAdapter = self.adapter if self.learner is None else self.learner.answering(self.adapter)
        return answering

    @cached_property
    def reads_features(self) -> bool:
        """True if a corrector reads the input of the network's last layer."""
        return any(getattr(corrector, "features", False) for corrector in self.correctors)

    def __iter__(self) -> Iterator[Any]:
        """The parts in the order of their names."""
        yield self.adapter
        if self.learner is not None:
            yield self.learner
        yield from self.correctors


Strategy = AnyAdapter | Composite
"""An adapter by itself, or one with a learner and correctors."""


def as_composite(strategy: Strategy) -> Composite:
    """Return the strategy as a composite; an adapter by itself is its only part."""
    return strategy if isinstance(strategy, Composite) else Composite(strategy)


def learner_of(strategy: Strategy) -> AnyLearner | None:
    """Return the learner of the strategy, if it has one."""
    return strategy.learner if isinstance(strategy, Composite) else None


def from_parts(parts: list[Any]) -> Strategy:
    """Return the strategy of these parts: an adapter, then a learner if there is one, then correctors."""
    adapter, *extras = parts
    if not extras:
        single: AnyAdapter = adapter
        return single
    learner = extras.pop(0) if hasattr(extras[0], "learn") else None
    return Composite(adapter, learner, tuple(extras))
