"""The affine parameters of a network's BatchNorm layers as one vector, and the offsets of streams."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from adapters.engine.moments import Affine
from adapters.sites import Sites


class AffineSlices(NamedTuple):
    """The slices of the vector that hold a layer's parameters."""

    weights: slice
    biases: slice


class AffineLayout:
    """All weights in the order of the layers, then all biases. Layers without an affine take none of it.

    A layer that is called several times in a forward has one pair of slices: its calls share their parameters.
    """

    def __init__(self, sites: Sites) -> None:
        names = {site.name for site in sites}
        layers = {name: layer for name, layer in sites.layers.items() if name in names}
        sizes = {name: layer.num_features for name, layer in layers.items() if layer.weight is not None}
        half = sum(sizes.values())
        self.slices: dict[str, AffineSlices] = {}
        start = 0
        for name, size in sizes.items():
            self.slices[name] = AffineSlices(slice(start, start + size), slice(half + start, half + start + size))
            start += size
        self.size = 2 * half


class AffineOffsets:
    """The offsets that the streams of a forward have added to the trained parameters.

    Args:
        slices: see `AffineLayout`.
        rows: ``[streams, size]``, the offsets of each; a row may be all zeros.
        streams: ``[images]``, the stream of each image; None where there is only one.
    """

    def __init__(self, slices: dict[str, AffineSlices], rows: Tensor, streams: Tensor | None = None) -> None:
        self._slices, self._rows, self._streams = slices, rows, streams

    def apply(self, layer: str, affine: Affine) -> Affine:
        """The affine of a call of that layer, with weight and bias ``[images, C]`` or ``[1, C]``."""
        slices = self._slices.get(layer)
        if slices is None:
            return affine
        rows = self._rows
        weight, bias = rows[:, slices.weights], rows[:, slices.biases]
        if self._streams is not None:
            weight, bias = weight.index_select(0, self._streams), bias.index_select(0, self._streams)
        trained = 1.0 if affine.weight is None else affine.weight.float()
        return Affine(trained + weight, bias if affine.bias is None else affine.bias.float() + bias, affine.eps)


def affine_offsets(
    slices: dict[str, AffineSlices], offsets: list[Tensor | None], images: list[int]
) -> AffineOffsets | None:
    """Return the offsets for the requests of a forward, of that many ``images`` each, or None where all are zero.

    ``offsets`` holds the vector of each request's stream, or None where it has learned nothing.
    """
    rows = [row for row in offsets if row is not None]
    if not rows:
        return None
    if len(offsets) == 1:
        return AffineOffsets(slices, rows[0][None])
    distinct = {id(row): row for row in rows}
    index = {key: slices for slices, key in enumerate(distinct, start=1)}
    streams = [0 if row is None else index[id(row)] for row in offsets]
    table = torch.stack([torch.zeros_like(rows[0]), *distinct.values()])
    counts = torch.tensor(images, device=table.device)
    return AffineOffsets(slices, table, torch.tensor(streams, device=table.device).repeat_interleave(counts))
