"""The state of a stream, as one contiguous row of float32 for all sites."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from adapters.base import AnyAdapter, AnyCorrector, Site
from adapters.composite import Composite, Strategy, as_composite
from adapters.errors import StateError
from adapters.sites import Sites
from adapters.state.evidence import new_evidence_state

State = tuple[Any, ...]

NO_SUMS = torch.empty(0)


class _StreamStrategy(NamedTuple):
    stream: Hashable
    strategy: Composite


class StateKey(_StreamStrategy):
    """The key of a state: each stream has one per strategy with its hyperparameters.

    An adapter by itself and the composite of it alone make the same key.

    >>> Key("camera-7", AdaBN()) == Key("camera-7", as_composite(strategy("adabn")))
    True
    """

    __slots__ = ()

    def __new__(cls, stream: Hashable, strategy: Strategy) -> Self:
        """Take the strategy in its normal form."""
        return super().__new__(cls, stream, as_composite(strategy))

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Self:  # type: ignore[override]  # which `_replace` calls
        return cls(*iterable)

    @property
    def adapter(self) -> AnyAdapter:
        """The adapter that the stream's requests are answered with."""
        return self.strategy.answering


class Memory(NamedTuple):
    """A stream's state after ``steps`` committed requests. A stream without one is a new stream.

    >>> Memory(torch.zeros(6), steps=1).bytes
    24
    """

    row: Tensor  # [size] float32, the adapter's at all sites
    steps: int
    parts: tuple[State, ...] = ()
    """The states of learner and correctors, in the order of `Composite`; empty for those of a new stream."""
    drift_sums: Tensor = NO_SUMS
    """Drift of the last images at the first site, on the CPU: see `adapters.engine.drift`. Empty for a new stream."""
    images: int = 0
    """The images of those requests."""

    @property
    def bytes(self) -> int:
        """The bytes that the state takes."""
        return self.row.nbytes + self.drift_sums.nbytes + bytes_of(self.parts)


Memories = Mapping[StateKey, Memory]
"""The states of many streams."""


def bytes_of(parts: tuple[State, ...]) -> int:
    """Return the bytes that the states of learner and correctors take."""
    return sum(field.nbytes for part in parts for field in part)


class Layout:
    """The layout of a row, field by field and site by site, and the row of a new stream.

    Args:
        states: the state of a new stream, site by site.
        head: what the row begins with and no site has, such as evidence.
        sites: the sites of the states, where they are to be taken together.
    """

    def __init__(self, states: Sequence[State], head: State = (), sites: Sequence[Site] = ()) -> None:
        self.sites = tuple(sites)
        fields = [field.reshape(-1) for state in (head, *states) for field in state]
        self.row = torch.cat(fields) if fields else torch.empty(0)
        self._head, *self._parts = [_Part(type(state), [field.shape for field in state]) for state in (head, *states)]
        widths = (sum(shape.numel() for shape in part.shapes) for part in (self._head, *self._parts))
        self._ends = list(accumulate(widths))
        self.head_size = self._ends[0]

    def __len__(self) -> int:
        """Return the length of a row."""
        return len(self.row)

    def complete(self, row: Tensor) -> Tensor:
        """A row packed before some sites were known ends early: those sites start as new.

        Raises:
            StateError: the row does not end where a site does.
        """
        if len(row) not in self._ends:
            raise StateError(
                f"the state has {len(row)} numbers, but this strategy needs {len(self)} on this network: restore it "
                "with the strategy and network that it was exported with"
            )
        return row if len(row) == len(self) else torch.cat([row, self.row[len(row) :]])

    def split(self, rows: Tensor) -> list[State]:
        """The states in ``rows`` ``[..., size]``, site by site: views, each field with the leading axes of ``rows``."""
        return _split(rows[..., self.head_size :], self._parts)

    def split_head(self, rows: Tensor) -> Any:
        """The head of ``rows`` ``[..., at least its size]``, likewise."""
        return _split(rows[..., : self.head_size], [self._head])[0]


class _Part(NamedTuple):
    """The type of a state, and the shapes of its fields."""

    kind: type[State]
    shapes: list[torch.Size]


def _split(rows: Tensor, parts: Sequence[_Part]) -> list[State]:
    sizes = [shape.numel() for part in parts for shape in part.shapes]
    fields = iter(torch.split(rows, sizes, -1) if sizes else ())
    states: list[State] = []
    for kind, shapes in parts:
        pairs = [(next(fields), shape) for shape in shapes]
        states.append(kind(*(f if len(shape) == 1 else f.view((*f.shape[:-1], *shape)) for f, shape in pairs)))
    return states


def join(states: Sequence[State], leading: int = 0) -> Tensor:
    """All fields of all sites as new rows ``[..., size]``, of states whose fields have that many ``leading`` axes."""
    fields = [field.reshape((*field.shape[:leading], -1)) for state in states for field in state]
    return torch.cat(fields, -1) if fields else torch.empty(0)


def initial(adapter: AnyAdapter, sites: Sites) -> Layout:
    """The layout of an adapter's state on a network."""
    head = new_evidence_state(sites[0].mean.device) if adapter.reads_evidence else ()
    return Layout([adapter.init(site) for site in sites], head, list(sites))


Layouts = Callable[[AnyAdapter], Layout]
"""Gives the layout of an adapter's state."""


@lru_cache(64)
def initial_state(corrector: AnyCorrector, features: int, classes: int, device: torch.device) -> Any:
    """Return a corrector's state of a new stream, which is never written to."""
    state = corrector.init(features, classes)
    return type(state)(*(field.to(device) for field in state))


def drift_bytes(channels: int) -> int:
    """Return the bytes of a stream's sums of drift where the first site has that many channels."""
    return 4 * (2 * channels + 2)
