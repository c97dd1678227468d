"""A strategy of several parts: one adapter, at most one learner, and correctors one after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

from adapters.base import Adapter, AnyAdapter, AnyCorrector, AnyLearner, Corrector, Learner
from adapters.errors import CombinationError

_PLACES: Mapping[type, str] = {
    Adapter: "it is an adapter: pass it first, as in Composite({!r})",
    Learner: "it is a learner: pass Composite(AdaBN(), learner={!r})",
    Corrector: "it is a corrector: pass Composite(Source(), correctors=({!r},))",
}


def explain_kind(part: object, kind: type, places: Mapping[type, str]) -> str:
    """Return why a part is not an instance of ``kind``, and how to mend it; ``places`` says where each kind belongs."""
    advice = f"it must subclass adapters.{kind.__name__}"
    if isinstance(part, type):
        advice = f"it is a class: pass an instance, {part.__name__}()"
    elif isinstance(part, str):
        advice = f"it is a name: pass adapters.strategy({part!r})"
    else:
        advice = next((text.format(part) for base, text in places.items() if isinstance(part, base)), advice)
    return f"{part!r} is not a valid {kind.__name__.lower()}: {advice}"


@dataclass(frozen=True)
class Composite:
    """A strategy named with plus signs: ``unmix_tns+tent+lame`` normalizes, learns and corrects.

    >>> [type(part).__name__ for part in Composite(UnMixTNS(), correctors=(Lame(),))]
    ['UnMixTNS', 'Lame']

    Raises:
        CombinationError: a part that is not of its kind, a corrector twice, or one behind a corrector whose answers no
            other can go on from.
    """

    adapter: AnyAdapter
    learner: AnyLearner | None = None
    correctors: tuple[AnyCorrector, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.correctors, tuple):
            raise CombinationError(f"correctors must be a tuple, such as (Lame(),), not {self.correctors!r}")
        for parts, base in (([self.adapter], Adapter), ([self.learner], Learner), (self.correctors, Corrector)):
            for part in parts:
                if not isinstance(part, base) and not (base is Learner and part is None):
                    raise CombinationError(explain_kind(part, base, _PLACES))
        kinds = [type(corrector) for corrector in self.correctors]
        if len(set(kinds)) < len(kinds):
            raise CombinationError("a strategy can have each corrector only once: remove the second")
        for first, second in pairwise(self.correctors):
            if first.last:
                first_name, second_name = type(first).__name__, type(second).__name__
                raise CombinationError(
                    f"{first_name} gives probabilities, and {second_name} needs the network's scores: "
                    f"name {second_name} before {first_name}"
                )

    def __hash__(self) -> int:
        """Return the hash of the parts."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        # Keys of states are hashed many times for each request.
        return hash((self.adapter, self.learner, self.correctors))

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild it when unpickled: hashes of strings differ between processes."""
        return Composite, (self.adapter, self.learner, self.correctors)

    @cached_property
    def answering(self) -> AnyAdapter:
        """The adapter that requests are answered with."""
        return self.adapter if self.learner is None else self.learner.answering(self.adapter)

    @cached_property
    def is_single(self) -> bool:
        """True if it is an adapter by itself."""
        return self.learner is None and not self.correctors

    @cached_property
    def reads_features(self) -> bool:
        """True if a corrector reads the input of the network's last layer."""
        return any(corrector.features for corrector in self.correctors)

    @cached_property
    def needs_features(self) -> bool:
        """True if a corrector cannot do without that input."""
        return any(corrector.features and not corrector.scores_suffice for corrector in self.correctors)

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
    return strategy if isinstance(strategy, Composite) else _from_adapter(strategy)


@lru_cache(1024)
def _from_adapter(adapter: AnyAdapter) -> Composite:
    """Return the composite of an adapter alone, cached: the library makes a key of each request."""
    return Composite(adapter)
