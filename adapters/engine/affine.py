"""The affine parameters of a network's BatchNorm layers as one vector, and what streams have added to them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from adapters.engine.moments import Affine
from adapters.sites import Sites


class Place(NamedTuple):
    """Where in the vector a layer's parameters are."""

    weights: slice
    biases: slice


class Affines:
    """All weights in the order of the layers, then all biases. Layers without an affine have no place.

    A layer that is called several times in a forward has one place: its calls share their parameters.
    """

    def __init__(self, sites: Sites) -> None:
        known = {site.name for site in sites}
        layers = {name: layer for name, layer in sites.layers.items() if name in known}
        sizes = {name: layer.num_features for name, layer in layers.items() if layer.weight is not None}
        half = sum(sizes.values())
        self.places: dict[str, Place] = {}
        start = 0
        for name, size in sizes.items():
            self.places[name] = Place(slice(start, start + size), slice(half + start, half + start + size))
            start += size
        self.size = 2 * half


class Learned:
    """What the streams of a forward have added to the trained parameters.

    Args:
        places: see `Affines`.
        rows: ``[streams, size]``, what each has added; one may be all zeros.
        which: ``[images]``, the stream of each image; None where there is one only.
    """

    def __init__(self, places: dict[str, Place], rows: Tensor, which: Tensor | None = None) -> None:
        self._places, self._rows, self._which = places, rows, which

    def added(self, layer: str, affine: Affine) -> Affine:
        """The affine of a call of that layer, with weight and bias ``[images, C]`` or ``[1, C]``."""
        place = self._places.get(layer)
        if place is None:
            return affine
        rows = self._rows
        weight, bias = rows[:, place.weights], rows[:, place.biases]
        if self._which is not None:
            weight, bias = weight.index_select(0, self._which), bias.index_select(0, self._which)
        trained = 1.0 if affine.weight is None else affine.weight.float()
        return Affine(trained + weight, bias if affine.bias is None else affine.bias.float() + bias, affine.eps)


def learned(places: dict[str, Place], added: list[Tensor | None], images: list[int]) -> Learned | None:
    """What the requests of a forward, of that many ``images`` each, add to the trained parameters; None: nothing.

    ``added`` is the vector of each request's stream, or None where there is none.
    """
    rows = [row for row in added if row is not None]
    if not rows:
        return None
    if len(added) == 1:
        return Learned(places, rows[0][None])
    distinct = {id(row): row for row in rows}
    index = {key: place for place, key in enumerate(distinct, start=1)}
    which = [0 if row is None else index[id(row)] for row in added]
    table = torch.stack([torch.zeros_like(rows[0]), *distinct.values()])
    counts = torch.tensor(images, device=table.device)
    return Learned(places, table, torch.tensor(which, device=table.device).repeat_interleave(counts))
