"""What a stream remembers, as one contiguous row of float32 for all sites."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adapters.base import AnyAdapter
from adapters.errors import StateError
from adapters.sites import Sites

State = tuple[Any, ...]


class Key(NamedTuple):
    """Whose state it is: each stream has one per strategy with its hyperparameters."""

    stream: Hashable
    adapter: AnyAdapter


class Memory(NamedTuple):
    """A stream's state after ``steps`` committed requests. A stream without one is a new stream."""

    row: Tensor  # [size] float32
    steps: int


def initial(adapter: AnyAdapter, sites: Sites) -> list[State]:
    """The state of a new stream, site by site."""
    return [adapter.init(site) for site in sites]


def pack(states: Sequence[State]) -> Tensor:
    """All fields of all sites as one new row."""
    fields = [field.reshape(-1) for state in states for field in state]
    return torch.cat(fields) if fields else torch.empty(0)


def unpack(row: Tensor, template: Sequence[State]) -> list[State]:
    """Views of ``row`` in the shapes of ``template``, the state of a new stream.

    A row packed before some sites were known ends early: those sites start as new.

    Raises:
        StateError: the row does not end where a site does.
    """
    states: list[State] = []
    offset = 0
    for fresh in template:
        if offset == len(row):
            states.append(fresh)
            continue
        sizes = [field.numel() for field in fresh]
        if offset + sum(sizes) > len(row):
            break
        parts = torch.split(row[offset : offset + sum(sizes)], sizes)
        states.append(type(fresh)(*(part.view(field.shape) for part, field in zip(parts, fresh, strict=True))))
        offset += sum(sizes)
    if offset != len(row):
        raise StateError(
            f"a state of {len(row)} numbers does not fit this strategy on this network, which takes "
            f"{length(template)}: restore it where it was exported"
        )
    return states


def length(template: Sequence[State]) -> int:
    """How many numbers a row holds."""
    return sum(field.numel() for state in template for field in state)
